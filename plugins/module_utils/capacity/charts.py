# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What releases render to, without a cluster."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.workloads import PROXY
from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import concurrently
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm import process
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.manifest import documents
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.program import Helm, Source
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object

RENDER_SECONDS = 60.0
RENDERINGS_AT_ONCE = 4
ASSUMED_KUBERNETES = "1.34.0"
"""Charts are rendered for it while the cluster's own version is being read. What they ask for does not depend on it."""
KEPT = 400
"""Renderings that stay in the cache, the newest."""

_UNREAD = ("args", "command", "data", "env", "stringData")
"""What nobody here reads, and secrets may be in: it is not kept."""


def rendered(
    releases: list[dict[str, Any]], helm_binary: str, kubernetes_version: str, api_versions: list[str] | None = None
) -> list[list[Object] | PlatformError]:
    """The objects of each release, or why they cannot be rendered."""
    helm = helm_program(helm_binary)

    def once(release: dict[str, Any]) -> list[Object]:
        file = _file_of(helm, release, kubernetes_version, api_versions or [])
        if file is not None:
            with contextlib.suppress(OSError, ValueError):
                return list(json.loads(file.read_bytes()))
        objects = [_read_of(obj) for obj in render(helm, release, kubernetes_version, api_versions or [])]
        if file is not None:
            # A folder that cannot be written to costs time and nothing else.
            with contextlib.suppress(OSError):
                _keep(file, objects)
        return objects

    return concurrently(once, releases, RENDERINGS_AT_ONCE)


def helm_program(helm_binary: str) -> str:
    """Its path."""
    helm = shutil.which(os.path.expanduser(helm_binary))
    if helm is None:
        raise PlatformError(
            "the helm program is missing",
            found="no executable %s" % helm_binary,
            expected="Helm 3 or 4, which renders the charts",
            fix="install helm, or name its path in platform_helm_binary",
            reason="program",
        )
    return helm


def _file_of(helm: str, release: dict[str, Any], kubernetes_version: str, api_versions: list[str]) -> Path | None:
    """Where the rendering is kept: by the content of all that it is made of. Of a folder on this machine alone."""
    folder = Path(str(release["chart"])).expanduser()
    if release.get("repository") or not (folder / "Chart.yaml").is_file():
        return None
    told = os.stat(helm)
    digest = hashlib.sha256()
    given = [release[name] for name in ("name", "namespace")] + [release.get("values") or {}, _UNREAD, PROXY]
    digest.update(json.dumps([helm, told.st_size, told.st_mtime_ns, kubernetes_version, api_versions, given]).encode())
    # A chart's charts are links to folders, which rglob does not follow.
    for place, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        for name in sorted(names):
            path = Path(place, name)
            digest.update(f"\0{path.relative_to(folder)}\0".encode())
            digest.update(path.read_bytes())
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "lambda-microservice-platform" / "renderings" / f"{digest.hexdigest()}.json"


def _read_of(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: _annotations(part) if name == "annotations" else _read_of(part)
            for name, part in value.items()
            if name not in _UNREAD
        }
    return [_read_of(part) for part in value] if isinstance(value, list) else value


def _annotations(given: Any) -> dict[str, Any]:
    """Of all of them the proxy's alone are read."""
    return {name: value for name, value in (given or {}).items() if name.startswith(PROXY)}


def _keep(file: Path, objects: list[Object]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Whole or not at all, whoever else does the same.
    with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False, encoding="utf-8") as arriving:
        json.dump(objects, arriving)
    os.replace(arriving.name, file)
    others = sorted(file.parent.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in others[KEPT:]:
        old.unlink(missing_ok=True)


def _refused(lines: list[str]) -> list[str]:
    """The values that a schema does not take. What it would take instead stands below, further to the right."""
    found: list[str] = []
    below = math.inf
    for line in lines:
        said = line.lstrip()
        depth = len(line) - len(said)
        if not said.startswith("- at ") or depth > below:
            continue
        # That one of several rules is broken says less than the rule.
        below = math.inf if said.endswith(("Of' failed", ": validation failed")) else depth
        if below == depth:
            found.append(said.removeprefix("- "))
    return list(dict.fromkeys(found))


def render(helm: str, release: dict[str, Any], kubernetes_version: str, api_versions: list[str]) -> list[Object]:
    """All objects of a release, with all that is in them."""
    source = Source.of(release)
    with Helm(helm, None) as program:
        # Downloaded as the module chart does it, which puts no login among arguments.
        chart = program.local_chart(source).path if source.is_elsewhere else source.reference
        arguments = ["template", release["name"], chart, "--namespace", release["namespace"], "--values", "-"]
        arguments += ["--kube-version", kubernetes_version] if kubernetes_version else []
        for name in api_versions:
            arguments += ["--api-versions", name]
        code, output, errors = process.run(
            [helm, *arguments], dict(os.environ), json.dumps(release.get("values") or {}), RENDER_SECONDS
        )
    if code != 0:
        lines = (errors or "").strip().splitlines()
        raise PlatformError(
            "the chart of the release %s cannot be rendered" % release["name"],
            where=str(source),
            found="no answer within %g s" % RENDER_SECONDS
            if code is None
            else "; ".join(_refused(lines)) or (lines or ["it said nothing"])[-1],
            expected="a chart that this machine can read, and values that it takes",
            fix="correct the values, or name the chart as a folder or an archive on this machine",
            reason="render",
        )
    return [obj for document in documents(output) for obj in document.objects]

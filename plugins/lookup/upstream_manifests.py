# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: upstream_manifests
short_description: An operator's objects as upstream publishes them, pinned by checksum
version_added: 0.1.0
description:
  - Reads the objects of a release from a URL, a Go module, a chart, a file or a folder, checks them against a
    checksum, and keeps what came from elsewhere in the user's cache, so that a later run asks nobody.
  - Its CustomResourceDefinitions are megabytes, too many for variables and templates. They are left in a file of
    JSON, which the module M(lambda_microservice.platform.policy) takes as
    O(lambda_microservice.platform.policy#module:files).
author:
  - Lambda Microservice Platform team (@lambda-microservice-platform)
options:
  _terms:
    description:
      - The sources. V(https://HOST/FILE) is downloaded, V(go:MODULE@VERSION/FILE) is a file of a Go module,
        V(oci://REGISTRY/CHART:VERSION) and a folder with a C(Chart.yaml) are rendered by Helm without values, and
        another path is a file, or a folder whose YAML files are read by name.
    type: list
    elements: str
    required: true
  sha256:
    description: What the text must have, in hexadecimal digits. Empty checks nothing, which suits a source of your own.
    type: str
    default: ''
  namespace:
    description: For a chart, the namespace that it is rendered for.
    type: str
    default: default
  helm_binary:
    description: The helm program, for charts.
    type: str
    default: helm
"""

EXAMPLES = r"""
- name: What prometheus-operator brings
  ansible.builtin.debug:
    msg: "{{ lookup('lambda_microservice.platform.upstream_manifests', 'go:example.com/operator@v1.2.3/bundle.yaml') }}"
"""

RETURN = r"""
_list:
  description: For each source, where its definitions are, and its other objects.
  type: list
  elements: dict
  contains:
    text: {description: 'Path of a file: the source as it was read.', type: str}
    definitions: {description: 'Path of a file: a JSON list of CustomResourceDefinitions.', type: str}
    objects: {description: 'The other objects, in their order.', type: list, elements: dict}
"""

import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleError
from ansible.module_utils.urls import open_url
from ansible.plugins.lookup import LookupBase
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm import go_module

DOWNLOAD_SECONDS = 60


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML 1.2's ``=`` is a text, as in the enumerations of alertmanagerconfigs."""


_Loader.add_constructor("tag:yaml.org,2002:value", _Loader.construct_yaml_str)


def cache_folder() -> Path:
    """Where what was fetched stays, beside the other things that this project has built or fetched."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "lambda-microservice-platform" / "manifests"


def read(source: str, sha256: str = "", namespace: str = "default", helm_binary: str = "helm") -> dict[str, Any]:
    """The objects of one source, as RETURN says."""
    text = _text(source, namespace, helm_binary)
    found = hashlib.sha256(text).hexdigest()
    if sha256 and found != sha256:
        raise _problem(
            source,
            "is not what was pinned",
            f"SHA-256 {found}",
            f"{sha256}",
            "find out who changed it; where another version is meant, change the checksum with it",
        )
    folder = cache_folder()
    kept = folder / f"{found}.text.yaml"
    definitions, objects = folder / f"{found}.definitions.json", folder / f"{found}.objects.json"
    if not (definitions.exists() and objects.exists() and kept.exists()):
        parts: tuple[list[Any], list[Any]] = ([], [])
        for document in _documents(source, text):
            parts[document["kind"] != "CustomResourceDefinition"].append(document)
        _keep(definitions, json.dumps(parts[0]).encode())
        _keep(objects, json.dumps(parts[1]).encode())
        _keep(kept, text)
    return {"text": str(kept), "definitions": str(definitions), "objects": json.loads(objects.read_bytes())}


def _documents(source: str, text: bytes) -> list[dict[str, Any]]:
    try:
        documents = [document for document in yaml.load_all(text, Loader=_Loader) if document is not None]
    except yaml.YAMLError as error:
        raise _problem(source, "cannot be read", str(error), "a stream of YAML documents", "correct it") from error
    for document in documents:
        if not isinstance(document, dict) or "kind" not in document:
            raise _problem(source, "has something else in it", repr(document)[:200], "Kubernetes objects", "correct it")
    return documents


def _text(source: str, namespace: str, helm_binary: str) -> bytes:
    """The text of a source: from the cache, if it has been fetched before."""
    if source.startswith("https://"):
        return _cached(source, lambda: _downloaded(source))
    if source.startswith("go:"):
        return _cached(source, lambda: _of_go_module(source))
    if source.startswith("oci://"):
        chart, _colon, version = source.rpartition(":")
        argv = ["template", "release", chart, "--version", version]
        argv += ["--include-crds", "--namespace", namespace]
        return _cached(f"{source} {namespace}", lambda: _output(source, [helm_binary, *argv]))
    path = Path(source).expanduser()
    if (path / "Chart.yaml").exists():
        argv = ["template", "release", str(path), "--include-crds", "--namespace", namespace]
        return _output(source, [helm_binary, *argv])
    files = sorted([*path.glob("*.yaml"), *path.glob("*.yml")]) if path.is_dir() else [path]
    try:
        if files:
            return b"\n---\n".join(file.read_bytes() for file in files)
        cause: object = "a folder without *.yaml"
    except OSError as error:
        cause = error
    raise _problem(
        source,
        "cannot be read",
        str(cause),
        "https://HOST/FILE, go:MODULE@VERSION/FILE, oci://REGISTRY/CHART:VERSION, a file or a folder",
        "correct it",
    )


def _cached(name: str, fetch: Callable[[], bytes]) -> bytes:
    path = cache_folder() / f"{hashlib.sha256(name.encode()).hexdigest()}.yaml"
    if not path.exists():
        _keep(path, fetch())
    return path.read_bytes()


def _keep(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all, whoever else does the same.
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as arriving:
        arriving.write(content)
    os.replace(arriving.name, path)


def _downloaded(source: str) -> bytes:
    try:
        return bytes(open_url(source, timeout=DOWNLOAD_SECONDS).read())
    except OSError as error:
        raise _problem(
            source,
            "cannot be downloaded",
            str(error),
            "an answer with the file",
            "download it elsewhere and name the file instead of its URL",
        ) from error


def _of_go_module(source: str) -> bytes:
    try:
        return Path(go_module.path_of(source)).read_bytes()
    except PlatformError as error:
        raise _problem(source, error.what, error.found, error.expected, error.fix) from error


def _output(source: str, argv: list[str]) -> bytes:
    try:
        ran = subprocess.run(argv, capture_output=True, check=False)
    except OSError as error:
        raise _problem(source, f"needs {argv[0]}", str(error), "that program", f"install {argv[0]}") from error
    if ran.returncode != 0:
        said = (ran.stderr or ran.stdout).decode(errors="replace").strip()[-600:]
        raise _problem(source, "cannot be had", said, f"that {' '.join(argv[:3])} works", "correct the source")
    return ran.stdout


def _problem(source: str, what: str, found: str, expected: str, fix: str) -> AnsibleError:
    return AnsibleError(f"upstream_manifests: {source} {what}. Found: {found}. Expected: {expected}. To do: {fix}.")


class LookupModule(LookupBase):
    """What Ansible calls."""

    def run(self, terms: list[str], variables: Any = None, **kwargs: Any) -> list[dict[str, Any]]:
        """As RETURN says."""
        self.set_options(var_options=variables, direct=kwargs)
        options = {name: str(self.get_option(name)) for name in ("sha256", "namespace", "helm_binary")}
        return [read(str(term), **options) for term in terms]

# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What releases render to, without a cluster."""

from __future__ import annotations

import json
import os
import shutil
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import concurrently
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm import process
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.manifest import documents
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object

RENDER_SECONDS = 60.0
RENDERINGS_AT_ONCE = 4


def rendered(
    releases: list[dict[str, Any]], helm_binary: str, kubernetes_version: str, api_versions: list[str] | None = None
) -> list[list[Object] | PlatformError]:
    """The objects of each release, or why they cannot be rendered."""
    helm = shutil.which(os.path.expanduser(helm_binary))
    if helm is None:
        raise PlatformError(
            "the helm program is missing",
            found="no executable %s" % helm_binary,
            expected="Helm 3 or 4, which renders the charts",
            fix="install helm, or name its path in platform_helm_binary",
            reason="program",
        )

    def render(release: dict[str, Any]) -> list[Object]:
        return _render(helm, release, kubernetes_version, api_versions or [])

    return concurrently(render, releases, RENDERINGS_AT_ONCE)


def _render(helm: str, release: dict[str, Any], kubernetes_version: str, api_versions: list[str]) -> list[Object]:
    chart, repository = str(release["chart"]), str(release.get("repository") or "")
    arguments = ["template", release["name"], chart, "--namespace", release["namespace"], "--values", "-"]
    arguments += ["--kube-version", kubernetes_version] if kubernetes_version else []
    for name in api_versions:
        arguments += ["--api-versions", name]
    if repository:
        arguments += ["--repo", repository]
    if release.get("version") and (repository or chart.startswith("oci://")):
        arguments += ["--version", str(release["version"])]
    code, output, errors = process.run(
        [helm, *arguments], dict(os.environ), json.dumps(release.get("values") or {}), RENDER_SECONDS
    )
    if code != 0:
        # Its text may quote values; what is wrong is in its last line.
        lines = (errors or "").strip().splitlines()
        raise PlatformError(
            "the chart of the release %s cannot be rendered" % release["name"],
            where=chart + (" of %s" % repository if repository else ""),
            found="no answer within %g s" % RENDER_SECONDS if code is None else (lines or ["it said nothing"])[-1],
            expected="a chart that this machine can read, and values that it takes",
            fix="correct the values, or name the chart as a folder or an archive on this machine",
            reason="render",
        )
    return [obj for document in documents(output) for obj in document.objects]

# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus' API (https://prometheus.io/docs/prometheus/latest/querying/api/), asked through the API server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.forward import get_from_pod

POD = "prometheus-platform-0"
"""As the operator names the one that the role monitoring asks it for."""


class Prometheus:
    """One server, by its pod."""

    def __init__(self, cluster: Cluster, namespace: str, pod: str = POD, port: int = 9090) -> None:
        self.cluster, self.namespace, self.pod, self.port = cluster, namespace, pod, port

    def ask(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        """What ``data`` of the answer to GET /api/v1/PATH has; a PlatformError where there is none, with the reason
        ``answer`` where Prometheus refuses the question (any status but 200).
        """
        try:
            body = get_from_pod(self.cluster, self.namespace, self.pod, self.port, f"/api/v1/{path}", query)
        except PlatformError as failure:
            raise self._silent(failure.found or failure.what, failure.reason) from failure
        try:
            return json.loads(body)["data"]
        except (ValueError, LookupError, TypeError) as failure:
            raise self._silent(body[:300].decode("utf-8", "replace").strip() or "nothing", "answer") from failure

    def _silent(self, found: str, reason: str) -> PlatformError:
        return PlatformError(
            "Prometheus does not answer",
            where=f"Pod {self.namespace}/{self.pod}, port {self.port}",
            found=found,
            expected="Prometheus' API, and the right to reach the pod (get and create on pods/portforward)",
            fix="see that monitoring_enabled is true, and what the pod says "
            f"(kubectl -n {self.namespace} logs {self.pod} -c prometheus)",
            reason=reason,
        )

# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""VictoriaLogs as a store. Queries: https://docs.victoriametrics.com/victorialogs/logsql/. Answers are JSON lines."""

from __future__ import annotations

import json
import re
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import (
    all_or_error,
    concurrently,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.forward import get_from_pod
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.workloads import is_ready
from ansible_collections.lambda_microservice.platform.plugins.module_utils.logs.line import LIMIT, Line

APP = "victorialogs"
PORT = 9428
AGENT = "vlagent"
AGENT_PORT = 9429
# Lines that an agent could not read, blocks that the store refused, and blocks for which its buffer had no room.
_DROPPED = re.compile(
    rb"^(?:vl_rows_dropped_total|vl_too_long_lines_skipped_total|vlagent_remotewrite_packets_dropped_total"
    rb"|vm_persistentqueue_blocks_dropped_total)(?:\{[^}]*\})? (\d+)",
    re.MULTILINE,
)


class VictoriaLogs:
    """See Store."""

    def of_request(self, cluster: Cluster, namespace: str, request_id: str, trace_id: str) -> list[Line]:
        wanted = f'request_id:="{request_id}" or trace_id:="{trace_id}"'
        return [line_of(row) for row in query(cluster, namespace, wanted, limit=LIMIT)]

    def counts(self, cluster: Cluster, namespace: str, minutes: int) -> dict[str, int]:
        wanted = f"_time:{minutes}m | stats by (kubernetes.pod_namespace) count() lines"
        rows = query(cluster, namespace, wanted)
        return {row.get("kubernetes.pod_namespace", ""): int(row["lines"]) for row in rows}

    def dropped(self, cluster: Cluster, agents_namespace: str) -> dict[str, int]:
        pods = cluster.list("v1", "Pod", agents_namespace, f"app.kubernetes.io/name={AGENT}")
        names = [str(pod["metadata"]["name"]) for pod in pods if is_ready(pod)]
        metrics = concurrently(
            lambda name: get_from_pod(cluster, agents_namespace, name, AGENT_PORT, "/metrics"), names
        )
        told = all_or_error("agents do not answer", metrics)
        return {name: sum(map(int, _DROPPED.findall(text))) for name, text in zip(names, told, strict=True)}


def query(cluster: Cluster, namespace: str, wanted: str, limit: int | None = None) -> list[dict[str, Any]]:
    """The rows that a query of LogsQL gives."""
    limited = {"limit": limit} if limit else {}
    body = get_from_pod(
        cluster, namespace, _pod(cluster, namespace), PORT, "/select/logsql/query", {"query": wanted, **limited}
    )
    return [json.loads(row) for row in body.splitlines() if row.strip()]


def _pod(cluster: Cluster, namespace: str) -> str:
    pods = cluster.list("v1", "Pod", namespace, f"app.kubernetes.io/name={APP}")
    for pod in pods:
        if is_ready(pod):
            return str(pod["metadata"]["name"])
    raise PlatformError(
        "the logs' store is not ready",
        where=f"namespace {namespace}, app {APP}",
        found=f"{len(pods)} pods, none of them ready" if pods else "no pod",
        expected="a pod that is ready",
        fix="site.yml --tags logging says why it does not come; the agents keep what it has not taken",
        reason="unreachable",
    )


def line_of(row: dict[str, Any]) -> Line:
    """A row of an answer: what the agent adds begins with kubernetes., what VictoriaLogs adds with an underscore."""
    own = {name: str(value) for name, value in row.items() if not name.startswith(("_", "kubernetes."))}
    return Line(
        time=row["_time"],
        namespace=row.get("kubernetes.pod_namespace", ""),
        pod=row.get("kubernetes.pod_name", ""),
        container=row.get("kubernetes.container_name", ""),
        message=str(row.get("_msg", "")),
        fields=own,
    )

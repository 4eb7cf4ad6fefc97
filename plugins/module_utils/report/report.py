# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The logic of the module ``report``: the running platform on one page.

What cannot be read (a server that is down, a right that is missing) is told on the page, and the rest is there.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.capacity import kept
from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.table import aligned
from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import side_by_side
from ansible_collections.lambda_microservice.platform.plugins.module_utils.dashboards.dashboards import write
from ansible_collections.lambda_microservice.platform.plugins.module_utils.drift import drift
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm import release as helm_release
from ansible_collections.lambda_microservice.platform.plugins.module_utils.installed import components as installed
from ansible_collections.lambda_microservice.platform.plugins.module_utils.installed.components import Component
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import (
    Cluster,
    auth_argument_spec,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.workloads import is_ready
from ansible_collections.lambda_microservice.platform.plugins.module_utils.preflight.room import live_nodes
from ansible_collections.lambda_microservice.platform.plugins.module_utils.prometheus.prometheus import Prometheus
from ansible_collections.lambda_microservice.platform.plugins.module_utils.report import page, state
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.monitoring import WATCHDOG

RESULT_HOLDS_NONE_OF = installed.RESULT_HOLDS_NONE_OF
secrets_of = installed.secrets_of

ARGUMENT_SPEC: dict[str, Any] = {
    **auth_argument_spec(),
    "components": installed.COMPONENTS,
    "edge_url": {"type": "str", "default": ""},
    "drills": {"type": "path"},
    "prometheus_namespace": {"type": "str", "default": ""},
    "styles": {"type": "list", "elements": "path", "required": True},
    "helm_binary": {"type": "str", "default": "helm"},
    "output": {"type": "path"},
    "json_output": {"type": "path"},
}

REHEARSED = "lambda-microservice.platform/restore-rehearsed"
"""The annotation of a namespace in which a restore was tried (playbooks/tasks/restore-rehearsed.yml)."""

_LISTS = {
    "Node": ("v1", True),
    "Pod": ("v1", True),
    "Secret": ("v1", False),
    "Service": ("v1", False),
    "Namespace": ("v1", True),
    "Ingress": ("networking.k8s.io/v1", False),
    "Deployment": ("apps/v1", False),
    "StatefulSet": ("apps/v1", False),
    "DaemonSet": ("apps/v1", False),
    "CronJob": ("batch/v1", False),
    "VolumeSnapshot": ("snapshot.storage.k8s.io/v1", False),
    "VerticalPodAutoscaler": ("autoscaling.k8s.io/v1", False),
    "PodMetrics": ("metrics.k8s.io/v1beta1", False),
}
"""Kind to its API version, and whether objects of other namespaces are wanted too."""


def run(
    params: dict[str, Any],
    check_mode: bool,
    diff: bool,
    progress: Callable[[str], None],
    connect: Callable[[dict[str, Any]], Cluster] = Cluster,
) -> dict[str, Any]:
    """Gather everything and write the page."""
    components = installed.read(params["components"])
    cluster = connect(params)
    report = gathered(cluster, components, params, datetime.now(UTC))
    styles = "\n".join(Path(path).read_text(encoding="utf-8") for path in params["styles"])
    written = []
    if params["output"] and not check_mode:
        write(params["output"], page.drawn(report, styles))
        written.append(params["output"])
    if params["json_output"]:
        kept(params["json_output"], json.dumps(report, indent=2) + "\n", check_mode)
        written += [] if check_mode else [params["json_output"]]
    for note in report["notes"]:
        progress(f"report: {note}")
    if rows := [list(row.values()) for row in report["recommendations"] or []]:
        for line in aligned(list(page.RECOMMENDATIONS), rows, left=len(page.RECOMMENDATIONS)):
            progress(line)
    # A page of a running platform is another one each time: that is no change of anything.
    return {"changed": False, "report": report, "written": written}


def gathered(cluster: Cluster, components: list[Component], params: dict[str, Any], now: datetime) -> dict[str, Any]:
    """All parts, as the page and the JSON have them."""
    notes: list[str] = []
    namespaces = installed.namespaces(components)
    with side_by_side(4) as begin:
        reading = begin(partial(_read, cluster, namespaces, notes))
        drifting = begin(partial(_told, drift.look, cluster, params["helm_binary"], components, components))
        releases = begin(partial(_releases, cluster, components, notes))
        asking = begin(partial(_alerts, cluster, params["prometheus_namespace"]))
        lists = reading.result()
    differs, alerts = drifting.result(), asking.result()
    pods = [pod for pod in lists["Pod"] if pod["metadata"]["namespace"] in namespaces]
    running = [obj for kind in ("Deployment", "StatefulSet", "DaemonSet") for obj in lists[kind]]
    workloads, zones = state.workloads(running, pods, lists["Node"])
    rehearsed = max(
        ((one["metadata"].get("annotations") or {}).get(REHEARSED, "") for one in lists["Namespace"]), default=""
    )
    ready = [node for node in lists["Node"] if is_ready(node)]
    return {
        "cluster": cluster.described(),
        "made_at": now.strftime("%Y-%m-%d %H:%M:%S UTC"),
        "kubernetes": str(cluster.version().get("gitVersion") or "unknown"),
        "nodes_ready": {"ready": len(ready), "all": len(lists["Node"])},
        "releases": releases.result(),
        "images": state.images(pods),
        "workloads": workloads,
        "zones": zones,
        "endpoints": state.endpoints(lists["Service"], lists["Ingress"], params["edge_url"]),
        "certificates": state.certificates(lists["Secret"], now),
        "backups": state.backups(lists["CronJob"], lists["VolumeSnapshot"], now),
        "drills": state.drills(params["drills"] or "", rehearsed),
        "alerts": None if isinstance(alerts, PlatformError) else alerts,
        "alerts_unknown": _why(alerts),
        "drift": None if isinstance(differs, PlatformError) else [one.as_dict() for one in differs],
        "drift_unknown": _why(differs),
        "nodes": state.nodes(live_nodes(lists["Node"], [], set()), live_nodes(lists["Node"], lists["Pod"], set())),
        "recommendations": state.recommendations(lists["VerticalPodAutoscaler"], running, pods, lists["PodMetrics"])
        if cluster.knows("autoscaling.k8s.io/v1", "VerticalPodAutoscaler")
        else None,
        "notes": sorted(set(notes)),
    }


def _read(cluster: Cluster, namespaces: set[str], notes: list[str]) -> dict[str, list[Object]]:
    def read(kind: str) -> list[Object]:
        api_version, everywhere = _LISTS[kind]
        try:
            if not cluster.knows(api_version, kind):
                return []
            if everywhere:
                return cluster.list(api_version, kind)
            return [obj for name in sorted(namespaces) for obj in cluster.list(api_version, kind, name)]
        except PlatformError as failure:
            notes.append(f"{kind}: {failure.what}: {failure.found}")
            return []

    with side_by_side() as begin:
        futures = {kind: begin(read, kind) for kind in _LISTS}
    return {kind: future.result() for kind, future in futures.items()}


def _releases(cluster: Cluster, components: list[Component], notes: list[str]) -> list[dict[str, str]]:
    """The releases that are there, as Helm has recorded them."""
    found = []
    for one in components:
        for spec in one["releases"]:
            try:
                history = helm_release.histories(cluster, spec["namespace"], [spec["name"]])[spec["name"]]
                record = helm_release.read(cluster, history[0]) if history else None
            except PlatformError as failure:
                notes.append(f"release {spec['name']}: {failure.what}: {failure.found}")
                continue
            if record is None:
                continue
            info = record.record.get("info") or {}
            found.append(
                {
                    "release": f"{spec['namespace']}/{spec['name']}",
                    "chart": f"{record.chart_name}-{record.chart_version}",
                    "version": record.app_version or "-",
                    "revision": f"{record.revision.number} ({record.status})",
                    "deployed": str(info.get("last_deployed") or "")[:16].replace("T", " "),
                    "component": one["name"],
                }
            )
    return found


def _alerts(cluster: Cluster, namespace: str) -> list[dict[str, str]] | PlatformError:
    if not namespace:
        return PlatformError("monitoring is off", reason="monitoring")
    told = _told(Prometheus(cluster, namespace).ask, "alerts")
    return told if isinstance(told, PlatformError) else state.alerts(told["alerts"], WATCHDOG)


def _told(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a call gives, or why it gives nothing."""
    try:
        return function(*arguments)
    except PlatformError as failure:
        return failure


def _why(found: Any) -> str:
    """What a page has room for of an error; a refused handshake brings all its headers."""
    if not isinstance(found, PlatformError):
        return ""
    return ": ".join(part for part in (found.what, found.found.partition(" -+-+- ")[0]) if part)

# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The logic of the module ``preflight``: everything that would stop the platform, told before anything is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.capacity import (
    COMPONENTS,
    priorities_of,
    read_yaml,
    wrong_pools,
    wrong_workloads,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.charts import (
    ASSUMED_KUBERNETES,
    rendered,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.workloads import (
    Workload,
    defaults_of,
    workloads_of,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import side_by_side
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import (
    Cluster,
    auth_argument_spec,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
from ansible_collections.lambda_microservice.platform.plugins.module_utils.preflight import cluster as of_cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.preflight import inventory, mesh, room
from ansible_collections.lambda_microservice.platform.plugins.module_utils.preflight.finding import (
    FAIL,
    IGNORED,
    PASS,
    WARN,
    Finding,
    of_error,
    table,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.preflight.rights import rights, wanted
from ansible_collections.lambda_microservice.platform.plugins.module_utils.preflight.state import State, read

CHECKS = (
    "variables", "pools", "charts", "workloads", "licences", "authentication", "backups", "images", "budgets", "ports",
    "api", "connection", "cluster", "versions", "nodes", "growth", "zones", "drain", "storage", "data", "snapshots",
    "load_balancer", "metrics", "admission", "network", "landlock", "cgroup", "dns", "clock", "certificate", "secrets",
    "rights", "foreign", "mesh",
)  # fmt: skip
"""All that a finding may be called, in the table's order."""

NEVER_IGNORED = ("variables", "pools", "api", "data")
"""Without these nothing can be installed, whatever anybody accepts."""

ARGUMENT_SPEC: dict[str, Any] = {
    **auth_argument_spec(),
    "components": COMPONENTS,
    # Among an inventory's values are secrets.
    "variables": {"type": "dict", "default": {}, "no_log": True},
    "versions": {"type": "list", "elements": "dict", "default": []},
    "node_types": {"type": "path", "required": True},
    "ignore": {"type": "list", "elements": "str", "default": []},
    "show": {"type": "str", "choices": ["all", "problems"], "default": "all"},
}
RESULT_HOLDS_NONE_OF = ("variables",)
"""The table speaks of names and numbers, never of keys and tokens."""


def run(
    params: dict[str, Any],
    check_mode: bool,
    diff: bool,
    progress: Callable[[str], None],
    connect: Callable[[dict[str, Any]], Cluster] = Cluster,
) -> dict[str, Any]:
    """All findings. One that fails and is not ignored fails the task, unless it only looks (check mode)."""
    ignored = set(params["ignore"])
    strange = sorted(ignored - set(CHECKS))
    if strange:
        raise PlatformError(
            "preflight_ignore names what is no check",
            found=", ".join(strange),
            expected=", ".join(CHECKS),
            fix="correct preflight_ignore",
            reason="argument",
        )
    findings = sorted(
        (_ignored(finding, ignored) for finding in _all(params, connect)), key=lambda one: CHECKS.index(one.check)
    )
    lines = table(findings)
    shown = lines
    if params["show"] == "problems":
        wrong = [one for one in findings if one.result != PASS]
        shown = [f"preflight: {len(findings) - len(wrong)} of {len(findings)} findings are as they should be"]
        shown += table(wrong) if wrong else []
    failed = [one for one in findings if one.result == FAIL]
    for line in shown:
        progress(line)
    result: dict[str, Any] = {
        "changed": False,
        "findings": [one.as_dict() for one in findings],
        "table": lines,
        "failed_checks": list(dict.fromkeys(one.check for one in failed)),
        "warnings": [f"preflight: {one.check}: {one.found}" for one in findings if one.result == WARN],
    }
    if failed and check_mode:
        result["warnings"] += [f"preflight would stop: {one.check}: {one.found}" for one in failed]
    elif failed:
        errors = [
            PlatformError(f"{one.check}: {one.found}", expected=one.needed, fix=one.to_do, reason="unhealthy")
            for one in failed
        ]
        error = PlatformError.of_many(f"{len(failed)} findings, and nothing was changed", errors)
        return {"failed": True, **result, **error.result()}
    return result


def _ignored(finding: Finding, ignored: set[str]) -> Finding:
    if finding.check in ignored and finding.check not in NEVER_IGNORED and finding.result in (WARN, FAIL):
        return Finding(finding.check, IGNORED, finding.found, finding.needed, finding.to_do)
    return finding


def _all(params: dict[str, Any], connect: Callable[[dict[str, Any]], Cluster]) -> list[Finding]:
    """The cluster is read while charts are rendered."""
    with side_by_side(2) as begin:
        reading = begin(partial(_connected, params, connect))
        planned = begin(partial(_plan, params))
    plan = planned.result()
    found = _of_inventory(params, plan)
    access = reading.result()
    if isinstance(access, PlatformError):
        found.append(of_error("api", access))
        return found
    return found + _of_cluster(params, plan, *access)


def _connected(
    params: dict[str, Any], connect: Callable[[dict[str, Any]], Cluster]
) -> tuple[Cluster, State] | PlatformError:
    try:
        cluster = connect(params)
        return cluster, read(cluster)
    except PlatformError as failure:
        return failure


class _Plan:
    """What site.yml would make."""

    def __init__(self) -> None:
        self.workloads: list[Workload] = []
        self.rendered: list[tuple[str, Object]] = []
        self.notes: list[str] = []
        self.wrong: list[PlatformError] = []
        """Charts that are here and do not take their values."""
        self.objects: list[Object] = []

    def count(self, component: str, objects: list[Object], namespace: str, defaults: dict[str, Any]) -> None:
        """Add the workloads among these objects."""
        try:
            self.workloads += workloads_of(component, objects, namespace, defaults)
        except PlatformError as failure:
            self.notes.append(f"{component}: {failure}")


def _plan(params: dict[str, Any]) -> _Plan:
    """Each release rendered once, for its workloads and its kinds."""
    plan, components = _Plan(), params["components"]
    plan.objects = [obj for one in components for obj in one["objects"]]
    releases = [release for one in components for release in one["releases"]]
    defaults = defaults_of(plan.objects)
    helm = str(params["variables"].get("platform_helm_binary") or "helm")
    try:
        results = iter(rendered(releases, helm, ASSUMED_KUBERNETES) if releases else [])
    except PlatformError as failure:
        plan.notes.append(str(failure))
        results = iter([failure] * len(releases))
    for one in components:
        name = one["name"]
        for each in one["unknown"]:
            plan.notes.append(f"{name}: what the task «{each['task']}» makes is not known: {each['why']}")
        plan.count(name, one["objects"], "", defaults)
        for release in one["releases"]:
            objects = next(results)
            if isinstance(objects, PlatformError):
                if objects.reason == "render" and not release.get("repository") and Path(release["chart"]).is_dir():
                    plan.wrong.append(objects)
                elif str(objects) not in plan.notes:
                    plan.notes.append(f"{name}: {objects}")
                continue
            plan.count(name, objects, release["namespace"], defaults)
            plan.rendered += [(release["namespace"], obj) for obj in objects]
    plan.objects += [obj for _namespace, obj in plan.rendered]
    return plan


def _of_inventory(params: dict[str, Any], plan: _Plan) -> list[Finding]:
    values = params["variables"]
    checks: list[tuple[str, Callable[[], Iterable[Finding]]]] = [
        ("variables", partial(inventory.variables, values.get("problems") or [])),
        ("pools", partial(_pools, params)),
        ("charts", partial(inventory.unknown, plan.notes)),
        ("charts", lambda: [of_error("charts", failure) for failure in plan.wrong]),
        ("licences", partial(inventory.licences, values)),
        ("authentication", partial(inventory.authentication, values)),
        ("backups", partial(inventory.backups, values)),
        ("zones", lambda: inventory.zones(values, pools_of(params))),
    ]
    if plan.workloads:
        # Where nothing could be rendered, nothing is known of it: the cause is told above.
        checks += [
            ("images", partial(inventory.images, plan.objects, values)),
            ("workloads", partial(_workloads, params, plan)),
            ("budgets", partial(inventory.budgets, plan.objects, plan.workloads)),
            ("ports", partial(inventory.ports, plan.objects)),
        ]
    return [finding for name, check in checks for finding in _made(name, check)]


def _pools(params: dict[str, Any]) -> Iterator[Finding]:
    pools = pools_of(params)
    problems = wrong_pools(pools, _types(params))
    if problems:
        yield from (of_error("pools", problem) for problem in problems)
    elif pools:
        yield Finding("pools", PASS, f"{len(pools)} pools of nodes: {', '.join(pool['name'] for pool in pools)}")


def _workloads(params: dict[str, Any], plan: _Plan) -> Iterator[Finding]:
    pools, types = pools_of(params), _types(params)
    usable = [] if wrong_pools(pools, types) else pools
    problems = wrong_workloads(plan.workloads, usable, types)
    yield from (of_error("workloads", problem) for problem in problems)
    if not problems:
        yield Finding("workloads", PASS, f"{len(plan.workloads)} workloads, each of which a node could hold")


def pools_of(params: dict[str, Any]) -> list[dict[str, Any]]:
    """The inventory's pools, with what an entry leaves out."""
    given = params["variables"].get("platform_node_pools") or []
    return [{"labels": {}, "taints": [], **pool} for pool in given]


def _types(params: dict[str, Any]) -> dict[str, Any]:
    return {**read_yaml(params["node_types"]), **(params["variables"].get("platform_node_types") or {})}


def _of_cluster(params: dict[str, Any], plan: _Plan, cluster: Cluster, state: State) -> list[Finding]:
    values, components = params["variables"], params["components"]
    ours = {
        str(value)
        for name, value in values.items()
        if name.endswith("_namespace") and name != "foundation_record_namespace"
    }
    if not values.get("mesh_enabled"):
        # Somebody else's mesh may be there.
        ours.discard(str(values.get("mesh_namespace")))
    ours |= {str(one["name"]) for one in values.get("foundation_namespaces") or []}
    ours -= {"kube-system", "default", ""}
    planned = {(one.namespace, one.name) for one in plan.workloads}
    pools, types = pools_of(params), _types(params)
    usable = [] if wrong_pools(pools, types) else pools

    def live() -> list[Any]:
        return room.live_nodes(state["nodes"], state["pods"], ours)

    def has_room() -> Iterable[Finding]:
        return room.nodes(plan.workloads, live(), usable, types, priorities_of(components), there=len(state["nodes"]))

    checks: list[tuple[str, Callable[[], Iterable[Finding]]]] = [
        ("connection", partial(of_cluster.connection, cluster, values)),
        ("cluster", lambda: room.same_cluster(live(), usable, cluster.described())),
        ("versions", partial(of_cluster.versions, state.version, params["versions"])),
        ("zones", partial(of_cluster.zones, state, values.get("platform_zones") or [])),
        ("load_balancer", partial(of_cluster.balancer, state, values, cluster)),
        ("metrics", partial(of_cluster.metrics, state, values, cluster)),
        ("admission", partial(of_cluster.admission, cluster)),
        ("network", partial(of_cluster.network, state, values, cluster)),
        ("landlock", partial(of_cluster.kernels, state, values, cluster)),
        ("dns", partial(of_cluster.dns, state)),
        ("clock", partial(of_cluster.clocks, state)),
        ("certificate", partial(of_cluster.certificate, values, cluster)),
        ("secrets", partial(of_cluster.secrets, values, cluster)),
        ("foreign", partial(of_cluster.foreign, state, ours, planned)),
        ("mesh", partial(mesh.mesh, state, values, plan.rendered, cluster)),
    ]
    if plan.workloads:
        checks += [
            ("nodes", has_room),
            ("storage", partial(of_cluster.storage, state, plan.workloads, plan.objects, cluster)),
            ("data", partial(of_cluster.data, plan.objects, cluster)),
            ("snapshots", partial(of_cluster.snapshots, values, plan.objects, cluster)),
            ("rights", lambda: rights(cluster, wanted(cluster, components, plan.rendered))),
            ("ports", partial(of_cluster.node_ports, state, plan.objects, ours)),
        ]
    with side_by_side() as begin:
        futures = [begin(partial(_made, name, check)) for name, check in checks]
    return [finding for future in futures for finding in future.result()]


def _made(name: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """A check's findings. What it may not see is no fault of the cluster's, and is said beside what it has seen."""
    found: list[Finding] = []
    try:
        for finding in check():
            found.append(finding)
    except PlatformError as failure:
        found.append(of_error(name, failure, WARN if failure.reason in ("forbidden", "kind", "unavailable") else FAIL))
    return found

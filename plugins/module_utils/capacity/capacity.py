# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The logic of the module ``capacity``: what an inventory needs, before there is a cluster."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity import page
from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.charts import rendered
from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.placement import (
    Losses,
    Node,
    Placement,
    lose,
    nodes_needed,
    place,
    spread_nodes,
    updates_without_room,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.prices import Prices
from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.table import lines
from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.workloads import (
    GIB,
    Workload,
    defaults_of,
    number,
    workloads_of,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.dashboards.dashboards import write
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.yaml import YAMLError, from_yaml

_COMPONENT: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "releases": {"type": "list", "elements": "dict", "default": []},
    "objects": {"type": "list", "elements": "dict", "default": []},
    "files": {"type": "list", "elements": "str", "default": []},
    "secrets": {"type": "list", "elements": "dict", "default": [], "no_log": False},
    "unknown": {"type": "list", "elements": "dict", "default": []},
}

COMPONENTS: dict[str, Any] = {"type": "list", "elements": "dict", "default": [], "options": _COMPONENT}
"""The plan (plugin_utils/plan.py), which the action plugin gives."""

NODE_POOLS: dict[str, Any] = {
    "type": "list",
    "elements": "dict",
    "default": [],
    "options": {
        "name": {"type": "str", "required": True},
        "type": {"type": "str", "required": True},
        "zones": {"type": "list", "elements": "str", "required": True},
        "min_count": {"type": "int", "required": True},
        "max_count": {"type": "int", "required": True},
        "labels": {"type": "dict", "default": {}},
        "taints": {"type": "list", "elements": "dict", "default": []},
    },
}

ARGUMENT_SPEC: dict[str, Any] = {
    "components": COMPONENTS,
    "problems": {"type": "list", "elements": "dict", "default": []},
    "node_pools": NODE_POOLS,
    "node_types": {"type": "path", "required": True},
    "own_node_types": {"type": "dict", "default": {}},
    "prices": {"type": "path", "required": True},
    "design": {"type": "path", "required": True},
    "styles": {"type": "list", "elements": "path", "required": True},
    "helm_binary": {"type": "str", "default": "helm"},
    "kubernetes_version": {"type": "str", "default": ""},
    "output": {"type": "path"},
    "json_output": {"type": "path"},
}

ASSUMED_POOL = {"name": "assumed", "type": "m5.2xlarge", "zones": ["a", "b", "c"], "min_count": 0, "max_count": 0}
"""Where an inventory names no nodes: the design's type, to say how many would do."""


def run(params: dict[str, Any], check_mode: bool, diff: bool, progress: Callable[[str], None]) -> dict[str, Any]:
    """The whole report; it writes files where outputs are named."""
    problems = of_variables(params["problems"])

    def tried(make: Callable[[], Any], otherwise: Any) -> Any:
        """Its result; what is wrong is told with all the rest."""
        try:
            return make()
        except PlatformError as failure:
            problems.append(failure)
            return otherwise

    types = {**tried(lambda: read_yaml(params["node_types"]), {}), **params["own_node_types"]}
    prices = tried(lambda: Prices(read_yaml(params["prices"]), params["prices"]), None)
    design = tried(lambda: read_yaml(params["design"]), [])
    workloads, notes = asked(params["components"], params["helm_binary"], params["kubernetes_version"])
    priorities = priorities_of(params["components"])
    pools = params["node_pools"]
    wrong = wrong_pools(pools, types)
    problems += wrong or wrong_workloads(workloads, pools, types)
    if problems:
        raise PlatformError.of_many("the inventory is wrong, and nothing was written", problems)
    report = report_of(workloads, pools, types, priorities, prices)
    report["design"] = compared(design, workloads)
    report["notes"] = notes + report["notes"]
    table = lines(report)
    styles = [Path(path).read_text(encoding="utf-8") for path in params["styles"]]
    texts = {
        "output": lambda: page.drawn(report, "\n".join(styles)),
        "json_output": lambda: json.dumps(report, indent=2) + "\n",
    }
    changed = False
    for name, text in texts.items():
        if params.get(name):
            changed = kept(params[name], text(), check_mode) or changed
    for line in table:
        progress(line)
    written = [params[name] for name in texts if params.get(name)]
    return {"changed": changed, "capacity": report, "table": table, "written": written}


def of_variables(problems: Iterable[dict[str, Any]]) -> list[PlatformError]:
    """What the module ``variables`` has told, as errors again."""
    names = ("where", "found", "expected", "fix")
    return [
        PlatformError(
            one.get("what", ""), reason=one.get("reason", "argument"), **{name: one.get(name, "") for name in names}
        )
        for one in problems
    ]


def kept(output: str, text: str, check_mode: bool) -> bool:
    """Write the file, unless it has this text; whether it had another."""
    with contextlib.suppress(OSError, ValueError):
        if Path(output).read_text(encoding="utf-8") == text:
            return False
    if not check_mode:
        write(output, text)
    return True


def read_yaml(path: str) -> Any:
    """A data file."""
    try:
        return from_yaml(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as failure:
        raise PlatformError(
            "a file of figures cannot be read",
            where=path,
            found=getattr(failure, "strerror", None) or str(failure),
            expected="YAML in the form of roles/platform/files/capacity",
            fix="correct the file, or its name",
            reason="argument",
        ) from failure


def asked(
    components: list[dict[str, Any]], helm_binary: str, kubernetes_version: str, api_versions: list[str] | None = None
) -> tuple[list[Workload], list[str]]:
    """The workloads of all components, in their order, and what could not be counted."""
    releases = [release for component in components for release in component["releases"]]
    results = iter(rendered(releases, helm_binary, kubernetes_version, api_versions))
    defaults = defaults_of(obj for component in components for obj in component["objects"])
    found: list[Workload] = []
    notes: list[str] = []
    for component in components:
        name = component["name"]
        for unknown in component["unknown"]:
            notes.append("%s: not counted is what the task «%s» makes: %s" % (name, unknown["task"], unknown["why"]))
        made: list[tuple[str, Any]] = [("", component["objects"])]
        for release in component["releases"]:
            result = next(results)
            if isinstance(result, PlatformError):
                notes.append("%s: not counted is the release %s: %s" % (name, release["name"], result))
            else:
                made.append((release["namespace"], result))
        for namespace, objects in made:
            try:
                found += workloads_of(name, objects, namespace, defaults)
            except PlatformError as failure:
                notes.append("%s: not counted: %s" % (name, failure))
    return found, notes


def priorities_of(components: Iterable[dict[str, Any]]) -> dict[str, int]:
    """The values of the priority classes among the objects."""
    return {
        obj["metadata"]["name"]: int(obj["value"])
        for component in components
        for obj in component["objects"]
        if obj.get("kind") == "PriorityClass"
    }


# --- nodes ------------------------------------------------------------------------------------------------------------


def wrong_pools(pools: list[dict[str, Any]], types: dict[str, Any]) -> list[PlatformError]:
    """All that is wrong with the pools that an inventory names."""
    found = []

    def wrong(pool: dict[str, Any], what: str, seen: object, expected: str) -> None:
        found.append(
            PlatformError(
                what,
                where="platform_node_pools, %s" % pool["name"],
                found=str(seen),
                expected=expected,
                fix="correct platform_node_pools",
                reason="contradiction",
            )
        )

    for pool in pools:
        if sum(other["name"] == pool["name"] for other in pools) > 1:
            wrong(pool, "two pools of nodes have one name", pool["name"], "each once")
        if pool["type"] not in types:
            known = ", ".join(sorted(types))
            wrong(
                pool,
                "nobody knows what a node of the type has",
                pool["type"],
                "one of %s, or an entry in platform_node_types" % known,
            )
        if not pool["zones"]:
            wrong(pool, "a pool of nodes has no zone", "none", "the zones that its nodes are in")
        least, most = pool["min_count"], pool["max_count"]
        if not 0 <= least <= most or most < 1:
            wrong(pool, "a pool's numbers of nodes contradict each other", "min_count %d, max_count %d" % (least, most),
                  "0 or more, and max_count of 1 or more and of min_count or more")  # fmt: skip
        elif 0 < most < len(pool["zones"]):
            zones = ", ".join(pool["zones"][most:])
            wrong(
                pool,
                "a zone has no node",
                "%d nodes, so none in %s" % (most, zones),
                "max_count of %d or more, or fewer zones" % len(pool["zones"]),
            )
    return found


def wrong_workloads(
    workloads: Iterable[Workload], pools: list[dict[str, Any]], types: dict[str, Any]
) -> list[PlatformError]:
    """The workloads that no cluster of these pools could run, whatever else is there."""
    likes = [node_like(pool, types) for pool in pools]
    found = []

    def wrong(one: Workload, what: str, seen: str, expected: str, fix: str) -> None:
        found.append(
            PlatformError(what, where=str(one), found=seen, expected=expected, fix=fix, reason="contradiction")
        )

    for one in workloads:
        if likes and one.containers and not any(like.cpu >= one.cpu and like.memory >= one.memory for like in likes):
            wrong(
                one,
                "no node is large enough for a pod",
                f"requests of {one.cpu / 1000:g} CPU and {one.memory / GIB:.1f} GiB",
                f"at most {max(like.cpu for like in likes) / 1000:g} CPU and "
                f"{max(like.memory for like in likes) / GIB:.1f} GiB",
                "take a larger type in platform_node_pools, or lower the requests",
            )
        if one.least < 0 or one.most < 0:
            wrong(one, "a number of pods is below nothing", str(min(one.least, one.most)), "0 or more", "raise it")
        elif one.least > one.most:
            wrong(
                one,
                "an autoscaler's minimum is above its maximum",
                f"{one.least} to {one.most}",
                "a minimum of at most the maximum",
                "correct the role's *_min_replicas and *_max_replicas",
            )
    return found


def node_like(pool: dict[str, Any], types: dict[str, Any]) -> Node:
    """An empty node of the pool: what its type leaves when the cloud's own pods run."""
    kind = types[pool["type"]]
    where = "node type %s" % pool["type"]
    allocatable, system = kind["allocatable"], kind.get("system") or {}
    taints = tuple(
        (one["key"], str(one.get("value") or ""), one.get("effect", "NoSchedule")) for one in pool.get("taints") or []
    )
    return Node(
        pool["name"],
        pool["zones"][0],
        int((number(allocatable["cpu"], where) - number(system.get("cpu", 0), where)) * 1000),
        int(number(allocatable["memory"], where) - number(system.get("memory", 0), where)),
        int(allocatable.get("pods", 110)) - int(system.get("pods", 0)),
        {
            "node.kubernetes.io/instance-type": pool["type"],
            "kubernetes.io/os": "linux",
            **{key: str(value) for key, value in (pool.get("labels") or {}).items()},
        },
        taints,
        pool["name"],
    )


def nodes_of(pools: list[dict[str, Any]], types: dict[str, Any], at_most: bool) -> list[Node]:
    """The nodes of all pools at their least or most."""
    return [
        node
        for pool in pools
        for node in spread_nodes(
            node_like(pool, types), pool["zones"], pool["max_count" if at_most else "min_count"], pool["name"]
        )
    ]


# --- the report -------------------------------------------------------------------------------------------------------


def report_of(
    workloads: list[Workload],
    pools: list[dict[str, Any]],
    types: dict[str, Any],
    priorities: dict[str, int],
    prices: Prices | None,
) -> dict[str, Any]:
    """All figures, in JSON's types."""
    named = bool(pools)
    pools = pools or [ASSUMED_POOL]
    report: dict[str, Any] = {
        "components": [_component(name, workloads) for name in dict.fromkeys(one.component for one in workloads)],
        "workloads": [_row(one) for one in workloads],
        "notes": [],
        "needed": [],
        "pools": [],
    }
    report["total"] = _sum([one for one in workloads if not one.passing and not one.per_node])
    report["per_node"] = _sum([one for one in workloads if one.per_node])
    for pool in {one["type"]: one for one in pools}.values():
        report["needed"].append(_needed(workloads, pool, types, priorities, prices, report["notes"]))
    if named:
        for at_most in (False, True):
            nodes = nodes_of(pools, types, at_most)
            if nodes:
                report["pools"].append(
                    _of_pools(workloads, pools, nodes, at_most, priorities, prices, types, report["notes"])
                )
    return report


def _row(workload: Workload) -> dict[str, Any]:
    return {
        "component": workload.component,
        "namespace": workload.namespace,
        "kind": workload.kind,
        "name": workload.name,
        "containers": list(workload.containers),
        "per_node": workload.per_node,
        "passing": workload.passing,
        "least": workload.least,
        "most": workload.most,
        "surge": workload.surge,
        "cpu": workload.cpu / 1000,
        "memory_gib": round(workload.memory / GIB, 3),
        "disk_gib": round(workload.storage / GIB, 3),
        "volumes": [
            {"name": one.name, "gib": round(one.size / GIB, 3), "storage_class": one.storage_class}
            for one in workload.volumes
        ],
    }


def _sum(workloads: list[Workload]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, at_most in (("least", False), ("most", True)):
        counts = [(one, one.most if at_most else one.least) for one in workloads]
        found[key] = {
            # A claim that stands alone is no pod.
            "pods": sum(count for one, count in counts if one.containers),
            "cpu": round(sum(count * one.cpu for one, count in counts) / 1000, 3),
            "memory_gib": round(sum(count * one.memory for one, count in counts) / GIB, 3),
            "disk_gib": round(sum(count * one.storage for one, count in counts) / GIB, 3),
        }
    return found


def _component(name: str, workloads: list[Workload]) -> dict[str, Any]:
    mine = [one for one in workloads if one.component == name]
    lasting = [one for one in mine if not one.passing and not one.per_node]
    return {"name": name, **_sum(lasting), "per_node": _sum([one for one in mine if one.per_node])["least"]}


def _needed(
    workloads: list[Workload],
    pool: dict[str, Any],
    types: dict[str, Any],
    priorities: dict[str, int],
    prices: Prices | None,
    notes: list[str],
) -> dict[str, Any]:
    like = node_like(pool, types)
    found: dict[str, Any] = {
        "type": pool["type"],
        "cloud": types[pool["type"]].get("cloud", ""),
        "zones": list(pool["zones"]),
    }
    found["too_large"] = [str(one) for one in workloads if one.cpu > like.cpu or one.memory > like.memory]
    for name, at_most in (("least", False), ("most", True)):
        counts = {
            key: nodes_needed(workloads, like, pool["zones"], at_most, priorities, lost)
            for key, lost in (("nodes", ""), ("nodes_node_lost", "node"), ("nodes_zone_lost", "zone"))
        }
        found[name] = counts
        if prices is not None and counts["nodes_zone_lost"]:
            found[name]["month"] = _month(prices, found, counts["nodes_zone_lost"], workloads, at_most, notes)
    return found


def _month(
    prices: Prices, of: dict[str, Any], nodes: int, workloads: list[Workload], at_most: bool, notes: list[str]
) -> dict[str, Any] | None:
    try:
        month = prices.month(of["cloud"], of["zones"], of["type"], nodes, workloads, at_most)
    except PlatformError as missing:
        if str(missing) not in notes:
            notes.append(str(missing))
        return None
    if month["asked_region"] != month["region"] and len(of["zones"][0]) > 1:
        note = "prices are those of %s: %s has none of %s" % (month["region"], prices.where, month["asked_region"])
        if note not in notes:
            notes.append(note)
    return month


def _of_pools(
    workloads: list[Workload],
    pools: list[dict[str, Any]],
    nodes: list[Node],
    at_most: bool,
    priorities: dict[str, int],
    prices: Prices | None,
    types: dict[str, Any],
    notes: list[str],
) -> dict[str, Any]:
    placement = place(workloads, nodes, at_most, priorities)
    losses = lose(workloads, nodes, at_most, priorities)
    months: list[dict[str, Any] | None] = []
    if prices is not None:
        for pool in pools:
            of = {"type": pool["type"], "cloud": types[pool["type"]].get("cloud", ""), "zones": pool["zones"]}
            count = sum(node.pool == pool["name"] for node in nodes)
            # Volumes, control plane and load balancer are there once, whatever the number of pools.
            months.append(_month(prices, of, count, workloads if not months else [], at_most, notes))
    known = [month for month in months if month is not None]
    month = None
    if known and len(known) == len(months):
        month = dict(known[0])
        for further in known[1:]:
            month["nodes"] = round(month["nodes"] + further["nodes"], 2)
            month["total"] = round(month["total"] + further["nodes"], 2)
    return {
        "at": "most" if at_most else "least",
        "nodes": len(nodes),
        "fits": placement.fits,
        "pending": _told(placement.pending.items()),
        **_losses(losses),
        "updates_without_room": [str(one) for one in updates_without_room(workloads, nodes, at_most, priorities)],
        "month": month,
        "placement": _drawn(placement, nodes),
    }


def _told(pending: Iterable[tuple[Workload, int]]) -> list[dict[str, Any]]:
    return [{"workload": str(one), "pods": count} for one, count in pending]


def _losses(losses: Losses) -> dict[str, Any]:
    return {
        "zone_lost": {"zone": losses.zone, "pending": _told(losses.of_zone), "waiting": _told(losses.waiting)},
        "node_lost": {"node": losses.node, "pending": _told(losses.of_node)},
    }


def _drawn(placement: Placement, nodes: list[Node]) -> list[dict[str, Any]]:
    whole = {node.name: node for node in nodes}
    found: dict[str, dict[str, Any]] = {
        node.name: {
            "name": node.name,
            "zone": node.zone,
            "cpu": whole[node.name].cpu / 1000,
            "memory_gib": round(whole[node.name].memory / GIB, 2),
            "free_cpu": node.cpu / 1000,
            "free_memory_gib": round(node.memory / GIB, 2),
            "pods": [],
        }
        for node in placement.nodes
    }
    for workload, _number, node in placement.placed:
        found[node.name]["pods"].append(
            {
                "name": workload.name,
                "component": workload.component,
                "cpu": workload.cpu / 1000,
                "memory_gib": round(workload.memory / GIB, 3),
            }
        )
    return list(found.values())


def compared(design: list[dict[str, Any]], workloads: list[Workload]) -> dict[str, Any]:
    """The design's table beside what the inventory asks for at rest: row by row, what is in no row, and both sums."""
    by_name = {one.name: one for one in workloads}
    rows = []
    for row in design:
        mine = by_name.get(row["workload"])
        rows.append(
            {
                **row,
                "asked": None
                if mine is None
                else {
                    "replicas": mine.least,
                    "cpu": mine.cpu / 1000,
                    "memory_gib": round(mine.memory / GIB, 3),
                    "disk_gib": round(mine.storage / GIB, 3),
                },
            }  # fmt: skip
        )
    named = {row["workload"] for row in design}
    beside = [one for one in workloads if one.name not in named and not one.passing]
    lasting = [one for one in workloads if not one.passing and not one.per_node]
    return {
        "rows": rows,
        "sum": {
            "cpu": sum(row["replicas"] * row["cpu"] for row in design),
            "memory_gb": sum(row["replicas"] * row["memory_gb"] for row in design),
            "disk_gb": sum(row["replicas"] * row["disk_gb"] for row in design),
        },
        "beside": [str(one) for one in beside],
        "beside_sum": _sum([one for one in beside if not one.per_node])["least"],
        "asked_sum": _sum(lasting),
    }

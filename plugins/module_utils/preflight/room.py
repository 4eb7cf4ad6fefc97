# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the cluster's nodes have room for what the inventory asks for, and are the nodes that it names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.capacity import nodes_of
from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.placement import (
    Losses,
    Node,
    lose,
    place,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.workloads import (
    GIB,
    ZONE,
    Workload,
    number,
    pod_requests,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
from ansible_collections.lambda_microservice.platform.plugins.module_utils.preflight.finding import (
    FAIL,
    WARN,
    Finding,
    passed,
)


def live_nodes(nodes: Iterable[Object], pods: Iterable[Object], ours: set[str]) -> list[Node]:
    """The nodes that take pods, without what pods of other namespaces ask of them."""
    found = {}
    for obj in nodes:
        spec, status, metadata = obj.get("spec") or {}, obj.get("status") or {}, obj["metadata"]
        ready = any(
            one.get("type") == "Ready" and one.get("status") == "True" for one in status.get("conditions") or []
        )
        if spec.get("unschedulable") or not ready:
            continue
        labels, name = metadata.get("labels") or {}, metadata["name"]
        allocatable = status.get("allocatable") or {}
        # A node that has just come says so with taints of its own, which go by themselves.
        taints = tuple(
            (one["key"], str(one.get("value") or ""), str(one.get("effect")))
            for one in spec.get("taints") or []
            if not one["key"].startswith("node.kubernetes.io/")
        )
        where = f"Node {name}"
        found[name] = Node(
            name,
            labels.get(ZONE, ""),
            int(number(allocatable.get("cpu", 0), where) * 1000),
            int(number(allocatable.get("memory", 0), where)),
            int(number(allocatable.get("pods", 110), where)),
            labels,
            taints,
        )
    for pod in pods:
        node = found.get((pod.get("spec") or {}).get("nodeName") or "")
        over = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
        if node is None or over or pod["metadata"].get("namespace") in ours:
            continue
        where = f"Pod {pod['metadata'].get('namespace')}/{pod['metadata']['name']}"
        node.cpu -= int(pod_requests(pod["spec"], "cpu", {}, where) * 1000)
        node.memory -= int(pod_requests(pod["spec"], "memory", {}, where))
        node.pods -= 1
    return list(found.values())


def nodes(
    workloads: list[Workload],
    live: list[Node],
    pools: list[dict[str, Any]],
    types: dict[str, Any],
    priorities: dict[str, int],
    there: int = 0,
) -> Iterator[Finding]:
    """Room at rest and at the most, and when a node or a zone is lost. ``there`` are the nodes, usable or not."""
    if not live:
        yield from _none(workloads, nodes_of(pools, types, True), priorities, there)
        return
    zones = sorted({node.zone for node in live} - {""})
    told = f"{len(live)} nodes in {len(zones)} zones with {_sum(live)} for us"
    largest = [
        str(one)
        for one in workloads
        if one.containers
        and not one.passing
        and not any(node.cpu >= one.cpu and node.memory >= one.memory for node in live)
    ]
    rest = place(workloads, live, False, priorities)
    if largest:
        yield Finding(
            "nodes",
            FAIL,
            f"{told}; no node is large enough for a pod of {', '.join(largest)}",
            "nodes that hold the largest pod beside what runs on each",
            "add larger nodes, or lower the requests",
        )
    elif rest.pending:
        yield Finding(
            "nodes",
            FAIL,
            f"{told}; at rest there is no place for {_pending(rest.pending.items())}",
            f"room for {_asked(workloads, False)}",
            "add nodes, or lower replicas and requests (playbooks/capacity.yml says how many would do)",
        )
    else:
        yield passed("nodes", f"{told}; {_asked(workloads, False)} are asked for at rest and fit")
        yield from _at_most(workloads, live, pools, types, priorities)
        yield from _lost(lose(workloads, live, False, priorities), zones)


def _none(workloads: list[Workload], grown: list[Node], priorities: dict[str, int], there: int) -> Iterator[Finding]:
    """No node takes pods: an autoscaler may bring those that the inventory names, once pods wait for them."""
    if there:
        yield Finding(
            "nodes",
            FAIL,
            f"the cluster has {there} nodes, and none of them is ready and takes pods",
            f"room for {_asked(workloads, False)}",
            "see why they are not ready (kubectl describe nodes), or uncordon them",
        )
        return
    lacking = place(workloads, grown, False, priorities).pending if grown else None
    if lacking is None or lacking:
        told = ""
        if lacking:
            told = f", and on {len(grown)} of platform_node_pools there is no place for {_pending(lacking.items())}"
        yield Finding(
            "nodes",
            FAIL,
            f"the cluster has no node{told}",
            f"room for {_asked(workloads, False)}",
            "add nodes; where an autoscaler brings them, name its pools in platform_node_pools",
        )
    else:
        yield Finding(
            "nodes",
            WARN,
            f"the cluster has no node; on the {len(grown)} to which platform_node_pools may grow all would fit",
            f"room for {_asked(workloads, False)}",
            "see that an autoscaler brings nodes of these pools when pods wait: none shows that it does",
        )


def _at_most(
    workloads: list[Workload],
    live: list[Node],
    pools: list[dict[str, Any]],
    types: dict[str, Any],
    priorities: dict[str, int],
) -> Iterator[Finding]:
    most = place(workloads, live, True, priorities)
    if most.fits:
        yield passed("growth", f"{_asked(workloads, True)} at the autoscalers' most fit on the nodes there are")
        return
    grown = nodes_of(pools, types, True)
    if grown and place(workloads, grown, True, priorities).fits:
        yield passed(
            "growth",
            f"{_asked(workloads, True)} at the autoscalers' most fit on the {len(grown)} nodes that "
            "platform_node_pools may grow to",
        )
        return
    where = (
        f"the {len(grown)} nodes that platform_node_pools may grow to" if grown else f"the {len(live)} nodes there are"
    )
    yield Finding(
        "growth",
        WARN,
        f"at the autoscalers' most there is no place for {_pending(most.pending.items())}, on {where}",
        f"room for {_asked(workloads, True)}",
        "let the node pools grow and say so in platform_node_pools, or lower the autoscalers' maxima",
    )


def _lost(losses: Losses, zones: list[str]) -> Iterator[Finding]:
    if len(zones) < 2:
        yield Finding(
            "zones",
            WARN,
            f"the nodes are in {len(zones)} zones (label {ZONE}), so one fault ends the platform",
            "nodes in three zones",
            "add nodes in other zones",
        )
    elif losses.of_zone:
        yield Finding(
            "zones",
            WARN,
            f"when {losses.zone} is lost, there is no place for {_pending(losses.of_zone)}",
            "room in the other zones for what may move",
            "add nodes; a cluster autoscaler brings them in minutes where its pools may grow",
        )
    else:
        yield passed("zones", f"each of {', '.join(zones)} can be lost: what may move has a place in the others")
    if losses.of_node:
        yield Finding(
            "drain",
            WARN,
            f"when {losses.node} is drained or lost, there is no place for {_pending(losses.of_node)}",
            "room for the pods of one node on the others",
            "add a node",
        )
    elif losses.node:
        yield passed("drain", "each node can be drained: what may move has a place on the others")


def same_cluster(live: list[Node], pools: list[dict[str, Any]], described: str) -> Iterator[Finding]:
    """Whether these are the nodes of which the inventory speaks."""
    if not pools:
        yield passed("cluster", f"{described}; the inventory names no nodes to compare (platform_node_pools)")
        return
    named = {zone for pool in pools for zone in pool["zones"]}
    zones = {node.zone for node in live} - {""}
    types = {node.labels.get("node.kubernetes.io/instance-type", "") for node in live} - {""}
    if live and not zones & named:
        yield Finding(
            "cluster",
            FAIL,
            f"{described} has nodes in {', '.join(sorted(zones)) or 'no zone'}",
            f"the cluster that the inventory means, with nodes in {', '.join(sorted(named))}",
            "correct platform_kubeconfig and platform_context, or platform_node_pools",
        )
        return
    empty = sorted(named - zones)
    strange = sorted(types - {pool["type"] for pool in pools})
    least, most = sum(pool["min_count"] for pool in pools), sum(pool["max_count"] for pool in pools)
    odd = [
        *([f"no node in {', '.join(empty)}"] if empty else []),
        *([f"nodes of the types {', '.join(strange)}"] if strange else []),
        *([f"{len(live)} nodes"] if not least <= len(live) <= most else []),
    ]
    if odd:
        yield Finding(
            "cluster",
            WARN,
            f"{described}: {'; '.join(odd)}",
            f"{least} to {most} nodes of {', '.join(sorted({pool['type'] for pool in pools}))} in "
            f"{', '.join(sorted(named))}",
            "correct platform_node_pools, or the node pools themselves",
        )
    else:
        yield passed("cluster", f"{described}, whose nodes are those of platform_node_pools")


def _asked(workloads: list[Workload], at_most: bool) -> str:
    lasting = [one for one in workloads if not one.per_node and not one.passing]
    counts = [(one, one.most if at_most else one.least) for one in lasting]
    cpu = sum(count * one.cpu for one, count in counts) / 1000
    memory = sum(count * one.memory for one, count in counts) / GIB
    return f"{cpu:.1f} CPU and {memory:.1f} GiB"


def _sum(live: list[Node]) -> str:
    return f"{sum(node.cpu for node in live) / 1000:.1f} CPU and {sum(node.memory for node in live) / GIB:.1f} GiB"


def _pending(pending: Iterable[tuple[Workload, int]]) -> str:
    counts: Counter[str] = Counter()
    for one, count in pending:
        counts[str(one)] += count
    return ", ".join(f"{count} of {name}" for name, count in counts.items())

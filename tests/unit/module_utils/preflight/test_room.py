"""Whether nodes have room, and are those that the inventory names."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity import placement
from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.placement import Placement
from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.workloads import (
    GIB,
    ZONE,
    Workload,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.preflight import room
from ansible_collections.lambda_microservice.platform.plugins.module_utils.preflight.cluster import versions
from ansible_collections.lambda_microservice.platform.plugins.module_utils.preflight.finding import FAIL, PASS, WARN

TYPES = {"big": {"cloud": "eks", "allocatable": {"cpu": "8", "memory": "32Gi"}}}
POOL = {
    "name": "general",
    "type": "big",
    "zones": ["a", "b", "c"],
    "min_count": 3,
    "max_count": 9,
    "labels": {},
    "taints": [],
}


def node(name: str, zone: str, cpu: str = "8", ready: str = "True", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {ZONE: zone, "node.kubernetes.io/instance-type": "big"}},
        "spec": spec,
        "status": {
            "allocatable": {"cpu": cpu, "memory": "32Gi", "pods": "110"},
            "conditions": [{"type": "Ready", "status": ready}],
        },
    }


def pod(namespace: str, on: str, cpu: str, phase: str = "Running") -> dict[str, Any]:
    containers = [{"name": "one", "resources": {"requests": {"cpu": cpu}}}]
    return {
        "metadata": {"name": "pod", "namespace": namespace},
        "spec": {"nodeName": on, "containers": containers},
        "status": {"phase": phase},
    }


THREE = [node("one", "a"), node("two", "b"), node("three", "c")]


def workload(least: int, most: int, cpu: int = 4000) -> Workload:
    return Workload("part", "ours", "Deployment", "web", least, most, cpu, GIB, ("web",))


def results(workloads: list[Workload], nodes: list[dict[str, Any]], pools: Any = (), pods: Any = ()) -> dict[str, str]:
    live = room.live_nodes(nodes, pods, {"ours"})
    return {one.check: one.result for one in room.nodes(workloads, live, list(pools), TYPES, {})}


def test_only_nodes_that_take_pods_count_and_what_others_use_of_them_does_not() -> None:
    nodes = [*THREE, node("four", "a", unschedulable=True), node("five", "b", ready="False")]
    pods = [
        pod("others", "one", "3"),
        pod("ours", "one", "2"),
        pod("others", "two", "4", "Succeeded"),
        pod("x", "", "1"),
    ]
    live = {one.name: one.cpu for one in room.live_nodes(nodes, pods, {"ours"})}
    assert live == {"one": 5000, "two": 8000, "three": 8000}


def test_room_at_rest_is_a_must_and_room_to_grow_a_wish() -> None:
    assert results([workload(3, 3)], THREE) == {"nodes": PASS, "growth": PASS, "zones": PASS, "drain": PASS}
    assert results([workload(7, 7)], THREE) == {"nodes": FAIL}
    assert results([workload(3, 9)], THREE)["growth"] == WARN
    # The pool may grow to nine nodes.
    assert results([workload(3, 9)], THREE, [POOL])["growth"] == PASS
    full = results([workload(6, 6)], THREE)
    assert (full["nodes"], full["zones"], full["drain"]) == (PASS, WARN, WARN)
    assert results([workload(3, 3)], [node("one", "a"), node("two", "a")])["zones"] == WARN


def test_who_a_volume_keeps_in_the_zone_of_a_drained_node_waits_for_it() -> None:
    data = replace(workload(3, 3), kind="StatefulSet", apart=((ZONE, 1),), domains=3)
    assert results([data], THREE) == {"nodes": PASS, "growth": PASS, "zones": PASS, "drain": PASS}


def test_a_node_is_called_by_its_own_name_after_it_was_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = placement._nodes_lost
    monkeypatch.setattr(
        placement, "_nodes_lost", lambda packing: ((name, Placement([])) for name, _after in lost(packing))
    )
    live = room.live_nodes(THREE, [], {"ours"})
    (told,) = (one for one in room.nodes([workload(6, 6)], live, [], TYPES, {}) if one.check == "drain")
    assert re.match("when (one|two|three) is drained", told.found)


def test_a_pod_that_no_node_holds_is_named() -> None:
    (found,) = room.nodes([workload(1, 1, 9000)], room.live_nodes(THREE, [], set()), [], TYPES, {})
    assert found.result == FAIL and "no node is large enough for a pod of Deployment ours/web" in found.found
    assert results([workload(1, 1)], []) == {"nodes": FAIL}


def test_a_cluster_without_nodes_is_judged_by_what_it_may_grow_to() -> None:
    def found(count: int, pools: Any = (), there: int = 0) -> Any:
        (one,) = room.nodes([workload(count, count)], [], list(pools), TYPES, {}, there)
        return one

    assert found(1).result == FAIL and found(1).found == "the cluster has no node"
    assert found(1, [POOL]).result == WARN and "the 9 to which platform_node_pools may grow" in found(1, [POOL]).found
    assert found(19, [POOL]).result == FAIL and "no place for 1 of Deployment ours/web" in found(19, [POOL]).found
    # Nodes that are there and take nothing are another matter, whatever may come.
    assert found(1, [POOL], 3).result == FAIL and "has 3 nodes, and none of them is ready" in found(1, [], 3).found


def test_another_cluster_than_the_inventory_means_is_seen() -> None:
    live = room.live_nodes(THREE, [], set())

    def found(**changes: Any) -> Any:
        (one,) = room.same_cluster(live, [{**POOL, **changes}], "https://here")
        return one

    assert found().result == PASS
    assert found(zones=["x", "y"]).result == FAIL
    assert "no node in d" in found(zones=["a", "b", "c", "d"]).found
    assert "nodes of the types big" in found(type="small").found
    assert "3 nodes" in found(min_count=6).found and found(min_count=6).result == WARN


def test_versions_have_floors_and_ceilings() -> None:
    table = [
        {"name": "one", "floor": "1.25", "tested": "1.37"},
        {"name": "two", "floor": "1.32", "ceiling": "1.36"},
        {"name": "three"},
    ]

    def found(version: str) -> dict[str, list[str]]:
        told: dict[str, list[str]] = {}
        for one in versions({"gitVersion": version}, table):
            told.setdefault(one.result, []).append(one.found)
        return told

    assert set(found("v1.34.1-eks-123")) == {PASS}
    assert "two needs 1.32" in found("v1.31.0")[FAIL][0]
    assert "up to 1.36" in found("v1.37.0")[WARN][0] and "one, three" in found("v1.37.0")[PASS][0]
    assert len(found("v1.38.0")[WARN]) == 2
    assert len(found("v1.9.0")[FAIL]) == 2

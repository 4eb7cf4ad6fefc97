"""Where pods would go, and how many nodes they need."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.placement import (
    Node,
    Packing,
    lose,
    nodes_needed,
    place,
    spread_nodes,
    updates_without_room,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.workloads import (
    GIB,
    HOST,
    ZONE,
    Volume,
    Workload,
)
from hypothesis import given
from hypothesis import strategies as st

ZONES = ["a", "b", "c"]
LIKE = Node("node", "a", 8000, 32 * GIB)


def workload(name: str, least: int, cpu: int = 1000, most: int | None = None, **more: Any) -> Workload:
    given = {"memory": GIB, "containers": (name,), **more}
    return Workload("part", "one", "Deployment", name, least, least if most is None else most, cpu, **given)


some_workloads = st.lists(
    st.builds(
        lambda number, count, cpu, gib: workload(f"w{number}", count, cpu, memory=gib * GIB),
        st.integers(0, 99),
        st.integers(0, 12),
        st.integers(0, 9000),
        st.integers(0, 33),
    ),
    max_size=8,
    unique_by=lambda one: one.name,
)


@given(some_workloads, st.integers(1, 12))
def test_no_node_holds_more_than_it_has(workloads: list[Workload], count: int) -> None:
    found = place(workloads, spread_nodes(LIKE, ZONES, count), at_most=False)
    for node in found.nodes:
        mine = [one for one, _number, at in found.placed if at is node]
        assert sum(one.cpu for one in mine) == LIKE.cpu - node.cpu <= LIKE.cpu
        assert sum(one.memory for one in mine) == LIKE.memory - node.memory <= LIKE.memory
    assert len(found.placed) + found.pending.total() == sum(one.least for one in workloads)


@given(some_workloads)
def test_the_number_that_is_needed_is_enough_and_one_less_is_not(workloads: list[Workload]) -> None:
    count = nodes_needed(workloads, LIKE, ZONES, at_most=False)
    if count is None:
        assert any(one.least and (one.cpu > LIKE.cpu or one.memory > LIKE.memory) for one in workloads)
        return
    assert place(workloads, spread_nodes(LIKE, ZONES, count), at_most=False).fits
    if count > len(ZONES):
        assert not place(workloads, spread_nodes(LIKE, ZONES, count - 1), at_most=False).fits


def test_replicas_are_in_every_zone() -> None:
    found = place([workload("web", 7, spread=(ZONE, HOST))], spread_nodes(LIKE, ZONES, 6), at_most=False)
    assert sorted(Counter(node.zone for _one, _number, node in found.placed).values()) == [2, 2, 3]


def test_what_has_to_be_spread_waits_where_it_cannot() -> None:
    nodes = [*spread_nodes(LIKE, ["a"], 3), Node("small", "b", 1000, 32 * GIB)]
    hard = workload("db", 4, 1000, apart=((ZONE, 1),))
    # One in b, and then a may have no more than two.
    assert place([hard], nodes, at_most=False).pending == Counter({hard: 1})
    alone = workload("db", 5, 100, apart=((HOST, 0),))
    assert place([alone], nodes, at_most=False).pending == Counter({alone: 1})


def test_a_lost_zone_needs_room_in_the_others_and_its_volumes_wait() -> None:
    web = workload("web", 12, 4000)
    kept = {"volumes": (Volume("data", GIB, ""),), "priority": "data", "apart": ((ZONE, 1),)}
    data = workload("data", 3, 2000, **kept)
    both, first = [web, data], {"data": 1}
    # A node has room for two of web, or for one of each. Of 8 nodes two zones have 3 and one 2: 5 + 5 + 3.
    assert nodes_needed(both, LIKE, ZONES, False, first) == 8
    # The smallest zone without a node of its three: 5 + 5 + 3.
    assert nodes_needed(both, LIKE, ZONES, False, first, "node") == 9
    # Zones of 4 and 3 nodes are left: 7 + 5.
    count = nodes_needed(both, LIKE, ZONES, False, first, "zone")
    losses = lose(both, spread_nodes(LIKE, ZONES, count or 0), False, first)
    assert count == 11 and not losses.of_zone and losses.waiting == ((data, 1),)
    short = lose(both, spread_nodes(LIKE, ZONES, 8), False, first)
    assert short.of_zone and {one.name for one, _count in short.of_zone} == {"web"}


def test_who_is_more_important_keeps_its_place() -> None:
    first, last = workload("first", 1, 8000, priority="low"), workload("last", 1, 8000, priority="high")
    found = place([first, last], [LIKE], at_most=False, priorities={"low": 1, "high": 2})
    assert found.pending == Counter({first: 1})


def test_taints_and_selectors_are_heeded() -> None:
    tainted = Node("gpu", "a", 8000, 32 * GIB, labels={"pool": "gpu"}, taints=(("gpu", "yes", "NoSchedule"),))
    wants = workload("wants", 1, selector=(("pool", "gpu"),))
    may = workload("may", 1, selector=(("pool", "gpu"),), tolerations=(("gpu", "Equal", "yes", ""),))
    anybody = workload("anybody", 1, tolerations=(("", "Exists", "", ""),))
    found = place([wants, may, anybody], [tainted], at_most=False)
    assert set(found.pending) == {wants}
    zone = {"nodeSelectorTerms": [{"matchExpressions": [{"key": ZONE, "operator": "In", "values": ["b"]}]}]}
    assert place([workload("there", 1, affinity=zone)], spread_nodes(LIKE, ZONES, 1), at_most=False).pending


def test_daemons_take_their_part_of_each_node() -> None:
    daemon = workload("agent", 1, 500, per_node=True)
    assert nodes_needed([workload("web", 4, 7800), daemon], LIKE, ZONES, at_most=False) is None
    assert nodes_needed([workload("web", 4, 7500), daemon], LIKE, ZONES, at_most=False) == 4


def test_what_stays_stays_where_it_is() -> None:
    """All pods afresh would fit: one of 5 and one of 3, and one of 4 and one of 4. As they stand, 4 has no place."""
    pods = [workload(f"w{cpu}{name}", 1, cpu * 1000) for cpu, name in ((3, "a"), (4, "a"), (4, "b"), (5, "a"))]
    nodes = [Node(name, "a", 8000, 32 * GIB) for name in "xyz"]
    assert place(pods, nodes[:2], at_most=False).pending.total() == 1
    losses = lose(pods, nodes, at_most=False)
    assert losses.of_node and sum(count for _one, count in losses.of_node) == 1


def test_who_is_preempted_looks_for_another_place() -> None:
    low, high = workload("low", 1, 3000, priority="low"), workload("high", 2, 6000, priority="high")
    nodes = [Node(name, "a", 8000, 32 * GIB) for name in "xy"]
    ranks = {"low": 1, "high": 2}
    assert place([low, high], nodes, False, ranks).pending == Counter({low: 1})
    found = place([low, high], [*nodes, Node("z", "a", 8000, 32 * GIB)], False, ranks)
    assert found.fits


def test_a_zone_that_is_lost_is_none_unless_so_many_are_asked_for() -> None:
    even, data = workload("even", 3, apart=((ZONE, 1),)), workload("data", 3, apart=((ZONE, 1),), domains=3)
    losses = lose([even, data], spread_nodes(LIKE, ZONES, 6), at_most=False)
    # Nobody's zone: data waits for it, and the other stands twice in one of those that are left.
    assert not losses.of_zone and losses.waiting == ((data, 1),)
    assert not losses.of_node


def test_an_update_keeps_the_room_of_those_that_end() -> None:
    nodes = [Node(name, "a", 8000, 32 * GIB) for name in "xy"]
    full, room = workload("web", 4, 4000, surge=1), workload("web", 3, 4000, surge=1)
    assert updates_without_room([full], nodes, at_most=False) == [full]
    assert updates_without_room([room], nodes, at_most=False) == []
    # In their places, one after the other, no room is needed.
    assert updates_without_room([workload("web", 4, 4000)], nodes, at_most=False) == []


def test_an_update_evens_out_what_losses_have_left() -> None:
    web = workload("web", 3, apart=((ZONE, 1),), surge=1)
    packing = Packing([web], spread_nodes(LIKE, ZONES, 3), at_most=False)
    for node in list(packing.nodes):
        assert packing.lose([node]).fits
    assert packing.update() == []
    assert sorted(node.zone for _one, _number, node in packing.now().placed) == ZONES


@pytest.mark.parametrize("at_most", [False, True])
def test_the_most_is_what_autoscalers_may_ask(at_most: bool) -> None:
    found = nodes_needed([workload("web", 2, 8000, most=9)], LIKE, ZONES, at_most)
    assert found == (9 if at_most else 3)

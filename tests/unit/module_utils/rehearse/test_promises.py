"""Each promise, by what was seen."""

from __future__ import annotations

from collections import Counter

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rehearse import promises
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rehearse.promises import (
    ACCEPTED,
    FAILS,
    HOLDS,
    Loss,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rehearse.snapshot import (
    Pod,
    Room,
    Snapshot,
    taken,
)

ZONES = ("a", "b", "c")


def pod(number: int, zone: str = "", workload: str = "web", kind: str = "Deployment", why: str = "") -> Pod:
    node = f"node-{zone}" if zone else ""
    return Pod("shop", f"{workload}-{number}", kind, workload, node, zone, bool(zone), 100, 1024, why)


def snapshot(*pods: Pod, wanted: dict[str, int] | None = None, refused: dict[str, str] | None = None) -> Snapshot:
    nodes = [Room(f"node-{zone}", zone, "general", 8000, 1024**3) for zone in ZONES]
    return Snapshot(nodes, list(pods), wanted or {}, refused or {})


def test_all_scheduled_holds_and_names_who_waits_and_who_was_never_made():
    good = snapshot(pod(1, "a"), wanted={"Deployment shop/web": 1})
    assert promises.scheduled("scheduled", good, "here", "add nodes").result == HOLDS

    bad = snapshot(
        pod(1, "a"),
        pod(2, why="0/3 nodes are available: 3 Insufficient cpu."),
        wanted={"Deployment shop/web": 2, "Deployment shop/other": 3},
        refused={"Deployment shop/other": "exceeded quota: platform"},
    )
    found = promises.scheduled("scheduled", bad, "here", "add nodes")
    assert found.result == FAILS
    assert found.seen == (
        "1 of Deployment shop/web: 0/3 nodes are available: 3 Insufficient cpu.",
        "3 of Deployment shop/other are not made: exceeded quota: platform",
    )


def test_a_zone_s_share_is_the_number_over_the_zones_rounded_up():
    assert promises.uneven(snapshot(pod(1, "a"), pod(2, "a"), pod(3, "b"), pod(4, "c"))) == []
    (line,) = promises.uneven(snapshot(pod(1, "a"), pod(2, "a"), pod(3, "b")))
    assert "2 in a, 1 in b, 0 in c" in line
    # Agents of the nodes are where the nodes are.
    assert promises.uneven(snapshot(*(pod(number, "a", kind="DaemonSet") for number in range(3)))) == []


def test_an_empty_zone_counts_where_there_is_a_pod_for_each():
    assert promises.empty(snapshot(pod(1, "a"), pod(2, "b"))) == []
    (line,) = promises.empty(snapshot(pod(1, "a"), pod(2, "a"), pod(3, "b")))
    assert line == "Deployment shop/web: none of 3 in c"


def test_members_share_neither_zone_nor_node():
    members = [pod(number, zone, "postgresql", "StatefulSet") for number, zone in enumerate(ZONES)]
    assert promises.apart(snapshot(*members), "StatefulSet shop/postgresql") == []
    together = [*members[:2], pod(2, "b", "postgresql", "StatefulSet")]
    assert promises.apart(snapshot(*together), "StatefulSet shop/postgresql") == [
        "2 of StatefulSet shop/postgresql are in b",
        "2 of StatefulSet shop/postgresql are in node-b",
    ]


BOUND = "0/6 nodes are available: 6 node(s) had volume node affinity conflict."
NO_ROOM = "0/6 nodes are available: 6 Insufficient cpu."


@pytest.mark.parametrize(
    ("waiting", "running", "result"),
    [
        ([], {}, HOLDS),
        # Two of three are left.
        ([pod(1, workload="redis", kind="StatefulSet", why=BOUND)], {"StatefulSet shop/redis": 2}, HOLDS),
        # One of three is no majority.
        (
            [pod(number, workload="redis", kind="StatefulSet", why=BOUND) for number in (1, 2)],
            {"StatefulSet shop/redis": 1},
            FAILS,
        ),
        # Who is alone waits for its disk: that is said, and nothing else could be.
        ([pod(1, workload="prometheus", kind="StatefulSet", why=BOUND)], {}, HOLDS),
        ([pod(1, why=NO_ROOM)], {"Deployment shop/web": 5}, FAILS),
    ],
)  # fmt: skip
def test_a_lost_zone_keeps_what_its_disks_keep_and_nothing_else(waiting, running, result):
    loss = Loss("a lost", waiting=waiting, running=Counter(running))
    assert promises.lost("zone_lost", [loss], "good", "bad", "add nodes", whole_zone=True).result == result


def test_a_volume_in_the_lost_zone_keeps_its_pod_whatever_else_the_nodes_lack():
    """The scheduler says what a node lacks first, which is processor before it is a disk."""
    waits = Pod("shop", "db-1", "StatefulSet", "db", "", "", False, 100, 1, NO_ROOM, "a")
    running = Counter({"StatefulSet shop/db": 2})
    for zones, result in ((frozenset("bc"), HOLDS), (frozenset("abc"), FAILS)):
        loss = Loss("a lost", waiting=[waits], running=running, zones=zones)
        assert promises.lost("zone_lost", [loss], "good", "bad", "more", whole_zone=True).result == result


def test_a_spread_keeps_in_a_lost_zone_only_whoever_asks_for_so_many_zones():
    """Of all others the zones that are left have to take the share."""
    why = "0/8 nodes are available: 4 Insufficient cpu, 4 node(s) didn't match pod topology spread constraints."
    running = Counter({"Deployment shop/web": 2})
    for asks, result in ((True, HOLDS), (False, FAILS)):
        waits = Pod("shop", "web-1", "Deployment", "web", "", "", False, 100, 1, why, "", asks)
        loss = Loss("a lost", waiting=[waits], running=running)
        assert promises.lost("zone_lost", [loss], "good", "bad", "more", whole_zone=True).result == result


def test_a_lost_node_keeps_nobody():
    loss = Loss("node-a lost", waiting=[pod(1, workload="redis", kind="StatefulSet", why=BOUND)])
    found = promises.lost("node_lost", [loss], "good", "bad", "add nodes", whole_zone=False)
    assert found.result == FAILS
    assert found.seen == (f"node-a lost: 1 of StatefulSet shop/redis: {BOUND}",)


def test_a_drain_that_does_not_end_fails():
    loss = Loss("node-a drained", unfinished=("after 90 s shop/web-1 is still there: budget web",))
    assert promises.lost("drain", [loss], "good", "bad", "see", whole_zone=False).result == FAILS


def test_what_the_inventory_accepts_stands_in_the_report_and_fails_nothing():
    broken = promises.verdict("maxima_zone_lost", ["7 wait"], "good", "bad", "add nodes")
    assert promises.accepted(broken, []).result == FAILS
    assert promises.accepted(broken, ["maxima_zone_lost"]).result == ACCEPTED
    never = promises.verdict("scheduled", ["7 wait"], "good", "bad", "add nodes")
    assert promises.accepted(never, ["scheduled"]).result == FAILS


def test_moves_say_from_where_to_where():
    before = [pod(1, "a"), pod(2, "b")]
    after = [pod(2, "b"), pod(3, "c")]
    assert promises.moves(before, after, lambda one: one.zone == "a") == [
        {"workload": "Deployment shop/web", "from": "node-a", "to": "node-c"}
    ]
    assert promises.moves(before, [pod(2, "b")], lambda one: one.zone == "a")[0]["to"] == ""


# --- objects ----------------------------------------------------------------------------------------------------------


def live(name: str = "web-1", **changes) -> dict:
    metadata = {
        "name": name,
        "namespace": changes.pop("namespace", "shop"),
        "labels": {"app": "web", "pod-template-hash": "abc"},
        "annotations": changes.pop("annotations", {}),
        "ownerReferences": changes.pop("owners", [{"kind": "ReplicaSet", "name": "web-abc", "controller": True}]),
    }
    spec = {"containers": [{"name": "web", "resources": {"requests": {"cpu": "100m"}}}], **changes}
    return {"metadata": metadata, "spec": spec, "status": {"phase": "Running"}}


BUDGET = {
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {"selector": {"matchLabels": {"app": "web"}}},
    "status": {"disruptionsAllowed": 1},
}
EMPTY = [{"name": "tmp", "emptyDir": {}}]


@pytest.mark.parametrize(
    ("obj", "budgets", "blocks"),
    [
        (live(), [BUDGET], ""),
        (live(volumes=EMPTY), [BUDGET], "it has volumes on the node's disk: tmp"),
        (live(volumes=EMPTY, annotations={promises.LOCAL_VOLUMES: "tmp,other"}), [BUDGET], ""),
        (live(volumes=[{"name": "tmp", "emptyDir": {"medium": "Memory"}}]), [BUDGET], ""),
        (live(), [{**BUDGET, "status": {"disruptionsAllowed": 0}}], "the PodDisruptionBudget web allows no disruption"),
        (live(owners=[]), [], "it has no controller that would make it again"),
        (live(namespace="kube-system"), [], "it is in kube-system and has no PodDisruptionBudget"),
    ],
)
def test_what_keeps_a_node(obj, budgets, blocks):
    assert next(iter(promises.blockers([obj], budgets).values()), "") == blocks


def test_a_snapshot_of_objects_knows_workloads_zones_and_refusals():
    node = {
        "metadata": {"name": "general-a-1", "labels": {"topology.kubernetes.io/zone": "a"}},
        "status": {"allocatable": {"cpu": "7910m", "memory": "29Gi"}},
    }
    ends = live("web-2", nodeName="general-a-1")
    ends["metadata"]["deletionTimestamp"] = "2026-11-30T00:00:00Z"
    waits = live("web-3")
    waits["status"] = {
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "False", "message": f"{NO_ROOM} preemption: 0/6 nodes."}],
    }
    deployment = {
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"replicas": 4},
        "status": {"conditions": [{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}]},
    }
    rule = {"whenUnsatisfiable": "DoNotSchedule", "topologyKey": "topology.kubernetes.io/zone"}
    ours = [live(topologySpreadConstraints=[one]) for one in (rule, {**rule, "minDomains": 3})]
    assert [one.apart for one in taken([], ours, []).pods] == [False, True]
    found = taken([node], [live(nodeName="general-a-1"), ends, waits], [deployment])
    assert [(one.of, one.zone, one.why) for one in found.pods] == [
        ("Deployment shop/web", "a", ""),
        ("Deployment shop/web", "", NO_ROOM),
    ]
    assert found.nodes[0].pool == "general"
    assert found.nodes[0].cpu == 7910
    assert found.missing() == {"Deployment shop/web": 2}
    assert found.refused == {"Deployment shop/web": "exceeded quota"}

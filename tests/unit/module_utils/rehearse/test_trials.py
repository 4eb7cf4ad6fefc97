"""When nothing moves any more, and what is done to nodes, on a cluster of dictionaries."""

from __future__ import annotations

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rehearse import trials as subject
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rehearse.live import Live
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rehearse.nodes import Simulated
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rehearse.trials import Trials

from ..stand_in import stands_in_for

ZONE = "topology.kubernetes.io/zone"


@stands_in_for(Live, beside=("put", "drop"))
class FakeLive:
    """Its objects change when the cluster's methods are called, and only then."""

    def __init__(self) -> None:
        self.objects: dict[str, list[dict]] = {}

    def put(self, *objects: dict) -> None:
        for obj in objects:
            self.objects.setdefault(obj["kind"], []).append(obj)

    def drop(self, kind: str, name: str) -> None:
        self.objects[kind] = [obj for obj in self.objects[kind] if obj["metadata"]["name"] != name]

    def of(self, kind):
        return list(self.objects.get(kind, []))

    def wait(self, holds, _seconds):
        return holds() or holds()


@stands_in_for(Cluster, beside=())
class FakeCluster:
    def __init__(self, live: FakeLive, refuse: int = 0) -> None:
        self.live = live
        self.refuse = refuse
        self.patched: list[tuple[str, dict]] = []

    def path(self, ref):
        return ref["metadata"]["name"]

    def delete(self, ref):
        self.live.drop(ref["kind"], ref["name"])
        return True

    def patch(self, ref, body, _field_manager):
        self.patched.append((ref["name"], body))
        return {"metadata": {"uid": "", "generation": 1}}

    def request(self, method, path, body=None, about=None, timeout_seconds=0):
        if path.endswith("/eviction"):
            if self.refuse:
                self.refuse -= 1
                raise PlatformError("no", found="the budget web allows none", status=429)
            path = path.removesuffix("/eviction")
        self.live.drop("Pod", path)


REFUSED = {"type": "ReplicaFailure", "status": "True", "message": "quota"}


def node(name: str, zone: str) -> dict:
    return {
        "kind": "Node",
        "metadata": {"name": name, "labels": {ZONE: zone}},
        "status": {
            "allocatable": {"cpu": "8", "memory": "29Gi"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def pod(name: str, node_name: str = "", ready: bool = True, why: str = "") -> dict:
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    if why:
        conditions.append({"type": "PodScheduled", "status": "False", "message": why})
    return {
        "kind": "Pod",
        "metadata": {
            "name": name,
            "uid": name,
            "namespace": "shop",
            "labels": {"pod-template-hash": "abc"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": "web-abc", "controller": True}],
        },
        "spec": {"containers": [], **({"nodeName": node_name} if node_name else {})},
        "status": {"phase": "Running" if node_name else "Pending", "conditions": conditions},
    }


def deployment(replicas: int, conditions: tuple[dict, ...] = ()) -> dict:
    return {
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "uid": "web", "generation": 1},
        "spec": {"replicas": replicas},
        "status": {"observedGeneration": 1, "conditions": list(conditions)},
    }


@pytest.fixture
def live():
    found = FakeLive()
    found.put(node("general-a-1", "a"), node("general-b-1", "b"))
    return found


def trials(live: FakeLive, refuse: int = 0) -> Trials:
    cluster = FakeCluster(live, refuse)
    nodes = [Simulated("general-a-1", "a", "general"), Simulated("general-b-1", "b", "general")]

    def come(new):
        live.put(*(node(one.name, one.zone) for one in new))

    return Trials(cluster, cluster, live, nodes, come, lambda one: Simulated("general-a-2", one.zone, one.pool))


@pytest.mark.parametrize(
    ("objects", "settled"),
    [
        ([deployment(1), pod("web-1", "general-a-1")], True),
        # Its controller makes another one soon.
        ([deployment(2), pod("web-1", "general-a-1")], False),
        # It was refused: nothing more comes.
        (
            [deployment(2, (REFUSED,)), pod("web-1", "general-a-1")],
            True,
        ),
        # The scheduler has not answered, or has.
        ([deployment(1), pod("web-1")], False),
        ([deployment(1), pod("web-1", why="Insufficient cpu")], True),
        # Bound to a node that was going.
        ([deployment(1), pod("web-1", "general-a-9")], False),
    ],
)  # fmt: skip
def test_a_state_is_the_last_one_when_everybody_has_answered(live, objects, settled):
    live.put(*objects)
    assert (trials(live)._state(ready=False) is not None) == settled


def test_who_is_promised_a_node_is_waited_for_and_who_makes_room_ends_at_once(live):
    waits = pod("web-1", why="Insufficient cpu")
    waits["status"]["nominatedNodeName"] = "general-a-1"
    ends = pod("batch-1", "general-a-1")
    ends["metadata"]["deletionTimestamp"] = "2026-11-30T00:00:00Z"
    preempted = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}
    ends["status"]["conditions"].append(preempted)
    live.put(deployment(1), waits, ends)
    tried = trials(live)
    assert tried._state(ready=False) is None
    tried._hurry()
    assert [one["metadata"]["name"] for one in live.of("Pod")] == ["web-1"]


def test_who_asks_for_ready_waits_for_readiness(live):
    live.put(deployment(1), pod("web-1", "general-a-1", ready=False))
    assert trials(live)._state(ready=False) is not None
    assert trials(live)._state(ready=True) is None


def test_a_lost_node_takes_its_pods_and_another_comes_under_another_name(live):
    live.put(deployment(1), pod("web-1", "general-a-1"), pod("web-2", "general-b-1"))
    tried = trials(live)
    loss = tried.lose("general-a-1 lost", [tried.nodes[0]])
    assert [one["metadata"]["name"] for one in live.of("Pod")] == ["web-2"]
    assert {one["metadata"]["name"] for one in live.of("Node")} == {"general-b-1", "general-a-2"}
    assert {one.name for one in tried.nodes} == {"general-b-1", "general-a-2"}
    assert loss.moved == [{"workload": "Deployment shop/web", "from": "general-a-1", "to": ""}]
    assert loss.running["Deployment shop/web"] == 1
    assert len(loss.before) == 2 and len(loss.after) == 1


def test_a_drain_asks_again_where_a_budget_says_no(live):
    live.put(deployment(0), pod("web-1", "general-a-1"))
    tried = trials(live, refuse=2)
    loss = tried.drain(tried.nodes[0])
    assert loss.refusals == 2
    assert loss.unfinished == ()
    assert [body["spec"]["unschedulable"] for _name, body in tried.cluster.patched] == [True, None]


def test_a_drain_that_no_budget_ever_allows_ends_and_says_why(live, monkeypatch):
    monkeypatch.setattr(subject, "DRAIN_SECONDS", 0.5)
    live.put(deployment(1), pod("web-1", "general-a-1"))
    tried = trials(live, refuse=10_000)
    (line,) = tried.drain(tried.nodes[0]).unfinished
    assert "shop/web-1 is still there: the budget web allows none" in line


def test_autoscalers_targets_go_to_their_most_and_least(live):
    live.put(
        {
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "minReplicas": 2,
                "maxReplicas": 20,
            },
        }
    )
    tried = trials(live)
    tried.scale(at_most=True)
    tried.scale(at_most=False)
    assert [body["spec"]["replicas"] for _name, body in tried.cluster.patched] == [20, 2]
    live.put(deployment(1))
    assert tried.scaled(0) == ["Deployment shop/web has 1 of at least 2"]

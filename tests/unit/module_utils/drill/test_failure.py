"""What a failure hits, and how it is undone; against a cluster of dictionaries and a Docker of a socket."""

from __future__ import annotations

import http.server
import json
import socketserver
import threading

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.drill import failure as failures
from ansible_collections.lambda_microservice.platform.plugins.module_utils.drill.failure import (
    KINDS,
    docker_engine,
    evictable,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.exec import Ran

from ..stand_in import stands_in_for


def pod(name, node="worker-a", ready=True, created="2026-01-01T00:00:00Z", owner="ReplicaSet"):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "data",
            "uid": f"uid-{name}",
            "creationTimestamp": created,
            "ownerReferences": [{"kind": owner}],
        },
        "spec": {"nodeName": node},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": str(ready)}]},
    }


@stands_in_for(Cluster)
class World:
    """A cluster. Evictions are refused as often as ``budget`` says, then the pod goes."""

    def __init__(self, *pods, budget=0):
        self.pods = list(pods)
        self.budget = budget
        self.requests = []
        self.unschedulable = []
        self.cluster = "lambda"

    def list(self, api_version, kind, namespace=None, label_selector=None, field_selector=None):
        if kind == "Node":
            return [
                {
                    "metadata": {"name": name, "labels": {failures.ZONE: zone}},
                    "spec": {"providerID": f"kind://docker/{self.cluster}/{name}"},
                    "status": {"addresses": [{"type": "InternalIP", "address": f"172.18.0.{number}"}]},
                }
                for number, (name, zone) in enumerate((("worker-a", "one"), ("worker-b", "one"), ("worker-c", "two")))
            ]
        node = field_selector.split("=")[1] if field_selector else None
        return [found for found in self.pods if node in (None, found["spec"]["nodeName"])]

    def path(self, ref):
        return f"/{ref['metadata']['name']}"

    def request(self, method, path, body=None, about=None):
        self.requests.append((method, path, body))
        if path.endswith("/eviction"):
            if self.budget:
                self.budget -= 1
                raise PlatformError("disruption budget", status=429)
            self.pods.remove(about)

    def patch(self, ref, body, field_manager):
        self.unschedulable.append(body["spec"]["unschedulable"])


def make(kind, world, **spec):
    targets = {"redis": {"namespace": "data", "selector": "app=redis", **spec.pop("target", {})}}
    return KINDS[kind](world, {"target": "redis", **spec}, targets, lambda line: None)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(failures.time, "sleep", lambda seconds: None)


class Killers:
    """What the pod that kills was told, instead of a pod."""

    def __init__(self, cluster, image, field_manager):
        self.image, self.steps = image, []

    def start(self, node):
        self.steps.append(("start", node))

    def kill(self, pod, container):
        self.steps.append(("kill", pod["metadata"]["name"], container))

    def remove(self):
        self.steps.append(("remove",))


def test_killed_is_the_oldest_ready_pod_from_its_node(monkeypatch):
    monkeypatch.setattr(failures, "Killer", Killers)
    world = World(pod("new", created="2026-01-02T00:00:00Z"), pod("old", node="worker-b"), pod("older", ready=False))
    failure = make("kill_pod", world, image="load:1", target={"container": "redis"})
    failure.aim()
    # Before the load begins: a strike is short.
    assert (failure.nodes, failure.killer.steps) == (["worker-b"], [("start", "worker-b")])
    failure.strike()
    failure.heal()
    assert failure.killer.steps[1:] == [("start", "worker-b"), ("kill", "old", "redis"), ("remove",)]
    assert failure.killer.image == "load:1"
    assert world.requests == [], "a deletion is no kill: the pod leaves the network at once"


def test_the_target_is_who_says_so(monkeypatch):
    said = {"redis-0": "slave\n", "redis-1": "master\n"}
    monkeypatch.setattr(
        failures, "run_in_pod", lambda cluster, namespace, name, command, container: Ran(0, said[name], "")
    )
    failure = make(
        "delete_pod",
        World(pod("redis-0"), pod("redis-1", node="worker-c")),
        target={"command": ["role"], "prints": "master"},
    )
    failure.aim()
    assert failure.nodes == ["worker-c"]
    said["redis-1"] = "slave"
    with pytest.raises(PlatformError, match="one whose role prints master"):
        failure.strike()


def test_nobody_to_hit_is_said():
    with pytest.raises(PlatformError, match="0 ready pods with the labels app=redis"):
        make("delete_pod", World(pod("redis-0", ready=False))).aim()


def test_a_command_that_fails_is_told(monkeypatch):
    monkeypatch.setattr(failures, "run_in_pod", lambda *arguments, **options: Ran(1, "", "no leader"))
    failure = make("run_in_pod", World(pod("redis-0")), command=["switchover", "--leader", "{pod}"])
    with pytest.raises(PlatformError, match="switchover --leader redis-0") as error:
        failure.strike()
    assert "no leader" in str(error.value)


def test_drained_is_what_a_drain_evicts_and_budgets_are_waited_for():
    static = pod("static")
    static["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
    world = World(pod("app"), pod("other", node="worker-b"), pod("daemon", owner="DaemonSet"), static, budget=3)
    failure = make("drain_node", world)
    failure.aim()
    failure.strike()
    assert [found["metadata"]["name"] for found in world.pods] == ["other", "daemon", "static"]
    assert len(world.requests) == 4
    failure.heal()
    assert world.unschedulable == [True, None]


def test_a_pod_that_has_ended_is_not_evicted():
    ended = pod("job")
    ended["status"]["phase"] = "Succeeded"
    assert not evictable(ended)
    assert evictable(pod("app"))


# --- nodes -----------------------------------------------------------------------------------------------------------


class Docker(socketserver.ThreadingUnixStreamServer):
    """As much of Docker's API as is used."""

    daemon_threads = True

    def __init__(self, path):
        self.running = {"worker-a": True, "worker-b": True, "worker-c": True}
        self.cluster, self.network = "lambda", "172.18.0."
        self.asked = []
        self.broken = set()
        super().__init__(str(path), Answer)


class Answer(http.server.BaseHTTPRequestHandler):
    def _answer(self):
        self.server.asked.append(f"{self.command} {self.path}")
        node, what = self.path.removeprefix("/containers/").split("/")
        node = node.removeprefix("id-of-")
        if node not in self.server.running:
            return self._send(404, {"message": f"No such container: {node}"})
        if (node, what) in self.server.broken:
            return self._send(500, {"message": f"cannot {what} {node}"})
        if what == "json":
            number = sorted(self.server.running).index(node)
            found = {
                "Id": f"id-of-{node}",
                "State": {"Running": self.server.running[node]},
                "Config": {"Labels": {"io.x-k8s.kind.cluster": self.server.cluster}},
                "NetworkSettings": {"Networks": {"kind": {"IPAddress": f"{self.server.network}{number}"}}},
            }
            return self._send(200, found)
        self.server.running[node] = what == "start"
        return self._send(204)

    do_GET = do_POST = _answer

    def _send(self, status, content=None):
        body = json.dumps(content).encode() if content else b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if body:
            self.wfile.write(body)

    def address_string(self):
        return "unix"

    def log_message(self, *arguments):
        pass


@pytest.fixture
def docker(tmp_path, monkeypatch):
    server = Docker(tmp_path / "docker.sock")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 'docker.sock'}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(("zone", "stopped"), [(False, ["worker-b"]), (True, ["worker-a", "worker-b"])])
def test_nodes_are_stopped_and_only_those_are_started_again(docker, zone, stopped):
    failure = make("stop_nodes", World(pod("redis-0", node="worker-b")), zone=zone)
    failure.aim()
    failure.strike()
    assert failure.victims == stopped
    assert sorted(node for node, running in docker.running.items() if not running) == stopped
    failure.heal()
    assert all(docker.running.values())
    docker.asked.clear()
    failure.heal()
    assert not any("start" in asked for asked in docker.asked)


@pytest.mark.parametrize("step", ["start", "json"])
def test_a_node_that_cannot_be_started_does_not_keep_the_others_down(docker, step):
    failure = make("stop_nodes", World(pod("redis-0", node="worker-b")), zone=True)
    failure.aim()
    failure.strike()
    docker.broken = {("worker-a", step)}
    with pytest.raises(PlatformError, match=f"cannot {step} worker-a.*docker start worker-a"):
        failure.heal()
    assert docker.running == {"worker-a": False, "worker-b": True, "worker-c": True}
    docker.broken = {("worker-a", step), ("worker-b", "start")}
    docker.running["worker-b"] = False
    with pytest.raises(PlatformError, match="2 of 2 nodes are still down"):
        failure.heal()


@pytest.mark.parametrize("other", [{"cluster": "another"}, {"cluster": ""}, {"network": "172.19.0."}])
def test_a_container_of_another_cluster_is_left_alone(docker, other):
    """One of the same name, on a machine with several clusters."""
    vars(docker).update(other)
    failure = make("stop_nodes", World(pod("redis-0", node="worker-b")), zone=True)
    with pytest.raises(PlatformError, match="no container of this cluster"):
        failure.aim()
    failure.heal()
    assert all(docker.running.values())
    assert all(asked.endswith("/json") for asked in docker.asked)


def test_a_clouds_node_is_never_stopped(docker):
    world = World(pod("redis-0", node="worker-b"))
    world.cluster = "lambda/us-east-1a"
    with pytest.raises(PlatformError, match="no container of this cluster"):
        make("stop_nodes", world).aim()


def test_a_target_that_moved_to_another_node_is_not_hit(docker):
    moving = pod("redis-0", node="worker-b")
    failure = make("stop_nodes", World(moving))
    failure.aim()
    moving["spec"]["nodeName"] = "worker-c"
    with pytest.raises(PlatformError, match="moved"):
        failure.strike()
    assert all(docker.running.values())


def test_a_node_that_is_no_container_here_is_said(docker):
    with pytest.raises(PlatformError, match="No such container: ip-10-0-0-1"):
        docker_engine("POST", "/containers/ip-10-0-0-1/kill")


def test_no_other_machines_docker_is_asked(monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "tcp://192.0.2.1:2375")
    with pytest.raises(PlatformError, match="on this machine alone"):
        docker_engine("GET", "/version")


def test_a_docker_that_is_not_there_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(PlatformError, match="Docker does not answer"):
        docker_engine("GET", "/version")


def run_here(*command):
    return KINDS["run_here"](None, {"command": list(command)}, {}, lambda line: None)


def test_a_command_here_gets_none_of_the_task_s_input():
    failure = run_here("sh", "-c", '[ "$(readlink /proc/self/fd/0)" = /dev/null ]')
    failure.strike()
    assert failure.victims == ["sh"]


def test_what_a_command_here_says_of_its_failure_is_told():
    with pytest.raises(PlatformError, match=r"did not succeed\. Where: sh -c .*exit code 3: no such key"):
        run_here("sh", "-c", "echo no such key >&2; exit 3").strike()
    with pytest.raises(PlatformError, match="no-such-program"):
        run_here("no-such-program").strike()

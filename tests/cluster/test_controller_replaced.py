"""No request fails while pods of the controller and of Envoy come and go: 50 requests a second, counted by vegeta.

EDGE_URL and EDGE_CA_FILE name the edge, or it is the local one's. The platform must be disposable: pods are moved.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.edge import Edge

from .edge_load import AUTHORITY, HTTP2, KEPT, NEW, RATE, URL, Kubectl, Load, assert_no_failure, restart

pytestmark = pytest.mark.cluster


@pytest.fixture
def kubectl_in(kubeconfig: str) -> Callable[[str], Kubectl]:
    def in_namespace(namespace: str) -> Kubectl:
        def run(*arguments: str) -> str:
            command = ["kubectl", "--kubeconfig", kubeconfig, "--namespace", namespace, *arguments]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
            assert done.returncode == 0, done.stderr
            return done.stdout

        return run

    return in_namespace


@pytest.fixture
def controller(kubectl_in: Callable[[str], Kubectl]) -> Kubectl:
    return kubectl_in("controller")


@pytest.fixture
def replicas(controller: Kubectl) -> Iterator[Callable[[int], None]]:
    """``replicas(3)``: so many controllers, and the autoscaler's own bounds again at the end."""

    def bound(bounds: dict[str, int]) -> None:
        controller("patch", "hpa", "controller", "--type=merge", "-p", json.dumps({"spec": bounds}))

    def scale(count: int) -> None:
        bound({"minReplicas": count, "maxReplicas": count})
        controller("wait", "deployment/controller", f"--for=jsonpath={{.status.replicas}}={count}", "--timeout=120s")
        controller("rollout", "status", "deployment/controller", "--timeout=120s")

    before = json.loads(controller("get", "hpa", "controller", "-o", "json"))["spec"]
    yield scale
    bound({key: before[key] for key in ("minReplicas", "maxReplicas")})


def test_a_rolling_update_of_the_controller_fails_no_request(controller: Kubectl, tmp_path: Path) -> None:
    load = Load(tmp_path, KEPT)
    with load.running():
        restart(controller, "controller")
    assert_no_failure(load, "rolling update of the controller", RATE * 10)


def test_a_scale_down_of_the_controller_fails_no_request(
    replicas: Callable[[int], None], controller: Kubectl, tmp_path: Path
) -> None:
    replicas(3)
    load = Load(tmp_path, KEPT)
    # The pod that goes answers for SHUTDOWN_DELAY_SECONDS (5), and its requests end soon after.
    with load.running(after_seconds=15):
        replicas(2)
    assert_no_failure(load, "scale-down of the controller", RATE * 10)


def test_a_drain_of_a_node_of_the_controller_fails_no_request(controller: Kubectl, tmp_path: Path) -> None:
    selector = "app.kubernetes.io/name=controller"
    running = "--field-selector=status.phase=Running"
    pods = json.loads(controller("get", "pods", "-l", selector, running, "-o", "json"))["items"]
    node = pods[0]["spec"]["nodeName"]
    load = Load(tmp_path, KEPT)
    with load.running():
        controller("cordon", node)
        try:
            # The node as the controller sees it: its own pods are evicted, under their budget.
            options = ["--ignore-daemonsets", "--delete-emptydir-data", "--timeout=120s"]
            controller("drain", node, f"--pod-selector={selector}", *options)
            controller("rollout", "status", "deployment/controller", "--timeout=120s")
        finally:
            controller("uncordon", node)
    assert_no_failure(load, "drain of a node of the controller", RATE * 10)


@pytest.mark.parametrize(
    "connections", [KEPT, NEW, HTTP2], ids=["kept connections", "a new connection for each", "one HTTP/2 connection"]
)
def test_a_rolling_restart_of_envoy_fails_no_request(
    connections: list[str], kubectl_in: Callable[[str], Kubectl], tmp_path: Path
) -> None:
    # A handshake costs more than a request.
    load = Load(tmp_path, connections, rate=RATE if connections != NEW else RATE // 2)
    with load.running():
        restart(kubectl_in("ingress"), "envoy")
    assert_no_failure(load, "rolling restart of Envoy", RATE * 5)


@pytest.mark.parametrize(("namespace", "app"), [("controller", "controller"), ("ingress", "envoy")])
def test_an_execution_in_flight_ends_before_its_pod_does(
    namespace: str, app: str, kubectl_in: Callable[[str], Kubectl]
) -> None:
    """Long enough to be there when each has waited its 5 s and closes what is idle."""
    edge = Edge(URL, ca_file=AUTHORITY)
    script = "await new Promise(done => setTimeout(done, 20000)); return params.n;"
    session = edge.initialize("nodejs", script, {})["request_id"]
    with ThreadPoolExecutor(2) as callers:
        # Sent once each: whoever sends again hides what was lost.
        path = f"/api/v1/execute/{session}"
        answers = [callers.submit(edge.call, "POST", path, {"params": {"n": n}}) for n in range(2)]
        time.sleep(1)
        restart(kubectl_in(namespace), app)
        assert [(answer.result().status, answer.result().json()["result"]) for answer in answers] == [
            (200, 0),
            (200, 1),
        ]

"""Three alerts as they are met with, down to who is told: Redis' master is killed, the repository of PostgreSQL's
backups is away, and the runtimes of a language are full. The platform with monitoring_enabled: true.

All at once, as each alert has its time: RuntimePlacesUsed lasts 3 minutes before it is told, PostgresqlWalNotArchived
7 after the last segment that was archived, and what is of severity P3 gathers for 5. That one is over is told at most
5 minutes later.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
import yaml
from ansible_collections.lambda_microservice.platform.plugins.module_utils.drill.failure import KillPod
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.exec import run_in_pod
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.forward import get_from_pod
from ansible_collections.lambda_microservice.platform.plugins.module_utils.prometheus.prometheus import Prometheus

from . import checkout
from .checkout import ROOT, playbook, run, until
from .sleeping import Callers

pytestmark = pytest.mark.cluster

MONITORING, DATA, FUNCTIONS = "monitoring", "data-services", "openfaas-fn"
RECEIVER, PORT = "alert-receiver", 8080
EXPECTED = {
    # The alert, its severity, and within how many seconds of the failure it has to be told.
    "RuntimePlacesUsed": ("P2", 480),
    "RedisFailedOver": ("P3", 480),
    "PostgresqlWalNotArchived": ("P2", 660),
}
OVER_SECONDS = 540
SLEEP_SECONDS = 20

# Keeps what it is told, and gives it back.
PROGRAM = f"""
import http.server, json

told = []

class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.answer({{}})

    def do_GET(self):
        self.answer(told)

    def answer(self, content):
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

http.server.ThreadingHTTPServer(("", {PORT}), Receiver).serve_forever()
"""


def selected(namespace: str, app: str) -> dict[str, Any]:
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": app}},
    }


def receiver_objects(namespace: str) -> list[dict[str, Any]]:
    """The pod and its Service, the ways there, and the Secret with its address for Alertmanager."""
    labels = {"app.kubernetes.io/name": RECEIVER}
    here = {"name": RECEIVER, "namespace": namespace, "labels": labels}
    there = {"name": f"test-{RECEIVER}", "namespace": MONITORING, "labels": labels}
    ports = [{"protocol": "TCP", "port": PORT}]
    locked = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    container = {
        "name": "receiver",
        "image": checkout.image("kube-state-exporter"),
        "command": ["python3", "-c", PROGRAM],
        "securityContext": locked,
        "resources": {"requests": {"cpu": "5m", "memory": "24Mi"}, "limits": {"memory": "64Mi"}},
    }
    pod = {
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "terminationGracePeriodSeconds": 1,
        "containers": [container],
    }
    into = {"from": [selected(MONITORING, "alertmanager")], "ports": ports}
    out = {"to": [selected(namespace, RECEIVER)], "ports": ports}
    policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
    return [
        {**policy, "metadata": here,
         "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [into]}},
        {**policy, "metadata": there,
         "spec": {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "alertmanager"}},
                  "policyTypes": ["Egress"], "egress": [out]}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": there,
         "stringData": {"url": f"http://{RECEIVER}.{namespace}.svc:{PORT}/"}},
        {"apiVersion": "v1", "kind": "Service", "metadata": here, "spec": {"selector": labels, "ports": ports}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": here, "spec": pod},
    ]  # fmt: skip


class Told:
    """What the receiver was told."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace

    def alerts(self) -> list[dict[str, Any]]:
        """Every alert of every notification, the oldest first."""
        try:
            body = get_from_pod(self.cluster, self.namespace, RECEIVER, PORT, "/")
        except PlatformError:  # it starts, or the API server is busy
            return []
        return [alert for notification in json.loads(body) for alert in notification["alerts"]]

    def of(self, name: str, status: str, seconds: float) -> dict[str, Any]:
        """The first alert of that name and status, once it is told."""
        ends = time.monotonic() + seconds
        while True:
            seen = self.alerts()
            for alert in seen:
                if alert["labels"]["alertname"] == name and alert["status"] == status:
                    return alert
            named = sorted({f"{alert['labels']['alertname']} {alert['status']}" for alert in seen})
            assert time.monotonic() < ends, f"{name} was not told as {status} within {seconds:g} s, but {named}"
            time.sleep(5)


def site(**variables: Any) -> None:
    code, said = playbook("site.yml", "--tags", "monitoring", **variables)
    assert code == 0, said


def try_it(cluster: Cluster, told: Told) -> bool:
    """Whether an alert that amtool adds comes: before, and not after everything is broken."""
    command = ["amtool", "--alertmanager.url=http://127.0.0.1:9093", "alert", "add", "ReceiverTried", "severity=P1"]
    try:
        run_in_pod(cluster, MONITORING, "alertmanager-platform-0", command, container="alertmanager")
    except PlatformError:  # its pod is replaced
        return False
    time.sleep(5)
    return any(alert["labels"]["alertname"] == "ReceiverTried" for alert in told.alerts())


@pytest.fixture(scope="module")
def told(cluster: Cluster, own_namespace: str) -> Iterator[Told]:
    """A receiver of the test's own, which Alertmanager has while the tests run."""
    restricted = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    cluster.patch({"apiVersion": "v1", "kind": "Namespace", "name": own_namespace}, restricted, "test")
    amtool = ROOT / ".local" / "amtool"
    run(ROOT / "tools" / "go-programs", "amtool", amtool, seconds=1800)
    receiver = {"name": "test", "type": "webhook", "secret": {"name": f"test-{RECEIVER}", "key": "url"}}
    with ExitStack() as stack:
        for each in receiver_objects(own_namespace):
            cluster.apply(each, "test")
            stack.callback(cluster.delete, each)
        told = Told(cluster, own_namespace)
        stack.callback(site)
        site(monitoring_receivers=[receiver], monitoring_amtool_binary=str(amtool / "amtool"))
        until(lambda: try_it(cluster, told), 240)
        yield told


@contextmanager
def repository_away(cluster: Cluster) -> Iterator[None]:
    """And a segment that wants to be archived."""
    ref = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "postgresql-repository", "namespace": DATA}
    replicas = cluster.get(ref)["spec"]["replicas"]
    (primary,) = cluster.list("v1", "Pod", DATA, "app.kubernetes.io/name=postgresql,role=primary")
    query = "select pg_logical_emit_message(true, 'test', 'x'), pg_switch_wal()"
    psql = ["psql", "-h", "/var/run/postgresql", "-U", "postgres", "-d", "lambda", "-X", "-q", "-c", query]
    cluster.patch(ref, {"spec": {"replicas": 0}}, "test")
    try:
        until(lambda: not cluster.list("v1", "Pod", DATA, "app.kubernetes.io/name=postgresql-repository"), 120)
        ran = run_in_pod(cluster, DATA, primary["metadata"]["name"], psql, container="postgresql")
        assert ran.code == 0, ran.stderr
        yield
    finally:
        cluster.patch(ref, {"spec": {"replicas": replicas}}, "test")
        until(lambda: cluster.get(ref)["status"].get("readyReplicas", 0) == replicas, 180)


def kill_redis_master(cluster: Cluster, image: str) -> None:
    """As the drill of that name does."""
    table = (ROOT / "playbooks/vars/drills.yml").read_text(encoding="utf-8")
    named = table.replace("{{ __platform.data_services_namespace }}", DATA)
    drills = yaml.safe_load(named)
    (drill,) = [row for row in drills["drill_table"] if row["name"] == "Redis master killed"]
    failure = KillPod(cluster, {**drill["failure"], "image": image}, drills["drill_targets"], print)
    try:
        failure.aim()
        failure.strike()
    finally:
        failure.heal()


@contextmanager
def places_taken(cluster: Cluster) -> Iterator[None]:
    """All of the runtimes for Python, and those of the pods that start for them."""
    prometheus, over = Prometheus(cluster, MONITORING), threading.Event()
    limit = {"query": 'sum(lambda_runtime_concurrency_limit{language="python"})'}
    with Callers(SLEEP_SECONDS) as callers:

        def fill() -> None:
            while not over.is_set():
                with suppress(PlatformError):
                    (found,) = prometheus.ask("query", limit)["result"]
                    callers.at_least(int(found["value"][1]))
                over.wait(5)

        filling = threading.Thread(target=fill)
        filling.start()
        try:
            yield
        finally:
            over.set()
            filling.join()


@pytest.fixture(scope="module")
def failures(cluster: Cluster, image: str, told: Told) -> Iterator[tuple[ExitStack, float]]:
    """All three: what ends those that do not end by themselves, and when they began."""
    before = {alert["labels"]["alertname"] for alert in Prometheus(cluster, MONITORING).ask("alerts")["alerts"]}
    assert not before & EXPECTED.keys(), "these are alerts already: wait until they are over"
    with ExitStack() as stack:
        stack.enter_context(places_taken(cluster))
        stack.enter_context(repository_away(cluster))
        kill_redis_master(cluster, image)
        yield stack, time.monotonic()


@pytest.mark.parametrize("name", EXPECTED)
def test_it_is_told(name: str, told: Told, failures: tuple[ExitStack, float]) -> None:
    (severity, within), began = EXPECTED[name], failures[1]
    alert = told.of(name, "firing", began + within - time.monotonic())
    print(f"{name} was told {time.monotonic() - began:.0f} s after the failure: {alert['annotations']['description']}")
    assert alert["labels"]["severity"] == severity
    assert "/docs/runbooks/" in alert["annotations"]["runbook_url"]


def test_that_it_is_over_is_told(told: Told, failures: tuple[ExitStack, float]) -> None:
    """But of Redis, whose other master is told for a quarter of an hour."""
    failures[0].close()
    began = time.monotonic()
    for name in EXPECTED.keys() - {"RedisFailedOver"}:
        told.of(name, "resolved", began + OVER_SECONDS - time.monotonic())
        print(f"{name} was told to be over {time.monotonic() - began:.0f} s after its cause was")

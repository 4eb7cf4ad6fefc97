"""The checks of the mesh, on a cluster whose pods answer what the test says."""

from __future__ import annotations

import copy
import json
import socketserver
import subprocess
import threading

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.exec import Ran
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify import mesh
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.checks import Doubtful, Passed

from ..stand_in import stands_in_for

OPTIONS = {
    "namespace": "istio-system",
    "workloads": ["ingress/envoy", "controller/controller"],
    "caller": {"namespace": "ingress", "app": "envoy", "container": "envoy"},
    "called": {"namespace": "controller", "app": "controller", "host": "c", "port": 8080, "path": "/health"},
    "uncalled": {"namespace": "functions", "app": "python-runtime", "host": "p", "port": 8080, "path": "/health"},
}
OK = "HTTP/1.1 200 OK\nserver: istio-envoy\n"


def pod(namespace, app, ready=True, proxied=True):
    return {
        "metadata": {"name": f"{app}-0", "namespace": namespace, "labels": {"app.kubernetes.io/name": app}},
        "spec": {
            "containers": [{"name": app}],
            "initContainers": [{"name": "istio-proxy", "restartPolicy": "Always"}] if proxied else [],
        },
        "status": {"podIP": "10.0.0.9", "conditions": [{"type": "Ready", "status": str(ready)}]},
    }


def told(name, acked="1", version="1.31.4"):
    parts = {f"{part}_sent": "1" for part in ("cluster", "listener", "route", "endpoint")}
    taken = {f"{part}_acked": acked for part in ("cluster", "listener", "route", "endpoint")}
    return {"proxy": name, "istio_version": version, **parts, **taken}


def certs(uri):
    return json.dumps({"certificates": [{"cert_chain": [{"subject_alt_names": [{"uri": uri}]}]}]})


@stands_in_for(Cluster)
class Meshed:
    """Pods, and what commands in them print: by container, or by pod and container."""

    def __init__(self, monkeypatch, pods=None, synced=None, says=None):
        self.pods = pods or [
            pod("ingress", "envoy"),
            pod("controller", "controller"),
            pod("functions", "python-runtime"),
        ]
        names = ("envoy-0.ingress", "controller-0.controller")
        self.synced = [told(name) for name in names] if synced is None else synced
        self.says = says or {}
        monkeypatch.setattr(mesh, "run_in_pod", self._run)

    def list(self, api_version, kind, namespace=None, label_selector=None, field_selector=None):
        if label_selector == "app=istiod":
            return [pod("istio-system", "istiod")]
        app = (label_selector or "").rpartition("=")[2]
        return copy.deepcopy(
            [
                one
                for one in self.pods
                if one["metadata"]["namespace"] == namespace
                and (not app or one["metadata"]["labels"]["app.kubernetes.io/name"] == app)
            ]
        )

    def _run(self, cluster, namespace, name, command, *, container=None, stdin=None, timeout_seconds=20):
        if container == "discovery":
            return Ran(0, json.dumps(self.synced), "")
        if command[0] == "pilot-agent":
            logged = "2026-12-01T13:17:06.531452Z\twarn\tOS CA Cert could not be found for agent\n"
            return Ran(
                0, logged + certs(self.says.get(name, f"spiffe://cluster.local/ns/{namespace}/sa/{name[:-2]}")), ""
            )
        asked = command[-4]
        return Ran(0, self.says.get((container, asked), {"envoy": OK, "istio-proxy": ""}[container]), "")


def test_every_pod_has_a_proxy_in_step(monkeypatch):
    found = mesh.mesh_proxies(Meshed(monkeypatch), OPTIONS, 0)
    assert isinstance(found, Passed) and "2 pods" in found.detail and "1.31.4" in found.detail


def test_a_pod_without_a_proxy_is_named(monkeypatch):
    cluster = Meshed(monkeypatch, [pod("ingress", "envoy"), pod("controller", "controller", proxied=False)])
    with pytest.raises(PlatformError) as refusal:
        mesh.mesh_proxies(cluster, OPTIONS, 0)
    assert refusal.value.where == "controller/controller-0"


@pytest.mark.parametrize(
    "synced",
    [
        [told("envoy-0.ingress")],
        [told("envoy-0.ingress"), told("controller-0.controller", acked="0")],
    ],
    ids=["not connected", "not taken"],
)
def test_a_proxy_that_does_not_know_what_it_should_is_named(monkeypatch, synced):
    with pytest.raises(PlatformError) as refusal:
        mesh.mesh_proxies(Meshed(monkeypatch, synced=synced), OPTIONS, 0)
    assert refusal.value.where == "controller-0.controller"


def test_two_versions_are_worth_a_word(monkeypatch):
    synced = [told("envoy-0.ingress", version="1.30.0"), told("controller-0.controller")]
    found = mesh.mesh_proxies(Meshed(monkeypatch, synced=synced), OPTIONS, 0)
    assert isinstance(found, Doubtful) and "1.30.0" in found.warning


def test_each_shows_the_certificate_of_its_service_account(monkeypatch):
    assert isinstance(mesh.mesh_identities(Meshed(monkeypatch), OPTIONS), Passed)
    other = Meshed(monkeypatch, says={"controller-0": "spiffe://cluster.local/ns/controller/sa/default"})
    with pytest.raises(PlatformError) as refusal:
        mesh.mesh_identities(other, OPTIONS)
    assert refusal.value.expected == "spiffe://cluster.local/ns/controller/sa/controller"


def test_one_with_a_certificate_is_answered_and_one_without_is_not(monkeypatch):
    assert isinstance(mesh.mesh_mutual_tls(Meshed(monkeypatch), OPTIONS), Passed)
    with pytest.raises(PlatformError, match="plain text"):
        mesh.mesh_mutual_tls(Meshed(monkeypatch, says={("istio-proxy", "c"): OK}), OPTIONS)
    with pytest.raises(PlatformError, match="gets no answer"):
        mesh.mesh_mutual_tls(Meshed(monkeypatch, says={("envoy", "c"): ""}), OPTIONS)


def test_what_no_flow_names_is_refused_by_whomever(monkeypatch):
    with pytest.raises(PlatformError, match="no flow names"):
        mesh.mesh_refused(Meshed(monkeypatch), OPTIONS)
    for answer in ("", "HTTP/1.1 500 Internal Server Error", "HTTP/1.1 503 Service Unavailable"):
        found = mesh.mesh_refused(Meshed(monkeypatch, says={("envoy", "p"): answer}), OPTIONS)
        assert isinstance(found, Passed)


class _Answering(socketserver.StreamRequestHandler):
    def handle(self):
        # All of it: what is left unread when a connection is closed resets it.
        self.server.asked = list(iter(lambda: self.rfile.readline().decode(), "\r\n"))
        self.wfile.write(b"HTTP/1.1 200 OK\r\nserver: x\r\n\r\nbody\r\n")


def test_the_question_is_asked_with_bash_alone_and_gives_the_answers_head():
    with socketserver.TCPServer(("127.0.0.1", 0), _Answering) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        words = ["the.host", "127.0.0.1", str(server.server_address[1]), "/health"]
        done = subprocess.run(["bash", "-c", mesh._ASK, *words], capture_output=True, text=True, timeout=20)
        assert done.stdout == "HTTP/1.1 200 OK\nserver: x\n"
        assert server.asked == ["GET /health HTTP/1.1\r\n", "host: the.host\r\n", "connection: close\r\n"]

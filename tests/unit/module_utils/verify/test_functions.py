"""The checks of functions, against a gateway that keeps what it is told."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.forward import Answer
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify import edge as edges
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify import functions
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.edge import Edge

from ..stand_in import stands_in_for

OPTIONS = {
    "namespace": "openfaas",
    "language": "python",
    "registered": True,
    "gateway": "gateway",
    "port": 8080,
    "credentials": "basic-auth",
}
PASSWORD = "s3cret"


def answer(status: int, body: Any = None, **headers: str) -> Answer:
    return Answer(status, headers, b"" if body is None else json.dumps(body).encode())


@stands_in_for(Cluster)
class Pods:
    def __init__(self, ready: bool = True) -> None:
        self._ready = "True" if ready else "False"

    def list(self, _api_version, _kind, namespace=None, label_selector=None):
        assert (namespace, label_selector) == ("openfaas", "app.kubernetes.io/name=gateway")
        conditions = [{"type": "Ready", "status": self._ready}]
        return [{"metadata": {"name": "gateway-a"}, "status": {"phase": "Running", "conditions": conditions}}]

    def get(self, ref):
        assert (ref["kind"], ref["name"], ref["namespace"]) == ("Secret", "basic-auth", "openfaas")
        pair = {"basic-auth-user": "admin", "basic-auth-password": PASSWORD}
        return {"data": {key: base64.b64encode(value.encode()).decode() for key, value in pair.items()}}


class Platform:
    """What gateway and controller keep; ``broken`` are paths' beginnings that answer otherwise."""

    def __init__(self, broken: dict[str, Answer] | None = None) -> None:
        self.broken = broken or {}
        self.containers: dict[str, int] = {}
        self.registered: set[str] = set()

    def ask(self, _cluster, namespace, pod, port, method, path, *, body=None, headers=None, timeout_seconds=30):
        assert (namespace, pod, port) == ("openfaas", "gateway-a", 8080)
        if path.startswith("/system/"):
            assert headers["Authorization"] == "Basic " + base64.b64encode(f"admin:{PASSWORD}".encode()).decode()
        else:
            assert "Authorization" not in headers
        for beginning, other in self.broken.items():
            if f"{method} {path}".startswith(beginning):
                return other
        return self.answer(method, path, json.loads(body) if body else None)

    def answer(self, method: str, path: str, body: Any) -> Answer:
        name = path.split("/")[2 if path.startswith(("/function", "/async")) else -1]
        if path == "/system/functions":
            if method == "GET":
                return answer(200, [{"name": each} for each in self.registered])
            if method == "POST":
                assert body["image"] == "registry/python@sha256:1"
                self.containers[body["service"]] = 1
            elif self.containers.pop(body["functionName"], None) is None:
                return answer(404)
            return answer(202)
        if path == "/system/function/python-runtime":
            return answer(200, {"image": "registry/python@sha256:1"})
        if path.startswith("/system/function/"):
            count = self.containers.get(name)
            return answer(404) if count is None else answer(200, {"availableReplicas": count})
        if path.startswith("/system/scale-function/"):
            self.containers[name] = body["replicas"]
            return answer(202)
        if path.startswith("/async-function/") and method == "POST":
            total = sum(body["params"]["numbers"])
            self.kept = base64.b64encode(json.dumps({"result": {"total": total}}).encode()).decode()
            return answer(202, None, **{"x-call-id": "call-1"})
        if path == "/async-function/call-1":
            return answer(200, {"state": "done", "status": 200, "body": self.kept})
        if name in self.registered:
            return answer(200, {"total": sum(body["numbers"])})
        return answer(200 if name in self.containers and path.endswith("/health") else 404)


@pytest.fixture
def platform(monkeypatch):
    def begin(broken: dict[str, Answer] | None = None) -> Platform:
        made = Platform(broken)
        monkeypatch.setattr(functions, "ask_pod", made.ask)
        return made

    return begin


def edge(made: Platform, monkeypatch, status: int | None = None) -> Edge:
    it = Edge("https://edge.example")

    def call(method, path, body=None, headers=None, plain=False, proof=True):
        name = path.rpartition("/")[2]
        if path.startswith("/function/"):
            result = {"result": {"total": sum(body["params"]["numbers"])}}
            return edges.Answer(status or 200, {}, json.dumps(result).encode())
        if method == "PUT":
            made.registered.add(name)
            return edges.Answer(201, {}, b"{}")
        made.registered.discard(name)
        return edges.Answer(200, {}, b"{}")

    monkeypatch.setattr(it, "call", call)
    return it


def test_a_function_of_each_kind_is_called_and_nothing_is_left(platform, monkeypatch):
    made = platform()
    it = edge(made, monkeypatch)
    assert "python-runtime" in functions.runtime_called(it, OPTIONS).detail
    assert "removed" in functions.registered_called(Pods(), it, OPTIONS).detail
    assert "scaled to 2" in functions.container_called(Pods(), OPTIONS, 0).detail
    assert "kept" in functions.queued_call(Pods(), OPTIONS, 0).detail
    assert not made.containers and not made.registered


def test_a_runtime_that_cannot_be_called_is_a_failure(platform, monkeypatch):
    with pytest.raises(PlatformError, match="cannot be called as a function"):
        functions.runtime_called(edge(platform(), monkeypatch, 502), OPTIONS)


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        ({"POST /system/functions": answer(400, "no such image")}, "400 .*no such image"),
        ({"POST /system/scale-function": answer(500)}, "500"),
        ({"DELETE /system/functions": answer(500)}, "500"),
    ],
)
def test_a_container_that_cannot_be_had_is_a_failure(platform, broken, found):
    made = platform(broken)
    with pytest.raises(PlatformError, match="answers otherwise") as failure:
        functions.container_called(Pods(), OPTIONS, 0)
    assert failure.match(found)
    assert PASSWORD not in str(failure.value)
    # It is removed whatever failed, unless that is what failed.
    assert bool(made.containers) is ("DELETE /system/functions" in broken)


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        ({"POST /async-function": answer(501, "this gateway has no queue")}, "501"),
        ({"GET /async-function": answer(200, {"state": "dead", "reason": "the function is away"})}, "is away"),
        ({"GET /async-function": answer(200, {"state": "queued"})}, "queued"),
        ({"GET /async-function": answer(200, {"state": "done", "status": 200, "body": "e30="})}, "done"),
    ],
)
def test_a_queued_call_without_its_result_is_a_failure(platform, broken, found):
    platform(broken)
    with pytest.raises(PlatformError, match="answers otherwise") as failure:
        functions.queued_call(Pods(), OPTIONS, 0)
    assert failure.match(found)


def test_a_gateway_that_is_not_ready_is_said(platform):
    platform()
    with pytest.raises(PlatformError, match="the gateway is not ready"):
        functions.queued_call(Pods(ready=False), OPTIONS, 0)


def test_a_registered_function_is_removed_whatever_fails(platform, monkeypatch):
    made = platform({"POST /function/": answer(503)})
    with pytest.raises(PlatformError, match="503"):
        functions.registered_called(Pods(), edge(made, monkeypatch), OPTIONS)
    assert not made.registered

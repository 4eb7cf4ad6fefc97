"""Grafana's API as its documentation has it, and what the check says of it. Its image is in no registry of packages."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify import grafana
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.checks import Passed

OPTIONS = {
    "namespace": "monitoring",
    "pod": "grafana-0",
    "port": 3000,
    "secret": "grafana",
    "sources": ["prometheus", "postgresql"],
}
HEALTHY = {"message": "Database Connection OK", "status": "OK"}


class Cluster:
    """Has the Secret, or none."""

    def __init__(self, **data: str) -> None:
        self.data = {key.replace("_", "-"): base64.b64encode(text.encode()).decode() for key, text in data.items()}

    def get(self, ref: dict[str, str]) -> dict[str, Any] | None:
        assert (ref["kind"], ref["namespace"], ref["name"]) == ("Secret", "monitoring", "grafana")
        return {"data": self.data} if self.data else None


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Grafana's answers by path, to whoever signs in as admin with the password `right`."""

    def prepare(known: list[str], **health: Any) -> None:
        def get_from_pod(_cluster: Any, namespace: str, pod: str, port: int, path: str, *, headers: Any) -> bytes:
            assert (namespace, pod, port) == ("monitoring", "grafana-0", 3000)
            if base64.b64decode(headers["Authorization"].removeprefix("Basic ")) != b"admin:right":
                raise PlatformError("otherwise", found="401 Unauthorized: ...", reason="answer", status=401)
            if path == "/api/datasources":
                return json.dumps([{"uid": uid, "name": uid} for uid in known]).encode()
            answer = health.get(path.split("/")[-2], HEALTHY)
            if isinstance(answer, PlatformError):
                raise answer
            return json.dumps(answer).encode()

        monkeypatch.setattr(grafana, "get_from_pod", get_from_pod)

    return prepare


def look(cluster: Cluster) -> Any:
    return grafana.grafana_sources(cluster, OPTIONS)  # type: ignore[arg-type]


def test_a_grafana_that_shows_everything(answers: Any) -> None:
    answers(["prometheus", "postgresql", "another"])
    assert look(Cluster(admin_password="right")) == Passed("admin may sign in; prometheus, postgresql answer")


def test_a_wrong_password_is_one_error_without_it(answers: Any) -> None:
    answers(["prometheus", "postgresql"])
    with pytest.raises(PlatformError, match="does not take the password") as raised:
        look(Cluster(admin_password="wr0ng-0ne"))
    assert raised.value.reason == "credentials"
    assert "reset-admin-password" in raised.value.fix
    assert "wr0ng-0ne" not in str(raised.value.result())


@pytest.mark.parametrize(
    ("cluster", "found"), [(Cluster(), "no such Secret"), (Cluster(secret_key="x"), "the keys secret-key")]
)
def test_a_secret_that_lacks_it(answers: Any, cluster: Cluster, found: str) -> None:
    answers(["prometheus", "postgresql"])
    with pytest.raises(PlatformError, match="is not there") as raised:
        look(cluster)
    assert raised.value.found == found


def test_an_unknown_data_source_is_named(answers: Any) -> None:
    answers(["prometheus"])
    with pytest.raises(PlatformError, match="does not know a data source") as raised:
        look(Cluster(admin_password="right"))
    assert raised.value.found == "prometheus, without postgresql"


@pytest.mark.parametrize(
    ("health", "found"),
    [
        ({"message": "pq: password refused", "status": "ERROR"}, "ERROR: pq: password refused"),
        (PlatformError("x", found="400 Bad Request: no", reason="answer", status=400), "400 Bad Request: no"),
    ],
)
def test_a_data_source_that_does_not_answer_is_named(answers: Any, health: Any, found: str) -> None:
    answers(["prometheus", "postgresql"], postgresql=health)
    with pytest.raises(PlatformError, match="does not answer Grafana") as raised:
        look(Cluster(admin_password="right"))
    assert raised.value.where == "Pod monitoring/grafana-0, data source postgresql"
    assert raised.value.found == found


def test_a_grafana_that_is_not_there_is_no_wrong_password(answers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_where: Any, **_options: Any) -> bytes:
        raise PlatformError("a pod cannot be reached through the API server", reason="unreachable")

    monkeypatch.setattr(grafana, "get_from_pod", away)
    with pytest.raises(PlatformError, match="cannot be reached"):
        look(Cluster(admin_password="right"))

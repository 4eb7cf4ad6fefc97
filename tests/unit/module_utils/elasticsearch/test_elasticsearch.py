"""What is written to Elasticsearch, by the real curl in a shell, over TLS.

No registry has Elasticsearch: what answers stands in for it, as its documentation says that it answers, with settings
as strings and the defaults that it adds.
"""

from __future__ import annotations

import base64
import http.server
import json
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.elasticsearch import elasticsearch, requests
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.exec import Ran
from ansible_collections.lambda_microservice.platform.plugins.module_utils.secret import certificate

from tests.unit.module_utils.stand_in import stands_in_for

USER, PASSWORD = "platform", 'pa"ss\\word'
ILM = {
    "path": "/_ilm/policy/logs",
    "body": {"policy": {"phases": {"delete": {"min_age": "90d", "actions": {"delete": {}}}}}},
}
TEMPLATE = {
    "path": "/_index_template/logs",
    "body": {"index_patterns": ["logs-*"], "priority": 500, "template": {"settings": {"index": {"hidden": True}}}},
}
STREAM = {"path": "/_data_stream/logs-platform-default", "body": None}
SNAPSHOTS = {"path": "/_slm/policy/logs", "body": {"name": "<logs>", "retention": {"min_count": 3}}}
REPOSITORY = {"path": "/_snapshot/backup", "body": {"type": "s3", "settings": {"bucket": "b"}}}
ALL = [ILM, TEMPLATE, STREAM, SNAPSHOTS, REPOSITORY]


def as_it_answers(path: str, body: Any) -> Any:
    """A document as a GET gives it back."""
    kind, name = path.rpartition("/")[::2]
    if kind == "/_ilm/policy":
        phases = body["policy"]["phases"]
        phases["delete"]["actions"]["delete"]["delete_searchable_snapshot"] = True
        return {
            name: {
                "version": 1,
                "modified_date": "2026-11-30T00:00:00.000Z",
                "policy": {"phases": phases},
                "in_use_by": {},
            }
        }
    if kind == "/_index_template":
        body["template"]["settings"]["index"] = {
            key: str(value).lower() for key, value in body["template"]["settings"]["index"].items()
        }
        return {"index_templates": [{"name": name, "index_template": {**body, "composed_of": []}}]}
    if kind == "/_slm/policy":
        return {name: {"version": 1, "policy": {**body, "schedule": "0"}, "stats": {"policy": name}}}
    if kind == "/_data_stream":
        return {"data_streams": [{"name": name, "generation": 1}]}
    return {name: {**body, "uuid": "x"}}


class Server(http.server.ThreadingHTTPServer):
    """What stands in for Elasticsearch."""

    def __init__(self, folder: Path) -> None:
        self.documents: dict[str, Any] = {}
        self.asked: list[tuple[str, str]] = []
        self.refusals: list[int] = []
        super().__init__(("127.0.0.1", 0), Handler)
        pair = certificate.issue(certificate.Wanted("logs-es-http", dns_names=["localhost"]), None)
        for name, content in (("tls.crt", pair.certificate), ("tls.key", pair.key)):
            (folder / name).write_bytes(content)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
        self.socket = context.wrap_socket(self.socket, server_side=True)


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self._answered(lambda: self.server.documents.get(self.path))

    def do_PUT(self) -> None:
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.loads(text) if text else None

        def put() -> Any:
            self.server.documents[self.path] = as_it_answers(self.path, body)
            return {"acknowledged": True}

        self._answered(put)

    def _answered(self, answer: Any) -> None:
        self.server.asked.append((self.command, self.path))
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        error = {"error": {"type": "security_exception", "reason": "action is unauthorized"}}
        if self.server.refusals:
            status, body = self.server.refusals.pop(), error
        elif self.headers["Authorization"] != f"Basic {login}":
            status, body = 401, error
        else:
            found = answer()
            status, body = (404, {"error": "not there"}) if found is None else (200, found)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, format: str, *args: Any) -> None:
        del format, args


@stands_in_for(Cluster)
class World:
    """A cluster with one pod of Elasticsearch."""

    def __init__(self, ready: bool = True, password: str = PASSWORD) -> None:
        self.ready, self.password = ready, password

    def list(self, api_version, kind, namespace=None, label_selector=None):
        assert (kind, namespace, label_selector) == (
            "Pod",
            "monitoring",
            "elasticsearch.k8s.elastic.co/cluster-name=logs",
        )
        conditions = [{"type": "Ready", "status": str(self.ready)}]
        return [{"metadata": {"name": "logs-es-default-0"}, "status": {"conditions": conditions}}]

    def get(self, ref):
        encoded = {
            key: base64.b64encode(value.encode()).decode()
            for key, value in (("username", USER), ("password", self.password))
        }
        return {"data": encoded} if ref["name"] == "elasticsearch-platform" else None


@pytest.fixture
def server(tmp_path, monkeypatch):
    server = Server(tmp_path)
    monkeypatch.setattr(requests, "URL", f"https://localhost:{server.server_port}")
    monkeypatch.setattr(requests, "AUTHORITY", str(tmp_path / "tls.crt"))
    monkeypatch.setattr(elasticsearch, "_PAUSE_SECONDS", 0.01)

    def run(cluster, namespace, pod, command, *, container, stdin, timeout_seconds):
        assert (namespace, pod, container) == ("monitoring", "logs-es-default-0", "elasticsearch")
        assert PASSWORD not in " ".join(command)
        # Its input stays open, as that of an exec session may.
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as ran:
            ran.stdin.write(stdin)
            ran.stdin.flush()
            ran.wait(timeout_seconds)
            return Ran(ran.returncode, ran.stdout.read(), ran.stderr.read())

    monkeypatch.setattr(requests, "run_in_pod", run)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def run(*documents, world=None, check_mode=False, diff=False, user="elasticsearch-platform"):
    params = {
        "namespace": "monitoring",
        "name": "logs",
        "user_secret": user,
        "documents": json.loads(json.dumps(documents)),
    }
    return elasticsearch.run(params, check_mode, diff, connect=lambda _params: world or World())


def actions(result):
    return [document["action"] for document in result["documents"]]


def test_what_is_not_there_is_written_in_order_and_then_stays(server):
    first = run(*ALL)
    assert first["changed"]
    assert actions(first) == ["created"] * len(ALL)
    assert [path for method, path in server.asked if method == "PUT"] == [document["path"] for document in ALL]
    server.asked.clear()
    again = run(*ALL)
    assert not again["changed"]
    assert actions(again) == ["unchanged"] * len(ALL)
    assert {method for method, _path in server.asked} == {"GET"}


@pytest.mark.parametrize(
    ("document", "changes"),
    [
        (ILM, {"policy": {"phases": {"delete": {"min_age": "30d", "actions": {"delete": {}}}}}}),
        (TEMPLATE, {**TEMPLATE["body"], "index_patterns": ["logs-*", "more-*"]}),
        (TEMPLATE, {**TEMPLATE["body"], "template": {"settings": {"index": {"hidden": False}}}}),
        (SNAPSHOTS, {"name": "<logs>", "retention": {"min_count": 4}}),
        (REPOSITORY, {"type": "s3", "settings": {"bucket": "other"}}),
    ],
)
def test_what_differs_is_written_again_and_check_mode_only_tells(server, document, changes):
    run(*ALL)
    other = {**document, "body": changes}
    server.asked.clear()
    told = run(other, check_mode=True, diff=True)
    assert actions(told) == ["updated"]
    assert told["diff"][0]["after"] == changes
    assert {method for method, _path in server.asked} == {"GET"}
    assert actions(run(other)) == ["updated"]
    assert actions(run(other)) == ["unchanged"]


def test_a_login_that_is_not_known_yet_is_waited_for(server):
    server.refusals = [401, 401, 503]
    assert actions(run(ILM)) == ["created"]


def test_what_elasticsearch_refuses_is_said_in_its_words_and_without_the_password(server, monkeypatch):
    monkeypatch.setattr(elasticsearch, "_READY_SECONDS", 0)
    with pytest.raises(PlatformError, match=r"401: action is unauthorized") as refused:
        run(ILM, world=World(password="wrong-one"))
    assert "wrong-one" not in str(refused.value)
    assert "elasticsearch-platform" in str(refused.value)


def test_a_certificate_of_another_authority_is_refused(server, tmp_path, monkeypatch):
    other = certificate.issue(certificate.Wanted("another", dns_names=["localhost"]), None)
    (tmp_path / "other.crt").write_bytes(other.certificate)
    monkeypatch.setattr(requests, "AUTHORITY", str(tmp_path / "other.crt"))
    with pytest.raises(PlatformError, match="does not answer") as refused:
        run(ILM)
    assert "certificate" in str(refused.value)
    assert not server.asked


def test_before_there_is_an_elasticsearch_check_mode_tells_all_and_a_run_says_what_is_missing(server):
    assert actions(run(*ALL, world=World(ready=False), check_mode=True)) == ["created"] * len(ALL)
    with pytest.raises(PlatformError, match="no pod of it that is ready"):
        run(ILM, world=World(ready=False))
    with pytest.raises(PlatformError, match="no such Secret"):
        run(ILM, user="away")

"""Requests to a server that answers as a busy API server does: what is sent again, what is not, and what is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes import client as client_module
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import (
    APPLY_PATCH,
    Cluster,
    is_this_machine,
)
from hypothesis import given
from hypothesis import strategies as st

CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "n"}}


class Server(ThreadingHTTPServer):
    """Answers from a list, the last one for ever; keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[tuple[int, Any, dict[str, str]]] = []
        self.asked: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        return "http://127.0.0.1:%d" % self.server_address[1]

    def answer(self, status: int, body: Any = None, **headers: str) -> None:
        self.answers.append((status, {} if body is None else body, headers))


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((self.command, self.path))
        answers = self.server.answers
        status, body, headers = answers.pop(0) if len(answers) > 1 else answers[0]
        if status == 0:  # the connection is cut instead of an answer
            self.close_connection = True
            return
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PATCH = do_DELETE = do

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def cluster(server: Server, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setattr(client_module.time, "sleep", lambda seconds: None)
    return Cluster({"host": server.url, "api_key": "token"})


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (500, "etcdserver: leader changed"),
        (503, "apiserver is shutting down"),
        (504, "Timeout: request did not complete"),
        (500, 'failed calling webhook "a.b": context deadline exceeded'),
        (429, "too many requests"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_reads_and_applies_are_tried_again(cluster: Cluster, server: Server, status: int, message: str, method: str):
    server.answer(status, {"message": message})
    server.answer(status, {"message": message})
    server.answer(200, {"good": True})
    options = {"body": CONFIG_MAP, "content_type": APPLY_PATCH} if method == "PATCH" else {}
    assert cluster.request(method, "/api/v1/a", **options) == {"good": True}
    assert len(server.asked) == 3


def test_a_cut_connection_is_tried_again_for_a_read_and_not_for_a_create(cluster: Cluster, server: Server):
    server.answer(0)
    server.answer(200, {"good": True})
    assert cluster.request("GET", "/version") == {"good": True}
    server.answers.clear()
    server.answer(0)
    with pytest.raises(PlatformError) as error:
        cluster.request("POST", "/api/v1/a", body=CONFIG_MAP)
    assert error.value.reason == "unreachable"
    assert [method for method, dummy in server.asked].count("POST") == 1


def test_a_create_whose_answer_is_an_error_of_the_server_is_sent_once(cluster: Cluster, server: Server):
    server.answer(500, {"message": "etcdserver: request timed out"})
    with pytest.raises(PlatformError) as error:
        cluster.request("POST", "/api/v1/a", body=CONFIG_MAP)
    assert len(server.asked) == 1
    assert "tries" not in str(error.value)


def test_a_dry_run_of_a_create_may_be_sent_again(cluster: Cluster, server: Server):
    server.answer(503, {"message": "leader changed"})
    server.answer(201, {"good": True})
    assert cluster.request("POST", "/api/v1/a", query={"dryRun": "All"}, body=CONFIG_MAP) == {"good": True}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422])
def test_what_the_server_decided_is_not_asked_again(cluster: Cluster, server: Server, status: int):
    server.answer(status, {"message": "no"})
    with pytest.raises(PlatformError):
        cluster.request("GET", "/api/v1/a")
    assert len(server.asked) == 1


def test_an_apply_that_does_not_fit_the_schema_is_not_sent_again(cluster: Cluster, server: Server):
    server.answer(500, {"message": "failed to create typed patch object (n/a; v1, Kind=ConfigMap): .x: not declared"})
    with pytest.raises(PlatformError) as error:
        cluster.request("PATCH", "/api/v1/a", body=CONFIG_MAP, content_type=APPLY_PATCH)
    assert error.value.reason == "invalid"
    assert len(server.asked) == 1


def test_the_error_tells_how_often_and_how_long(cluster: Cluster, server: Server):
    server.answer(503, {"message": "away"})
    with pytest.raises(PlatformError) as error:
        cluster.request("GET", "/api/v1/a")
    assert len(server.asked) == client_module.TRIES
    assert "%d tries in 0." % client_module.TRIES in error.value.found


def test_retry_after_is_kept_and_bounded(server: Server, monkeypatch: pytest.MonkeyPatch):
    pauses: list[float] = []
    monkeypatch.setattr(client_module.time, "sleep", pauses.append)
    server.answer(429, {"message": "later"}, Retry_After="4")
    server.answer(429, {"message": "later"}, Retry_After="3600")
    server.answer(200)
    Cluster({"host": server.url, "api_key": "token"}).request("GET", "/version")
    assert pauses == [4, 10]


def test_an_address_where_nothing_answers_is_told_soon_and_with_its_cause():
    with pytest.raises(PlatformError) as error:
        Cluster({"host": "http://127.0.0.1:9", "api_key": "token"}).request("GET", "/version")
    assert error.value.reason == "unreachable"
    assert "(3 tries in 0." in error.value.found
    assert error.value.__cause__ is not None


def test_a_server_that_does_not_answer_is_waited_for_once(server: Server, monkeypatch: pytest.MonkeyPatch):
    held = threading.Event()
    monkeypatch.setattr(Handler, "do_GET", lambda self: held.wait(5))
    with pytest.raises(PlatformError) as error:
        Cluster({"host": server.url, "api_key": "token"}, timeout_seconds=0.2).request("GET", "/version")
    held.set()
    assert error.value.reason == "timeout"
    assert "no answer within 0.2 s" in error.value.found


def test_warnings_of_the_server_are_kept_once_and_name_the_object(cluster: Cluster, server: Server):
    warning = '299 - "unknown field \\"spec.a\\"", 299 - "batch/v1beta1 CronJob is deprecated, use batch/v1"'
    server.answer(200, Warning=warning)
    for dummy in range(2):
        cluster.request("PATCH", "/api/v1/a", body=CONFIG_MAP, content_type=APPLY_PATCH, about=CONFIG_MAP)
    assert cluster.warnings == [
        'ConfigMap n/a: unknown field "spec.a"',
        "ConfigMap n/a: batch/v1beta1 CronJob is deprecated, use batch/v1",
    ]


def test_a_warning_about_a_secret_does_not_quote_it(cluster: Cluster, server: Server):
    secret = {"kind": "Secret", "metadata": {"name": "s", "namespace": "n"}, "stringData": {"password": "hunter22"}}
    server.answer(200, Warning='299 - "the value hunter22 is odd"')
    cluster.request("GET", "/x", about=secret)
    assert cluster.warnings == ["Secret n/s: the value (hidden) is odd"]


def kubeconfig(path: Path, server: str) -> str:
    config = {
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "shop", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "shop",
    }
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return str(path)


def test_a_given_kubeconfig_wins_over_the_pods_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # Nothing of a pod is needed to see it: without it, kubernetes.core asks for the pod's account first.
    asked: list[str] = []
    monkeypatch.setattr(client_module.kubernetes.config, "load_incluster_config", lambda: asked.append("pod"))
    monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path / "config", "https://shop.example:6443"))
    cluster = Cluster({})
    assert (cluster.host, asked) == ("https://shop.example:6443", [])
    assert cluster.described() == "https://shop.example:6443 (context shop)"
    monkeypatch.delenv("KUBECONFIG")
    Cluster({})
    assert asked == ["pod"]


def test_options_win_over_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path / "config", "https://shop.example:6443"))
    assert Cluster({"host": "https://other.example", "api_key": "t"}).described() == "https://other.example"
    other = kubeconfig(tmp_path / "other", "https://third.example")
    assert Cluster({"kubeconfig": other}).host == "https://third.example"


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy"])
def test_no_proxy_of_the_environment_for_this_machine(variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "http://proxy.example:3128")
    assert Cluster({"host": "https://127.0.0.1:6443", "api_key": "t"}).configuration.proxy is None
    away = Cluster({"host": "https://shop.example", "api_key": "t"})
    assert away.configuration.proxy == "http://proxy.example:3128"
    named = Cluster({"host": "https://127.0.0.1:6443", "api_key": "t", "proxy": "http://proxy.example:3128"})
    assert named.configuration.proxy == "http://proxy.example:3128"


@given(st.integers(0, 255), st.integers(0, 255), st.sampled_from(["", ":6443"]))
def test_this_machine(third: int, fourth: int, port: str):
    assert is_this_machine(f"https://127.0.{third}.{fourth}{port}/x")
    assert not is_this_machine(f"https://128.0.{third}.{fourth}{port}/x")


@pytest.mark.parametrize(
    "url", ["http://localhost:5001", "http://a.localhost", "https://[::1]:6443", "http://localhost."]
)
def test_names_of_this_machine(url: str):
    assert is_this_machine(url)


@pytest.mark.parametrize("url", ["http://localhost.example", "http://notlocalhost", "https://[2001:db8::1]", ""])
def test_names_of_other_machines(url: str):
    assert not is_this_machine(url)


@pytest.mark.parametrize("argument", ["kubeconfig", "ca_cert", "client_cert", "client_key"])
@pytest.mark.parametrize("by", ["argument", "environment"])
def test_a_file_that_is_not_on_this_machine_is_said(
    argument: str, by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = str(tmp_path / "none")
    given = {"host": "https://127.0.0.1:1", "api_key": "token"} if argument != "kubeconfig" else {}
    if by == "argument":
        given[argument] = path
    else:
        monkeypatch.setenv("K8S_AUTH_" + argument.upper(), path)
    with pytest.raises(PlatformError, match="is not there") as error:
        Cluster(given)
    assert error.value.where == f"{argument} {path}"
    assert "no such file on" in error.value.found
    assert "delegate_to: localhost" in error.value.fix


def test_of_several_kubeconfigs_one_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    there = tmp_path / "config"
    config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    there.write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'none'}:{there}")
    assert Cluster({}).described() == "http://127.0.0.1:9 (context c)"

"""The edge in a mesh: a proxy takes all its connections, answers for who is not there, and callers get the truth.

The proxy is a second real Envoy with what the filter mesh_policies tells it. Each of its listeners stands for one pod,
as a proxy leads a connection to a headless Service's pod to that pod.
"""

from __future__ import annotations

import json
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.configuration import configure
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.listeners import CONNECTION_MANAGER
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.replies import proxy_replies

from tests.free_ports import free_port

from .conftest import ROUTES, UPSTREAMS, Edge, serving, stopping

NAME = "controller.example"
REFUSING = {
    "name": "envoy.filters.http.rbac",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
        "rules": {"action": "ALLOW", "policies": {}},
    },
}


def proxy_configuration(pods: dict[int, int], before: list[dict]) -> dict:
    """Listeners, each with the port of its pod."""
    listeners, clusters = [], []
    for listens, pod in pods.items():
        name = f"pod-{pod}-{listens}"
        manager = {
            "@type": CONNECTION_MANAGER,
            "stat_prefix": name,
            # The Host says whom a request is for; another is nobody's.
            "route_config": {
                "virtual_hosts": [
                    {"name": "s", "domains": [NAME], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": name}}]}
                ],
                "ignore_port_in_host_matching": True,
            },
            "http_filters": [
                *before,
                {
                    "name": "envoy.filters.http.router",
                    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
                },
            ],
            "local_reply_config": proxy_replies(),
        }
        listeners.append(
            {
                "name": name,
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": listens}},
                "filter_chains": [
                    {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
                ],
            }
        )
        clusters.append({"name": name, "connect_timeout": "1s", "load_assignment": assignment(name, [pod])})
    return {"static_resources": {"listeners": listeners, "clusters": clusters}}


def assignment(name: str, ports: list[int], hostname: str | None = None) -> dict:
    named = {"hostname": hostname} if hostname else {}
    points = [
        {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}, **named}}
        for port in ports
    ]
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": points}]}


@contextmanager
def meshed_edge(binary: str, folder: Path, pods: list[int], before: list[dict] | None = None):
    """An edge before a proxy that leads to pods at these ports."""
    listens = {free_port(): pod for pod in pods}
    path = folder / "proxy.json"
    path.write_text(json.dumps(proxy_configuration(listens, before or [])))
    with (folder / "proxy.log").open("wb") as log:
        command = [binary, "-c", str(path), "--concurrency", "1", "--disable-hot-restart"]
        proxy = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            made = configure(ROUTES, UPSTREAMS, https_port=9443, mesh=True)
            clusters = yaml.safe_load(made.files["clusters.yaml"])
            (controller,) = clusters["resources"]
            # The name would lead to the pods; here to the proxy's place for each.
            (endpoint,) = controller["load_assignment"]["endpoints"][0]["lb_endpoints"]
            controller["load_assignment"] = assignment("controller", list(listens), endpoint["endpoint"]["hostname"])
            with stopping(Edge(binary, folder)) as edge:
                edge.start(made._replace(files={**made.files, "clusters.yaml": yaml.safe_dump(clusters)}))
                edge.wait_until(
                    lambda: edge.get("/api/v1/x").headers.get("retry-after") or edge.get("/api/v1/x").status == 200,
                    "the proxy answers",
                )
                yield edge
        finally:
            proxy.terminate()
            proxy.wait(10)


@pytest.fixture(scope="module")
def one_of_two(envoy_binary, tmp_path_factory):
    """An edge whose first pod answers and whose second one is not there."""
    folder = tmp_path_factory.mktemp("mesh")
    with serving() as behind, meshed_edge(envoy_binary, folder, [behind.port, free_port()]) as running:
        running.upstream = behind
        yield running


def test_a_pod_that_is_not_there_costs_no_request_and_none_runs_twice(one_of_two):
    one_of_two.upstream.seen.clear()
    answers = [one_of_two.get(f"/api/v1/{number}", method="POST", body=b"{}") for number in range(40)]
    assert {answer.status for answer in answers} == {200}
    assert one_of_two.upstream.seen == [f"/api/v1/{number}" for number in range(40)]


def test_a_proxy_knows_by_the_host_and_the_service_what_the_caller_wrote(one_of_two):
    answer = one_of_two.get("/api/v1/x", headers={"Host": "lambda.example"})
    assert answer.json["headers"]["host"] == NAME
    assert answer.json["headers"]["x-forwarded-host"].split(",")[0] == "lambda.example"


def test_callers_learn_nothing_of_the_proxies(one_of_two):
    answer = one_of_two.get("/api/v1/x")
    assert not [name for name in answer.headers if name.startswith("x-envoy") or name == "x-nothing-ran"]


def test_a_request_that_left_is_not_sent_again_and_the_answer_says_that_it_may_have_run(one_of_two):
    one_of_two.upstream.seen.clear()
    answer = one_of_two.get("/api/v1/drop", method="POST", body=b"{}")
    assert (answer.status, answer.json["error"]["code"]) == (500, "INTERNAL_ERROR")
    assert "may have been handled" in answer.json["error"]["message"]
    assert "retry-after" not in answer.headers and "x-nothing-ran" not in answer.headers
    assert one_of_two.upstream.seen == ["/api/v1/drop"]


@pytest.mark.parametrize("refused", [False, True], ids=["not there", "refused"])
def test_where_no_pod_can_be_asked_the_answer_says_that_nothing_ran(envoy_binary, tmp_path, refused):
    with serving() as behind:
        pods = [behind.port] if refused else [free_port(), free_port()]
        with meshed_edge(envoy_binary, tmp_path, pods, [REFUSING] if refused else []) as edge:
            answer = edge.get("/api/v1/x", method="POST", body=b"{}")
            assert (answer.status, answer.json["error"]["code"]) == (503, "UNAVAILABLE")
            assert answer.headers["retry-after"] == "1" and "x-nothing-ran" not in answer.headers
        assert behind.seen == []


def test_a_way_that_a_proxy_does_not_know_is_no_404_of_the_service(envoy_binary, tmp_path):
    with serving() as behind:
        listens = free_port()
        path = tmp_path / "proxy.json"
        path.write_text(json.dumps(proxy_configuration({listens: behind.port}, [])))
        made = configure(
            ROUTES, [{**UPSTREAMS[0], "address": "localhost", "port": listens}], https_port=9443, mesh=True
        )
        command = [envoy_binary, "-c", str(path), "--concurrency", "1", "--disable-hot-restart"]
        proxy = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            with stopping(Edge(envoy_binary, tmp_path)) as edge:
                edge.start(made)
                edge.wait_until(lambda: "retry-after" in edge.get("/api/v1/x").headers, "the proxy answers")
                assert edge.get("/api/v1/x").json["error"]["code"] == "UNAVAILABLE"
        finally:
            proxy.terminate()
            proxy.wait(10)
        assert behind.seen == []


def test_without_a_mesh_nothing_of_it_is_said():
    made = configure(ROUTES, [{**UPSTREAMS[0], "health_check": {"path": "/ready"}}])
    text = "".join(made.files.values())
    for word in ("nothing-ran", "host_rewrite", "hostname:", "retriable"):
        assert word not in text, word


def test_the_service_that_counts_is_asked_by_its_name():
    made = configure(
        ROUTES,
        UPSTREAMS,
        mesh=True,
        rate_limits=[{"name": "all", "routes": ["api"], "per": [], "requests": 5, "unit": "second"}],
        rate_limit_service={"address": "ratelimit.example", "port": 8081},
    )
    assert "authority: ratelimit.example" in made.files["listeners.yaml"]
    assert "authority: ratelimit.example" in made.files["clusters.yaml"]

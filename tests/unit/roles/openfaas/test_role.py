"""What the role asks for: with a gateway, without one, and what of it the edge, the flows and functions get to know."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.unit.variables.rendering import Run, collection_without_cluster, run

TABLE = "platform_images_file=" + str(Path(__file__).resolve().parents[3] / "images.json")
FLOWS = [
    {"name": "payments", "to": "shop/payments", "ports": [8443]},
    {"name": "mail", "to": ["10.1.0.0/16"], "ports": [25]},
]


@pytest.fixture(scope="module")
def collections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return collection_without_cluster(tmp_path_factory.mktemp("collections"))


def site(collections: Path, folder: Path, tags: str, **given: object) -> Run:
    done = run(collections, "site", "--tags", tags, "-e", TABLE, "-e", json.dumps(given), folder=folder)
    assert done.rc == 0, done.output
    return done


def test_gateway_workers_and_nats_with_their_ways_and_rights(collections: Path, tmp_path: Path) -> None:
    done = site(collections, tmp_path, "openfaas", openfaas_function_flows=FLOWS, openfaas_nats_storage="600Mi")
    nats, openfaas = done.release("nats")["values"], done.release("openfaas")["values"]
    assert nats["persistence"]["data"]["size"] == "600Mi"
    gateway, worker = openfaas["gateway"], openfaas["queueWorker"]
    # The vendor's edition goes first where there was one, as both have a Deployment gateway.
    vendors = done.release("openfaas-vendor")
    assert vendors["state"] == "absent" and vendors["values"] == {}
    assert done.release("openfaas")["after"] == done.release("nats")["after"] == ["openfaas-vendor"]
    servers = ",".join(f"nats://nats-{number}.nats.openfaas.svc.cluster.local:4222" for number in range(3))
    assert gateway["env"]["NATS_URL"] == worker["env"]["NATS_URL"] == servers
    assert gateway["env"]["RUNTIMES"] == "nodejs-runtime,python-runtime,rust-runtime"
    # Its time to end is longer than what it waits for.
    assert gateway["terminationGracePeriodSeconds"] == 45
    policy = gateway["functionPolicy"]
    assert policy["flows"]["mail"] == [
        {"to": [{"ipBlock": {"cidr": "10.1.0.0/16"}}], "ports": [{"protocol": "TCP", "port": 25}]}
    ]
    (shop,) = policy["flows"]["payments"]
    assert shop["to"][0]["podSelector"] == {"matchLabels": {"app.kubernetes.io/name": "payments"}}
    (reaches,) = policy["ingress"]
    assert reaches["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "openfaas"}}
    (batch,) = done.asked("policy")
    named = {(obj["kind"], obj["metadata"]["namespace"], obj["metadata"]["name"]) for obj in batch["objects"]}
    assert named == {
        ("NetworkPolicy", "openfaas", "gateway"),
        ("NetworkPolicy", "openfaas", "queue-worker"),
        ("NetworkPolicy", "openfaas", "nats"),
        ("Role", "openfaas-fn", "openfaas-gateway"),
        ("RoleBinding", "openfaas-fn", "openfaas-gateway"),
    }
    (waited,) = done.asked("rollout")
    assert {one["name"] for one in waited["workloads"]} == {"nats", "gateway", "queue-worker"}


def test_the_passwords_are_the_module_s_and_in_no_value(collections: Path, tmp_path: Path) -> None:
    done = site(collections, tmp_path, "openfaas")
    (asked,) = done.asked("secret")
    secrets = {secret["name"]: secret for secret in asked["secrets"]}
    assert secrets["basic-auth"]["data"] == {"basic-auth-user": "admin"}
    routes = secrets["nats-credentials"]["render"]["routes.conf"]
    assert "nats://routes:{value:nats-credentials/routes}@nats-2.nats.openfaas.svc.cluster.local:6222" in routes
    assert "password" in secrets["nats-openfaas"]["random"]


def test_turned_off_all_that_it_made_goes(collections: Path, tmp_path: Path) -> None:
    done = site(collections, tmp_path, "openfaas", openfaas_enabled=False)
    assert {release["state"] for asked in done.asked("chart") for release in asked["releases"]} == {"absent"}
    assert [asked["state"] for asked in done.asked("policy")] == ["absent"]
    assert not done.asked("rollout") and not done.asked("secret")


def edge_routes(done: Run) -> dict[str, dict]:
    files = done.release("envoy")["values"]["configuration"]
    (made,) = yaml.safe_load(files["routes.yaml"])["resources"]
    return {route["name"]: route for route in made["virtual_hosts"][0]["routes"]}


def test_the_edge_leads_functions_to_the_gateway_and_counts_them_as_executions(
    collections: Path, tmp_path: Path
) -> None:
    routes = edge_routes(site(collections, tmp_path, "ingress_chart", ingress_accept_anonymous=True))
    assert routes["function"]["match"] == {"prefix": "/function/"}
    assert routes["async-function"]["route"]["cluster"] == "openfaas"
    for name in ("function", "async-function"):
        assert routes[name]["route"]["rate_limits"] == routes["execute"]["route"]["rate_limits"]
    # The gateway waits 33 s for a function of 30.
    assert routes["function"]["route"]["timeout"] == "35s"
    assert "openfaas-system" not in routes
    # A function that is called at the controller, too.
    assert routes["call"]["route"]["rate_limits"] == routes["execute"]["route"]["rate_limits"]
    assert routes["call"]["match"]["prefix"] == "/api/v1/functions/" and routes["call"]["match"]["headers"]
    assert "rate_limits" not in routes["api"]["route"]


def test_the_api_is_at_the_edge_only_where_the_inventory_says_so(collections: Path, tmp_path: Path) -> None:
    given = {"ingress_accept_anonymous": True, "openfaas_expose_system": True}
    system = edge_routes(site(collections, tmp_path, "ingress_chart", **given))["openfaas-system"]
    assert system["match"] == {"prefix": "/system/"} and system["route"]["rate_limits"]
    without = edge_routes(site(collections, tmp_path, "ingress_chart", **{**given, "openfaas_enabled": False}))
    assert not {"openfaas-system", "function", "async-function"} & without.keys()

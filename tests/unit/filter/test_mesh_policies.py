"""The filters mesh_policies and mesh_workloads: what the mesh lets through is what the NetworkPolicies let through."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.lambda_microservice.platform.plugins.filter.mesh_policies import mesh_policies
from ansible_collections.lambda_microservice.platform.plugins.filter.mesh_workloads import mesh_workloads
from ansible_collections.lambda_microservice.platform.plugins.filter.network_policies import network_policies
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.flows import parse_flows
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.mesh import proxies
from hypothesis import assume, given
from hypothesis import strategies as st

from .test_network_policies import permitted

MESH = ["ingress", "controller"]
OUTSIDE = ["data", "monitoring"]
APPS = ["envoy", "api", "worker"]
PORTS = [80, 8080, 9090]
WORLD = "203.0.113.7"

TABLE = [
    {"from": "world", "to": "ingress/envoy", "ports": [8443]},
    {"from": "ingress/envoy", "to": "controller/api", "ports": [8080]},
    {"from": "ingress/envoy", "to": "controller/other", "ports": [8080, 8081]},
    {"from": "controller/*", "to": "controller/other", "ports": [8080]},
    {"from": "controller/api", "to": "data/redis", "ports": [6379]},
    {"from": "controller/migrations", "to": "data/postgresql", "ports": [5432]},
    {"from": "monitoring/prometheus", "to": "controller/api", "ports": [9090]},
    {"from": "controller/api", "to": "kubernetes-api", "ports": [443]},
]


def of(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    (found,) = [obj["spec"] for obj in objects if (obj["kind"], obj["metadata"]["name"]) == (kind, name)]
    return found


def lets_in(policy: dict[str, Any], caller: tuple[str, str], port: int) -> bool:
    """As Istio judges an ALLOW policy: https://istio.io/latest/docs/reference/config/security/authorization-policy/."""
    for rule in policy["rules"]:
        ports = [port for to in rule["to"] for port in to["operation"]["ports"]]
        for source in (one["source"] for one in rule["from"]):
            named = f"cluster.local/ns/{caller[0]}/sa/{caller[1]}" in source.get("principals", [])
            if str(port) in ports and (named or caller[0] in source.get("namespaces", [])):
                return True
    return False


def test_a_workload_lets_in_who_calls_it_by_service_account_and_nobody_else() -> None:
    objects = mesh_policies(TABLE, MESH)["identities"]
    other = of(objects, "AuthorizationPolicy", "other")
    assert other["selector"] == {"matchLabels": {"app.kubernetes.io/name": "other"}} and other["action"] == "ALLOW"
    assert lets_in(other, ("ingress", "envoy"), 8081) and lets_in(other, ("controller", "api"), 8080)
    assert not lets_in(other, ("controller", "api"), 8081) and not lets_in(other, ("ingress", "api"), 8080)
    assert of(objects, "AuthorizationPolicy", "envoy")["rules"] == []


def test_who_has_no_identity_is_refused_in_each_namespace_of_the_mesh() -> None:
    objects = mesh_policies(TABLE, MESH)["identities"]
    modes = {
        obj["metadata"]["namespace"]: obj["spec"]["mtls"]["mode"]
        for obj in objects
        if obj["kind"] == "PeerAuthentication"
    }
    assert modes == {"ingress": "STRICT", "controller": "STRICT"}


def test_a_service_that_is_called_is_called_with_an_identity_by_each_of_its_names() -> None:
    objects = mesh_policies(TABLE, MESH, services={"controller/api": ["api", "api-headless"]})["identities"]
    rules = {obj["metadata"]["name"]: obj["spec"] for obj in objects if obj["kind"] == "DestinationRule"}
    assert set(rules) == {"api", "api-headless", "other"}
    assert rules["api-headless"]["host"] == "api-headless.controller.svc.cluster.local"
    assert {rule["trafficPolicy"]["tls"]["mode"] for rule in rules.values()} == {"ISTIO_MUTUAL"}


def test_a_proxy_knows_the_namespaces_that_it_calls() -> None:
    told = mesh_policies(TABLE, MESH)["proxies"]
    assert of(told["ingress"], "Sidecar", "envoy")["egress"] == [{"hosts": ["controller/*"]}]
    assert of(told["controller"], "Sidecar", "api")["egress"] == [{"hosts": ["controller/*"]}]


def test_ports_of_who_has_no_identity_go_past_the_proxy() -> None:
    assert mesh_workloads(TABLE, MESH) == {
        "controller/api": {"inbound": [9090], "outbound": [53, 443, 6379]},
        "controller/other": {"inbound": [], "outbound": [53]},
        "ingress/envoy": {"inbound": [8443], "outbound": [53]},
    }


def test_a_job_that_calls_nobody_of_the_mesh_has_no_proxy() -> None:
    assert "controller/migrations" not in mesh_workloads(TABLE, MESH)


def test_a_receiver_without_a_proxy_on_a_port_of_others_is_known_and_not_gone_past() -> None:
    flows = [*TABLE, {"from": "ingress/envoy", "to": "vendor/app=gateway", "ports": [8080]}]
    assert mesh_workloads(flows, MESH)["ingress/envoy"]["outbound"] == [53]
    told = mesh_policies(flows, MESH)["proxies"]["ingress"]
    assert of(told, "Sidecar", "envoy")["egress"] == [{"hosts": ["controller/*", "vendor/*"]}]


@pytest.mark.parametrize(
    ("flow", "port"),
    [
        ({"from": "elsewhere/app", "to": "controller/api", "ports": [80, 8080]}, 8080),
        ({"from": "world", "to": "controller/other", "ports": [8081]}, 8081),
        ({"from": "controller/api", "to": "10.0.0.0/8", "ports": [8080]}, 8080),
    ],
)
def test_a_port_of_one_with_and_one_without_an_identity_is_a_conflict(flow: dict[str, Any], port: int) -> None:
    _found, conflicts = proxies(parse_flows([*TABLE, flow]), MESH)
    assert {conflict.port for conflict in conflicts} == {port}


def test_proxies_say_whether_anything_ran() -> None:
    (told,) = [obj for obj in mesh_policies(TABLE, MESH)["proxies"]["ingress"] if obj["kind"] == "EnvoyFilter"]
    patches = told["spec"]["configPatches"]
    assert {patch["match"]["context"] for patch in patches} == {"SIDECAR_INBOUND", "SIDECAR_OUTBOUND"}
    for patch in patches:
        nothing_ran, broken = patch["patch"]["value"]["typed_config"]["local_reply_config"]["mappers"]
        assert nothing_ran["status_code"] == 503 and broken["status_code"] == 500
        assert nothing_ran["body_format_override"]["json_format"]["error"]["code"] == "UNAVAILABLE"
        assert {one["header"]["key"] for one in nothing_ran["headers_to_add"]} == {"retry-after", "x-nothing-ran"}
        assert "headers_to_add" not in broken


def test_a_wrong_table_is_an_error() -> None:
    with pytest.raises(AnsibleFilterError, match="flow 0"):
        mesh_policies([{"from": "a"}], MESH)


ends = st.builds("{}/{}".format, st.sampled_from([*MESH, *OUTSIDE]), st.sampled_from([*APPS, "*"]))
tables = st.lists(
    st.fixed_dictionaries(
        {
            "from": st.one_of(ends, st.just("world")),
            "to": ends,
            "ports": st.lists(st.sampled_from(PORTS), min_size=1, max_size=2, unique=True),
        }
    ),
    max_size=8,
)


@given(tables)
def test_both_renderings_of_a_table_agree_for_every_pair(flows: list[dict[str, Any]]) -> None:
    found, conflicts = proxies(parse_flows(flows), MESH)
    assume(not conflicts)
    policies = [policy for namespace in (*MESH, *OUTSIDE) for policy in network_policies(flows, namespace)]
    made, past = mesh_policies(flows, MESH), mesh_workloads(flows, MESH)
    pods = [(namespace, app) for namespace in (*MESH, *OUTSIDE) for app in APPS]
    by_app = {
        (obj["metadata"]["namespace"], obj["metadata"]["name"]): obj["spec"]
        for obj in made["identities"]
        if obj["kind"] == "AuthorizationPolicy"
    }
    # A pod of a row for a whole namespace, and of no other, has no proxy and so no identity: the mesh does not know it.
    for sender in (WORLD, *(pod for pod in pods if pod in found or pod[0] not in MESH)):
        for receiver in (pod for pod in pods if pod in found):
            for port in PORTS:
                row = past[f"{receiver[0]}/{receiver[1]}"]
                if sender in found:
                    told = of(made["proxies"][sender[0]], "Sidecar", sender[1])["egress"][0]["hosts"]
                    through = lets_in(by_app[receiver], sender, port) and f"{receiver[0]}/*" in told
                    # Past the sender's proxy it would come without an identity.
                    goes = through and port not in past[f"{sender[0]}/{sender[1]}"]["outbound"]
                else:
                    goes = port in row["inbound"]
                let = permitted(policies, sender, receiver, port)
                # A port that is past the proxy for one is so for all: there the NetworkPolicies alone decide.
                assert goes == let or (port in row["inbound"] and not let), (sender, receiver, port)

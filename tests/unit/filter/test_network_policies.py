"""The filter network_policies: what the policies permit, judged by a small evaluator of the NetworkPolicy rules."""

from __future__ import annotations

import ipaddress
import random

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.lambda_microservice.platform.plugins.filter.network_policies import network_policies
from hypothesis import given
from hypothesis import strategies as st

NAMESPACES = ["ingress", "controller", "data", "monitoring"]
APPS = ["envoy", "api", "redis"]
PORTS = [80, 6379, 8080]
OUTSIDE = "203.0.113.7"


def selects(selector, labels):
    return all(labels.get(key) == value for key, value in (selector or {}).get("matchLabels", {}).items())


def peer_matches(peer, end):
    """``end`` is (namespace, app) for a pod, or an address outside the cluster."""
    if "ipBlock" in peer:
        # Pods have addresses too: an ipBlock of all addresses contains them.
        address = ipaddress.ip_address(end if isinstance(end, str) else "10.0.0.1")
        return address in ipaddress.ip_network(peer["ipBlock"]["cidr"])
    if isinstance(end, str):
        return False
    namespace, app = end
    return selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": namespace}) and selects(
        peer.get("podSelector"), {"app.kubernetes.io/name": app}
    )


def half_permits(policies, end, other, port, direction):
    """Whether the policies that select ``end`` permit this half; a pod that no policy selects is denied by default."""
    if isinstance(end, str):
        return True
    key = {"ingress": "from", "egress": "to"}[direction]
    for policy in policies:
        if policy["metadata"]["namespace"] != end[0]:
            continue
        if not selects(policy["spec"]["podSelector"], {"app.kubernetes.io/name": end[1]}):
            continue
        for rule in policy["spec"].get(direction, []):
            if port in [entry["port"] for entry in rule["ports"]] and any(
                peer_matches(peer, other) for peer in rule[key]
            ):
                return True
    return False


def permitted(policies, sender, receiver, port):
    return half_permits(policies, sender, receiver, port, "egress") and half_permits(
        policies, receiver, sender, port, "ingress"
    )


def names(endpoint, end):
    if endpoint == "world":
        return True
    if isinstance(end, str):
        return False
    if endpoint == "monitoring":
        endpoint = "monitoring/*"
    namespace, _, app = endpoint.partition("/")
    return namespace == end[0] and app in ("*", end[1])


def expected(flows, sender, receiver, port):
    """What the table says: each pod's side of a connection must be in some row."""
    rows = [flow for flow in flows if port in flow["ports"]]
    matching = [flow for flow in rows if names(flow["from"], sender) and names(flow["to"], receiver)]
    sends = isinstance(sender, str) or any(flow["from"] != "world" for flow in matching)
    receives = isinstance(receiver, str) or any(flow["to"] != "world" for flow in matching)
    return sends and receives


pods = st.builds("{}/{}".format, st.sampled_from(NAMESPACES), st.sampled_from([*APPS, "*"])) | st.just("monitoring")
flows_strategy = st.lists(
    st.tuples(
        pods | st.just("world"), pods | st.just("world"), st.lists(st.sampled_from(PORTS), min_size=1, max_size=3)
    )
    .filter(lambda row: not (row[0] == "world" and row[1] == "world"))
    .map(lambda row: {"from": row[0], "to": row[1], "ports": row[2]}),
    max_size=6,
)


def of_all_namespaces(flows):
    return [policy for namespace in NAMESPACES for policy in network_policies(flows, namespace)]


@given(flows_strategy)
def test_permits_what_the_table_lists_and_nothing_else(flows):
    policies = of_all_namespaces(flows)
    ends = [(namespace, app) for namespace in NAMESPACES for app in [*APPS, "other"]] + [OUTSIDE]
    for sender in ends:
        for receiver in ends:
            if sender == receiver == OUTSIDE:
                continue
            for port in PORTS:
                assert permitted(policies, sender, receiver, port) == expected(flows, sender, receiver, port), (
                    sender,
                    receiver,
                    port,
                )


@given(flows_strategy, st.randoms(use_true_random=False))
def test_order_and_repetition_of_flows_do_not_matter(flows, rng: random.Random):
    shuffled = flows + flows[:2]
    rng.shuffle(shuffled)
    assert of_all_namespaces(shuffled) == of_all_namespaces(flows)


@given(flows_strategy)
def test_every_policy_closes_both_directions_and_has_its_own_name(flows):
    policies = of_all_namespaces(flows)
    assert all(policy["spec"]["policyTypes"] == ["Ingress", "Egress"] for policy in policies)
    keys = [(policy["metadata"]["namespace"], policy["metadata"]["name"]) for policy in policies]
    assert len(set(keys)) == len(keys)


def test_the_controller_of_the_platform():
    flows = [
        {"from": "ingress/envoy", "to": "controller/controller", "ports": [8080]},
        {"from": "monitoring", "to": "controller/controller", "ports": [9090]},
        {"from": "controller/controller", "to": "data-services/redis", "ports": [6379]},
        {"from": "controller/controller", "to": "data-services/redis-haproxy", "ports": [6379]},
    ]
    (policy,) = network_policies(flows, "controller")
    assert policy["metadata"]["name"] == "controller"
    assert policy["spec"]["podSelector"] == {"matchLabels": {"app.kubernetes.io/name": "controller"}}
    assert policy["spec"]["ingress"] == [
        {
            "from": [
                {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}},
                    "podSelector": {"matchLabels": {"app.kubernetes.io/name": "envoy"}},
                }
            ],
            "ports": [{"protocol": "TCP", "port": 8080}],
        },
        {
            "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
            "ports": [{"protocol": "TCP", "port": 9090}],
        },
    ]
    (egress,) = policy["spec"]["egress"]
    assert [peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for peer in egress["to"]] == [
        "redis",
        "redis-haproxy",
    ]


def test_world_is_both_address_families():
    (policy,) = network_policies([{"from": "world", "to": "ingress/envoy", "ports": [8443]}], "ingress")
    assert policy["spec"]["ingress"][0]["from"] == [{"ipBlock": {"cidr": "0.0.0.0/0"}}, {"ipBlock": {"cidr": "::/0"}}]
    assert "egress" not in policy["spec"]


@pytest.mark.parametrize(
    ("flows", "says"),
    [
        ("x", ["the input", "'x'", "a list of flows"]),
        (["x"], ["flow 0", "'x'", "dictionary"]),
        ([{"from": "a/b", "to": "c/d"}], ["flow 0", "'from', 'to'", "exactly the keys"]),
        ([{"from": "a/b", "to": "c/d", "ports": [1], "port": 2}], ["flow 0", "'port'"]),
        (
            [{"from": "a/b", "to": "c/d", "ports": [1]}, {"from": "a", "to": "c/d", "ports": [1]}],
            ["flow 1, from", "'a'", "NAMESPACE/APP"],
        ),
        ([{"from": "a/b", "to": "C/d", "ports": [1]}], ["flow 0, to", "'C/d'", "lower-case"]),
        ([{"from": "a/b", "to": "*/d", "ports": [1]}], ["flow 0, to", "'*/d'"]),
        ([{"from": "a/b", "to": None, "ports": [1]}], ["flow 0, to", "None"]),
        ([{"from": "world", "to": "world", "ports": [1]}], ["flow 0", "not 'world'"]),
        ([{"from": "a/b", "to": "c/d", "ports": []}], ["flow 0, ports", "at least one"]),
        ([{"from": "a/b", "to": "c/d", "ports": 80}], ["flow 0, ports", "80", "list"]),
        ([{"from": "a/b", "to": "c/d", "ports": ["80"]}], ["flow 0, ports", "'80'", "1 to 65535"]),
        ([{"from": "a/b", "to": "c/d", "ports": [0]}], ["flow 0, ports", "Found: 0"]),
        ([{"from": "a/b", "to": "c/d", "ports": [True]}], ["flow 0, ports", "True"]),
        ([{"from": "a/b", "to": [], "ports": [1]}], ["flow 0, to", "[]"]),
        ([{"from": "a/b", "to": ["c/d", "world"], "ports": [1]}], ["flow 0, to", "a list of a block"]),
        (
            [{"from": "a/b", "to": "c/d", "ports": [1], "service_selector": "no"}],
            ["flow 0, service_selector", "'no'", "true, or false"],
        ),
        (
            [{"from": "a/b", "to": "world", "ports": [1], "service_selector": False}],
            ["flow 0, service_selector", "in the cluster"],
        ),
    ],
)
def test_a_malformed_flow_is_named(flows, says):
    with pytest.raises(AnsibleFilterError) as error:
        network_policies(flows, "a")
    for part in says:
        assert part in str(error.value)


@pytest.mark.parametrize("namespace", ["", "A", "a/b", None, 3])
def test_a_wrong_namespace_is_named(namespace):
    with pytest.raises(AnsibleFilterError, match="namespace is wrong"):
        network_policies([], namespace)


def test_a_block_of_addresses_is_an_end_of_a_flow():
    flows = [{"from": "a/b", "to": "10.1.0.0/16", "ports": [443]}, {"from": "fd00::/8", "to": "a/b", "ports": [80]}]
    [policy] = network_policies(flows, "a")
    assert policy["spec"]["egress"][0]["to"] == [{"ipBlock": {"cidr": "10.1.0.0/16"}}]
    assert policy["spec"]["ingress"][0]["from"] == [{"ipBlock": {"cidr": "fd00::/8"}}]
    with pytest.raises(AnsibleFilterError, match="10.1.0.1/16"):
        network_policies([{"from": "a/b", "to": "10.1.0.1/16", "ports": [443]}], "a")


def test_a_list_of_addresses_is_one_rule_and_the_api_is_found_later():
    (policy,) = network_policies([{"from": "a/b", "to": ["kubernetes-api", "10.0.0.0/16"], "ports": [443, 6443]}], "a")
    assert policy["spec"]["egress"] == [
        {
            "to": [{"ipBlock": {"cidr": "10.0.0.0/16"}}, {"found": "kubernetes-api"}],
            "ports": [{"protocol": "TCP", "port": 443}, {"protocol": "TCP", "port": 6443}],
        }
    ]


def test_a_receiver_behind_a_service_without_selector_is_reached_by_its_namespace_and_takes_alone():
    flows = [{"from": "a/b", "to": "c/d", "ports": [5432], "service_selector": False}]
    (sender,), (receiver,) = network_policies(flows, "a"), network_policies(flows, "c")
    assert sender["spec"]["egress"][0]["to"] == [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "c"}}}
    ]
    assert receiver["metadata"]["name"] == "d"
    assert receiver["spec"]["podSelector"] == {"matchLabels": {"app.kubernetes.io/name": "d"}}


def test_pods_of_a_chart_that_knows_another_label():
    flows = [{"from": "ingress/envoy", "to": "openfaas/app=gateway", "ports": [8080]}]
    (policy,) = network_policies(flows, "openfaas")
    assert policy["metadata"]["name"] == "gateway"
    assert policy["spec"]["podSelector"] == {"matchLabels": {"app": "gateway"}}
    (sender,) = network_policies(flows, "ingress")
    assert sender["spec"]["egress"][0]["to"][0]["podSelector"] == {"matchLabels": {"app": "gateway"}}
    with pytest.raises(AnsibleFilterError, match="LABEL=VALUE"):
        network_policies([{"from": "ingress/envoy", "to": "openfaas/app=", "ports": [1]}], "ingress")

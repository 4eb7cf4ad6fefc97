"""Peers that only the cluster knows: where its API and its DNS answer, on each kind of cluster."""

from __future__ import annotations

import ipaddress

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy.peers import with_found_peers

from ..stand_in import stands_in_for

DNS_PODS = {"k8s-app": "kube-dns"}


@stands_in_for(Cluster)
class Api:
    """Holds objects; a list is by namespace and equal labels."""

    def __init__(self, *objects):
        self.objects = objects

    def get(self, ref):
        found = [
            obj
            for obj in self.objects
            if (obj["kind"], obj["metadata"]["name"], obj["metadata"].get("namespace"))
            == (ref["kind"], ref["name"], ref["namespace"])
        ]
        return found[0] if found else None

    def list(self, api_version, kind, namespace=None, label_selector=None):
        wanted = dict(pair.split("=") for pair in label_selector.split(",")) if label_selector else {}
        return [
            obj
            for obj in self.objects
            if (obj["apiVersion"], obj["kind"]) == (api_version, kind)
            and namespace in (None, obj["metadata"].get("namespace"))
            and wanted.items() <= obj["metadata"].get("labels", {}).items()
        ]


def service(name, addresses, namespace="kube-system", selector=None, labels=None):
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": labels or {}},
        "spec": {"clusterIP": addresses[0], "clusterIPs": addresses, "selector": selector},
    }


def behind(name, addresses, namespace="kube-system", family="IPv4"):
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-x", "namespace": namespace, "labels": {"kubernetes.io/service-name": name}},
        "addressType": family,
        "endpoints": [{"addresses": [address]} for address in addresses] or None,
    }


def pod(labels, node_address="", args=()):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "x", "namespace": "kube-system", "labels": labels},
        "spec": {"hostNetwork": bool(node_address), "containers": [{"args": list(args)}]},
        "status": {"podIPs": [{"ip": node_address or "10.1.0.9"}]},
    }


def node(provider):
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "spec": {"providerID": provider}}


KUBE_DNS = service("kube-dns", ["172.20.0.10"], selector=DNS_PODS, labels={"k8s-app": "kube-dns"})
EKS, GKE = node("aws:///us-east-1a/i-1"), node("gce://project/us-central1-a/gke-1")


def allowed(what, *objects):
    """The peers that a rule gets for it: addresses, and the labels of pods."""
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "p", "namespace": "home"},
        "spec": {"egress": [{"to": [{"found": what}, {"ipBlock": {"cidr": "10.9.0.0/16"}}], "ports": [{"port": 53}]}]},
    }
    (made,) = with_found_peers(Api(*objects), [policy])
    assert policy["spec"]["egress"][0]["to"][0] == {"found": what}
    peers = made["spec"]["egress"][0]["to"]
    assert peers[-1] == {"ipBlock": {"cidr": "10.9.0.0/16"}}
    assert made["spec"]["egress"][0]["ports"] == [{"port": 53}]
    return {
        peer["ipBlock"]["cidr"] if "ipBlock" in peer else peer["podSelector"]["matchLabels"]["k8s-app"]
        for peer in peers[:-1]
    }


def test_the_api_is_its_service_s_address_and_those_behind_it():
    objects = [
        service("kubernetes", ["10.100.0.1", "fd00::1"], "default"),
        behind("kubernetes", ["192.168.3.4", "192.168.7.8"], "default"),
        behind("kubernetes", ["2001:db8::7"], "default", "IPv6"),
        behind("other", ["192.0.2.1"], "default"),
    ]
    found = allowed("kubernetes-api", *objects)
    assert found == {"10.100.0.1/32", "192.168.3.4/32", "192.168.7.8/32", "fd00::1/128", "2001:db8::7/128"}
    assert not any(ipaddress.ip_network(block).prefixlen == 0 for block in found)


@pytest.mark.parametrize(
    "objects", [[], [service("kubernetes", ["10.100.0.1"], "default"), behind("kubernetes", [], "default")]]
)
def test_an_api_that_cannot_be_found_is_said(objects):
    with pytest.raises(PlatformError, match=r"NetworkPolicy home/p.*default/kubernetes.*platform_api_server_addresses"):
        allowed("kubernetes-api", *objects)


@pytest.mark.parametrize(
    ("objects", "found"),
    [
        pytest.param([KUBE_DNS, EKS], {"kube-dns", "172.20.0.10/32"}, id="kube-dns or CoreDNS in pods"),
        pytest.param(
            [KUBE_DNS, EKS, pod({"k8s-app": "node-local-dns"}, "192.0.2.1", ["-localip", "169.254.20.11,172.20.0.10"])],
            {"kube-dns", "node-local-dns", "172.20.0.10/32", "169.254.20.11/32"},
            id="a cache on the nodes, at the address that it was given",
        ),
        pytest.param(
            [KUBE_DNS, pod(DNS_PODS, "192.168.1.1")],
            {"kube-dns", "172.20.0.10/32", "192.168.1.1/32"},
            id="pods with the node's address",
        ),
        pytest.param(
            [service("kube-dns", ["10.0.0.10"], labels={"k8s-app": "kube-dns"}), behind("kube-dns", ["10.0.0.53"])],
            {"10.0.0.10/32", "10.0.0.53/32"},
            id="servers elsewhere",
        ),
        pytest.param(
            [KUBE_DNS, GKE],
            {"kube-dns", "node-local-dns", "172.20.0.10/32", "169.254.20.10/32", "169.254.169.254/32"},
            id="GKE: kube-dns, with or without NodeLocal DNSCache, which Dataplane V2 has in pods",
        ),
        pytest.param(
            [GKE], {"node-local-dns", "169.254.20.10/32", "169.254.169.254/32"}, id="GKE: Cloud DNS, without kube-dns"
        ),
    ],
)  # fmt: skip
def test_dns_is_found_on_each_kind_of_cluster(objects, found):
    assert allowed("dns", *objects) == found


def test_pods_are_not_cut_off_from_a_dns_that_cannot_be_found():
    with pytest.raises(PlatformError, match=r"nothing was applied.*NetworkPolicy home/p.*foundation_dns_peers"):
        allowed("dns", EKS)


def test_what_is_to_be_found_is_named():
    with pytest.raises(PlatformError, match="found: 'internet'.*kubernetes-api or dns"):
        allowed("internet")


def test_a_batch_that_asks_for_nothing_asks_the_cluster_nothing():
    objects = [None, "x", {"kind": "NetworkPolicy", "spec": {"ingress": [{"from": [{"podSelector": {}}]}]}}]
    assert with_found_peers(None, objects) == objects

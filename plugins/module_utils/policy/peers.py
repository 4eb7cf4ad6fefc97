# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Peers of NetworkPolicies that only the cluster knows: ``{found: kubernetes-api}`` and ``{found: dns}``.

Both are named with every address that a network may judge: a Service's own (EKS' VPC CNI judges before it is
translated) and those behind it (Calico, Cilium).
"""

from __future__ import annotations

import copy
import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object

KEY = "found"

NODE_LOCAL_DNS = "169.254.20.10"
"""https://kubernetes.io/docs/tasks/administer-cluster/nodelocaldns/"""

CLOUD_DNS = "169.254.169.254"
"""GKE's metadata server, which answers for Cloud DNS at port 53."""

_SYSTEM = "kube-system"
_LOCAL_ADDRESSES = re.compile(r"-{1,2}localip[= ]([0-9a-fA-F.:,]+)")


def with_found_peers(cluster: Cluster, objects: Iterable[Any] | None) -> list[Any]:
    """The objects with every peer to find replaced by what the cluster has; the others are the same objects."""
    found: dict[str, list[Object]] = {}

    def peers_of(what: str, where: str) -> list[Object]:
        if what not in found:
            if what not in _FINDERS:
                raise PlatformError(
                    "a peer of a NetworkPolicy cannot be found",
                    where=where,
                    found=f"{KEY}: {what!r}",
                    expected=f"{KEY}: {' or '.join(_FINDERS)}",
                    fix="correct the object",
                    reason="argument",
                )
            found[what] = _FINDERS[what](cluster, where)
        return found[what]

    return [_replaced(obj, peers_of) if _has_peers_to_find(obj) else obj for obj in objects or []]


def _rules(obj: Any) -> Iterator[tuple[Object, str]]:
    """The rules of a NetworkPolicy, each with the name of its list of peers."""
    spec = obj.get("spec") if isinstance(obj, dict) and obj.get("kind") == "NetworkPolicy" else None
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        for rule in (spec.get(direction) if isinstance(spec, dict) else None) or ():
            if isinstance(rule, dict) and isinstance(rule.get(peers), list):
                yield rule, peers


def _has_peers_to_find(obj: Any) -> bool:
    return any(isinstance(peer, dict) and KEY in peer for rule, peers in _rules(obj) for peer in rule[peers])


def _replaced(obj: Object, peers_of: Callable[[str, str], list[Object]]) -> Object:
    changed: Object = copy.deepcopy(obj)
    metadata = obj.get("metadata") or {}
    where = f"NetworkPolicy {metadata.get('namespace')}/{metadata.get('name')}"
    for rule, peers in _rules(changed):
        rule[peers] = [
            one
            for peer in rule[peers]
            for one in (peers_of(peer[KEY], where) if isinstance(peer, dict) and KEY in peer else [peer])
        ]
    return changed


def _blocks(addresses: Iterable[str]) -> list[Object]:
    """Peers of one address each, in a fixed order: a list in another order would be a change."""
    networks = {ipaddress.ip_network(address) for address in addresses}
    return [{"ipBlock": {"cidr": str(network)}} for network in sorted(networks, key=lambda one: (one.version, one))]


def _own_addresses(service: Object) -> list[str]:
    spec = service["spec"]
    return [address for address in spec.get("clusterIPs") or [spec.get("clusterIP")] if address and address != "None"]


def _addresses_behind(cluster: Cluster, namespace: str, service: str) -> list[str]:
    slices = cluster.list(
        "discovery.k8s.io/v1", "EndpointSlice", namespace, label_selector=f"kubernetes.io/service-name={service}"
    )
    return [
        address
        for one in slices
        if one.get("addressType") != "FQDN"
        for endpoint in one.get("endpoints") or []
        for address in endpoint["addresses"]
    ]


def _kubernetes_api(cluster: Cluster, where: str) -> list[Object]:
    service = cluster.get({"apiVersion": "v1", "kind": "Service", "name": "kubernetes", "namespace": "default"})
    behind = _addresses_behind(cluster, "default", "kubernetes")
    if service is None or not behind:
        raise PlatformError(
            "the addresses of the Kubernetes API cannot be found, and nothing was applied",
            where=where,
            found="no Service default/kubernetes"
            if service is None
            else "Service default/kubernetes with no endpoints",
            expected="the API's own Service and the addresses behind it",
            fix="set platform_api_server_addresses to the blocks where the API answers, as pods see it",
            reason="missing",
        )
    return _blocks([*_own_addresses(service), *behind])


def _selected(labels: dict[str, str]) -> Object:
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": _SYSTEM}},
        "podSelector": {"matchLabels": labels},
    }


def _pods(cluster: Cluster, labels: dict[str, str]) -> list[Object]:
    selector = ",".join(f"{name}={value}" for name, value in sorted(labels.items()))
    return cluster.list("v1", "Pod", _SYSTEM, label_selector=selector)


def _addresses_of_nodes(pods: Iterable[Object]) -> Iterator[str]:
    """Of those pods that have their node's address, which no selector matches."""
    for pod in pods:
        if pod["spec"].get("hostNetwork"):
            yield from (entry["ip"] for entry in (pod.get("status") or {}).get("podIPs") or [])


def _dns(cluster: Cluster, where: str) -> list[Object]:
    """kube-dns or CoreDNS by its Service, a cache on the nodes, and GKE's own, each where it is.

    On GKE (https://cloud.google.com/kubernetes-engine/docs/how-to/network-policy) all of them: which one answers can be
    changed there while the platform runs, and only port 53 is opened.
    """
    selectors: list[dict[str, str]] = []
    addresses: set[str] = set()
    for service in cluster.list("v1", "Service", _SYSTEM, label_selector="k8s-app=kube-dns"):
        labels = service["spec"].get("selector")
        if labels:
            selectors.append(labels)
            addresses.update(_addresses_of_nodes(_pods(cluster, labels)))
        else:
            addresses.update(_addresses_behind(cluster, _SYSTEM, service["metadata"]["name"]))
        # A cache on the nodes answers on it too, and not in a pod.
        addresses.update(_own_addresses(service))
    caches = _pods(cluster, {"k8s-app": "node-local-dns"})
    gke = any(
        str((node.get("spec") or {}).get("providerID")).startswith("gce://") for node in cluster.list("v1", "Node")
    )
    if caches or gke:
        selectors.append({"k8s-app": "node-local-dns"})
        addresses.update(_local_addresses(caches) or [NODE_LOCAL_DNS])
    if gke:
        addresses.add(CLOUD_DNS)
    if not selectors and not addresses:
        raise PlatformError(
            "nobody is found who answers the pods' DNS questions; the default denial would cut them off, and nothing "
            "was applied",
            where=where,
            found="in kube-system no Service with the label k8s-app: kube-dns and no node-local-dns, and no GKE node",
            expected="one of them, or foundation_dns_peers",
            fix="set foundation_dns_peers to where the nameserver of a pod's /etc/resolv.conf is, for instance "
            "[{ipBlock: {cidr: 172.20.0.10/32}}]",
            reason="missing",
        )
    unique = {tuple(sorted(labels.items())): labels for labels in selectors}
    return [_selected(unique[key]) for key in sorted(unique)] + _blocks(addresses)


def _local_addresses(caches: Iterable[Object]) -> set[str]:
    """What the caches listen on, which only their arguments say."""
    return {
        address
        for pod in caches
        for container in pod["spec"]["containers"]
        for given in _LOCAL_ADDRESSES.findall(
            " ".join([*(container.get("command") or []), *(container.get("args") or [])])
        )
        for address in given.split(",")
        if address
    }


_FINDERS: dict[str, Callable[[Cluster, str], list[Object]]] = {"kubernetes-api": _kubernetes_api, "dns": _dns}

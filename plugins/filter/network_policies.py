# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.flows import (
    APP_LABEL,
    DNS_LABEL,
    KUBERNETES_API,
    Endpoint,
    fail,
    labels_of,
    parse_flows,
)

DOCUMENTATION = r"""
name: network_policies
short_description: NetworkPolicies of one namespace from the platform's table of flows
version_added: 0.1.0
description:
  - One table says who may call whom. This filter yields the policies that one namespace needs so that its part of the
    table holds, an egress rule at the sender of a flow and an ingress rule at its receiver.
  - The result has one policy for each app, named after it, and one named C(all.pods) for flows that name the whole
    namespace.
  - Each policy isolates its pods both ways. What the table does not list is denied, DNS included unless another policy
    allows it.
author:
  - The lambda_microservice.platform team
positional: _input, namespace, apps
options:
  _input:
    description:
      - The flows, each a dictionary with C(from), C(to) and C(ports).
      - C(from) and C(to) are V(NAMESPACE/APP), the pods of NAMESPACE that are labelled
        C(app.kubernetes.io/name=APP), or V(NAMESPACE/*), every pod of NAMESPACE. V(monitoring) is short for
        V(monitoring/*). V(NAMESPACE/LABEL=VALUE) are pods of a chart that knows no such label, by one that it sets.
      - V(world) is every address, inside and outside of the cluster, and V(10.0.0.0/8) is a block of them.
        V(kubernetes-api) is where the cluster's API answers, which the module M(lambda_microservice.platform.policy)
        finds when it applies the policy. One end of a flow can be that, or a list of them, not both.
      - C(ports) is a list of TCP port numbers of the receiving pods.
      - C(service_selector) is V(false) for a receiver that is reached through a Service without selector. The sender
        may then go to every pod of the receiver's namespace at these ports, of which the receiver alone lets it in. The
        controller of the VPC CNI of EKS judges a Service's own address, and knows that of a Service without selector
        by a peer without selector only (getMatchingServiceClusterIPs in amazon-network-policy-controller-k8s).
    type: list
    elements: dict
    required: true
  namespace:
    description: The namespace to make policies for.
    type: str
    required: true
  apps:
    description: Only the policies of these apps, where roles share the namespace. Without it, all of them.
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: Allow what the controller's namespace sends and receives
  lambda_microservice.platform.policy:
    name: controller
    namespace: controller
    objects: "{{ flows | lambda_microservice.platform.network_policies('controller') }}"
  vars:
    flows:
      - {from: world, to: ingress/envoy, ports: [8443, 8080]}
      - {from: ingress/envoy, to: controller/controller, ports: [8080]}
      - {from: monitoring, to: controller/controller, ports: [9090]}
"""

RETURN = r"""
_value:
  description: NetworkPolicy objects, ordered by name; the same flows in another order give the same result.
  type: list
  elements: dict
"""

WORLD_BLOCKS = ("0.0.0.0/0", "::/0")
# A dot cannot be in an app's name (a DNS label), so this name cannot be an app's.
WHOLE_NAMESPACE_POLICY = "all.pods"


def _peers(endpoint: Endpoint) -> list[dict[str, Any]]:
    """One end of a flow as NetworkPolicyPeers."""
    if not endpoint.namespace:
        if endpoint.app == KUBERNETES_API:
            return [{"found": KUBERNETES_API}]
        return [{"ipBlock": {"cidr": block}} for block in ([endpoint.app] if endpoint.app else WORLD_BLOCKS)]
    selector = {"matchLabels": {"kubernetes.io/metadata.name": endpoint.namespace}}
    peer: dict[str, Any] = {"namespaceSelector": selector}
    if endpoint.app != "*":
        peer["podSelector"] = {"matchLabels": labels_of(endpoint.app)}
    return [peer]


def _rules(ports_by_peer: dict[Endpoint, set[int]], direction: str) -> list[dict[str, Any]]:
    """One rule for each distinct set of ports, so that peers with the same ports share a rule."""
    by_ports: dict[tuple[int, ...], list[Endpoint]] = {}
    for peer, ports in sorted(ports_by_peer.items()):
        by_ports.setdefault(tuple(sorted(ports)), []).append(peer)
    return [
        {
            direction: [entry for peer in peers for entry in _peers(peer)],
            "ports": [{"protocol": "TCP", "port": port} for port in ports],
        }
        for ports, peers in sorted(by_ports.items())
    ]


def network_policies(flows: Any, namespace: Any, apps: Any = None) -> list[dict[str, Any]]:
    """NetworkPolicies of ``namespace`` (of some ``apps`` in it) that permit ``flows`` and nothing else."""
    if not isinstance(namespace, str) or not DNS_LABEL.fullmatch(namespace):
        fail("namespace", namespace, "the name of a namespace")
    ingress: dict[str, dict[Endpoint, set[int]]] = {}
    egress: dict[str, dict[Endpoint, set[int]]] = {}
    for flow in parse_flows(flows):
        if flow.sender.namespace == namespace:
            egress.setdefault(flow.sender.app, {}).setdefault(flow.to(), set()).update(flow.ports)
        if flow.receiver.namespace == namespace:
            ingress.setdefault(flow.receiver.app, {}).setdefault(flow.sender, set()).update(flow.ports)

    policies = []
    for app in sorted((set(ingress) | set(egress)) & (set(apps) if apps is not None else {*ingress, *egress})):
        labels = {
            "app.kubernetes.io/part-of": "lambda-microservice-platform",
            "app.kubernetes.io/component": "network-policy",
        }
        selector: dict[str, Any] = {}
        name = WHOLE_NAMESPACE_POLICY if app == "*" else app.rpartition("=")[2]
        if app != "*":
            labels[APP_LABEL] = name
            selector = {"matchLabels": labels_of(app)}
        # Both types always: a direction without rules is closed by this policy itself, not only by a default that
        # somebody may have removed.
        spec: dict[str, Any] = {"podSelector": selector, "policyTypes": ["Ingress", "Egress"]}
        if app in ingress:
            spec["ingress"] = _rules(ingress[app], "from")
        if app in egress:
            spec["egress"] = _rules(egress[app], "to")
        policies.append(
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": {
                    "name": name,
                    "namespace": str(namespace),
                    "labels": labels,
                },
                "spec": spec,
            }
        )
    return policies


class FilterModule:
    """Registers the filter."""

    def filters(self):
        """Names and functions."""
        return {"network_policies": network_policies}

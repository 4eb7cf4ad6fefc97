# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import ipaddress
import re
from typing import Any, NamedTuple

from ansible.errors import AnsibleFilterError

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

WORLD = "world"
KUBERNETES_API = "kubernetes-api"
WORLD_BLOCKS = ("0.0.0.0/0", "::/0")
SHORT = {"monitoring": "monitoring/*"}
# A dot cannot be in an app's name (a DNS label), so this name cannot be an app's.
WHOLE_NAMESPACE_POLICY = "all.pods"

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_APP = re.compile(rf"\*|([a-z]+=)?{_DNS_LABEL.pattern}")
_APP_LABEL = "app.kubernetes.io/name"
_KEYS = ("from", "to", "ports")
_OPTIONAL = "service_selector"
_ENDPOINT_FORM = (
    "NAMESPACE/APP, NAMESPACE/LABEL=VALUE, NAMESPACE/*, 'monitoring', or one or a list of a block of addresses such as "
    "10.0.0.0/8, 'kubernetes-api' and 'world'"
)


class Endpoint(NamedTuple):
    """One end of a flow. ``app`` is ``*`` for the whole namespace; without a namespace, it is a block of addresses,
    :data:`KUBERNETES_API`, or empty for the world."""

    namespace: str
    app: str

    def peer(self) -> list[dict[str, Any]]:
        """The endpoint as NetworkPolicyPeers."""
        if not self.namespace:
            if self.app == KUBERNETES_API:
                return [{"found": KUBERNETES_API}]
            return [{"ipBlock": {"cidr": block}} for block in ([self.app] if self.app else WORLD_BLOCKS)]
        peer: dict[str, Any] = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self.namespace}}}
        if self.app != "*":
            peer["podSelector"] = {"matchLabels": _labels(self.app)}
        return [peer]


def _labels(app: str) -> dict[str, str]:
    """By which the pods of an app are known."""
    label, equals, value = app.partition("=")
    return {label: value} if equals else {_APP_LABEL: app}


class Flow(NamedTuple):
    """A checked row of the table."""

    sender: Endpoint
    receiver: Endpoint
    ports: tuple[int, ...]
    service_selector: bool = True

    def to(self) -> Endpoint:
        """Where the sender may go."""
        return self.receiver if self.service_selector else self.receiver._replace(app="*")


def _fail(where: str, found: Any, expected: str) -> None:
    raise AnsibleFilterError(f"network_policies: {where} is wrong. Found: {found!r}. Expected: {expected}.")


def _endpoint(value: Any, where: str) -> Endpoint:
    if not isinstance(value, str):
        _fail(where, value, _ENDPOINT_FORM)
    if value in (WORLD, KUBERNETES_API):
        return Endpoint("", "" if value == WORLD else KUBERNETES_API)
    with contextlib.suppress(ValueError):
        return Endpoint("", str(ipaddress.ip_network(value)))
    namespace, slash, app = SHORT.get(value, value).partition("/")
    if not slash or not _DNS_LABEL.fullmatch(namespace) or not _APP.fullmatch(app):
        _fail(where, value, _ENDPOINT_FORM + ", in lower-case letters, digits and hyphens")
    return Endpoint(str(namespace), str(app))


def _endpoints(value: Any, where: str) -> list[Endpoint]:
    if not isinstance(value, (list, tuple)):
        return [_endpoint(value, where)]
    found = [_endpoint(one, where) for one in value]
    if not found or any(one.namespace for one in found):
        _fail(where, value, _ENDPOINT_FORM)
    return found


def parse_flows(flows: Any) -> list[Flow]:
    """Check the table and return its rows, one for each end of a list; the error names the row, what was found and what
    was expected."""
    if not isinstance(flows, (list, tuple)):
        _fail("the input", flows, "a list of flows")
    parsed = []
    for index, flow in enumerate(flows):
        where = f"flow {index}"
        if not isinstance(flow, dict):
            _fail(where, flow, "a dictionary with the keys from, to and ports")
        if set(flow) - {_OPTIONAL} != set(_KEYS):
            _fail(
                f"{where} (its keys)",
                sorted(str(key) for key in flow),
                f"exactly the keys from, to and ports, and {_OPTIONAL} where it is needed",
            )
        senders = _endpoints(flow["from"], f"{where}, from,")
        receivers = _endpoints(flow["to"], f"{where}, to,")
        outside = not receivers[0].namespace
        if not senders[0].namespace and outside:
            _fail(where, dict(flow), "at least one end in the cluster, not 'world'")
        ports = flow["ports"]
        if not isinstance(ports, (list, tuple)) or not ports:
            _fail(f"{where}, ports,", ports, "a list of at least one TCP port number")
        for port in ports:
            if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
                _fail(f"{where}, ports,", port, "TCP port numbers, integers from 1 to 65535")
        selector = flow.get(_OPTIONAL, True)
        if not isinstance(selector, bool) or (outside and not selector):
            _fail(f"{where}, {_OPTIONAL},", selector, "true, or false where to is in the cluster")
        numbers = tuple(sorted({int(port) for port in ports}))
        parsed += [Flow(sender, receiver, numbers, selector) for sender in senders for receiver in receivers]
    return parsed


def _rules(ports_by_peer: dict[Endpoint, set[int]], direction: str) -> list[dict[str, Any]]:
    """One rule for each distinct set of ports, so that peers with the same ports share a rule."""
    by_ports: dict[tuple[int, ...], list[Endpoint]] = {}
    for peer, ports in sorted(ports_by_peer.items()):
        by_ports.setdefault(tuple(sorted(ports)), []).append(peer)
    return [
        {
            direction: [entry for peer in peers for entry in peer.peer()],
            "ports": [{"protocol": "TCP", "port": port} for port in ports],
        }
        for ports, peers in sorted(by_ports.items())
    ]


def network_policies(flows: Any, namespace: Any, apps: Any = None) -> list[dict[str, Any]]:
    """NetworkPolicies of ``namespace`` (of some ``apps`` in it) that permit ``flows`` and nothing else."""
    if not isinstance(namespace, str) or not _DNS_LABEL.fullmatch(namespace):
        _fail("namespace", namespace, "the name of a namespace")
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
            labels[_APP_LABEL] = name
            selector = {"matchLabels": _labels(app)}
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

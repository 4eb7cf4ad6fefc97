# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.listeners import CONNECTION_MANAGER
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.replies import proxy_replies
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.flows import (
    APP_LABEL,
    Endpoint,
    parse_flows,
)
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.mesh import Proxy, proxies

DOCUMENTATION = r"""
name: mesh_policies
short_description: Istio's objects from the platform's table of flows
version_added: 0.2.0
description:
  - The same table as of P(lambda_microservice.platform.network_policies#filter), said by identities and not by labels.
    An AuthorizationPolicy for each workload lets in those of the mesh that call it, by their service accounts (each is
    named as its workload), and nobody else; a PeerAuthentication for each namespace; and a DestinationRule for each
    Service that is called, by which it is called with an identity.
  - These refuse whoever has no proxy yet. What tells a proxy what it has to know comes before them. A Sidecar for each
    workload names the namespaces that it calls, and it knows no others; and an EnvoyFilter lets proxies say of their
    own answers whether anything ran, in the form of the platform's errors.
  - What comes from outside of the mesh goes past the proxies
    (P(lambda_microservice.platform.mesh_workloads#filter)) and is in no object here.
author:
  - The lambda_microservice.platform team
positional: _input, namespaces
options:
  _input:
    description: The flows, as P(lambda_microservice.platform.network_policies#filter) takes them.
    type: list
    elements: dict
    required: true
  namespaces:
    description: The namespaces of the mesh.
    type: list
    elements: str
    required: true
  services:
    description: The Services of a workload, by V(NAMESPACE/APP), where they are not the one of its own name.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Who may call the controller, by its service account
  ansible.builtin.debug:
    msg: "{{ flows | lambda_microservice.platform.mesh_policies(['ingress', 'controller']) }}"
  vars:
    flows:
      - {from: ingress/envoy, to: controller/controller, ports: [8080]}
"""

RETURN = r"""
_value:
  description: Objects, ordered by namespace, kind and name.
  type: dict
  contains:
    proxies:
      description: Sidecars and EnvoyFilters by namespace. One in which nobody has a proxy is not there.
      type: dict
    identities:
      description: All others.
      type: list
      elements: dict
"""

TRUST_DOMAIN = "cluster.local"
LABELS = {
    "app.kubernetes.io/part-of": "lambda-microservice-platform",
    "app.kubernetes.io/component": "mesh",
}
HTTP = "envoy.filters.network.http_connection_manager"


def _object(kind: str, namespace: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    group = "security" if kind in ("AuthorizationPolicy", "PeerAuthentication") else "networking"
    # EnvoyFilter has no other version.
    version = "v1alpha3" if kind == "EnvoyFilter" else "v1"
    return {
        "apiVersion": f"{group}.istio.io/{version}",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "labels": {**LABELS, APP_LABEL: name}},
        "spec": spec,
    }


def _source(caller: Endpoint) -> dict[str, Any]:
    """A caller by its service account, or every one of a namespace."""
    if caller.app == "*":
        return {"source": {"namespaces": [caller.namespace]}}
    return {"source": {"principals": [f"{TRUST_DOMAIN}/ns/{caller.namespace}/sa/{caller.app}"]}}


def _rules(proxy: Proxy) -> list[dict[str, Any]]:
    """One rule for each distinct set of ports."""
    by_ports: dict[tuple[int, ...], list[Endpoint]] = {}
    for caller, ports in sorted(proxy.callers.items()):
        by_ports.setdefault(tuple(sorted(ports)), []).append(caller)
    return [
        {
            "from": [_source(caller) for caller in callers],
            "to": [{"operation": {"ports": [str(port) for port in ports]}}],
        }
        for ports, callers in sorted(by_ports.items())
    ]


def _destination(host: str) -> dict[str, Any]:
    policy = {
        # Said, not found out: a proxy that knows no pod of a Service yet would speak plain text to the first.
        "tls": {"mode": "ISTIO_MUTUAL"},
        # As long as the edge and the controller wait for a connection themselves.
        "connectionPool": {"tcp": {"connectTimeout": "1s"}},
    }
    return {"host": host, "trafficPolicy": policy}


def _local_replies() -> dict[str, Any]:
    manager = {"@type": CONNECTION_MANAGER, "local_reply_config": proxy_replies()}
    return {
        "configPatches": [
            {
                "applyTo": "NETWORK_FILTER",
                "match": {"context": context, "listener": {"filterChain": {"filter": {"name": HTTP}}}},
                "patch": {"operation": "MERGE", "value": {"name": HTTP, "typed_config": manager}},
            }
            for context in ("SIDECAR_INBOUND", "SIDECAR_OUTBOUND")
        ]
    }


def mesh_policies(flows: Any, namespaces: Any, services: Any = None) -> dict[str, Any]:
    """As RETURN says."""
    everywhere, _conflicts = proxies(parse_flows(flows), namespaces)
    told: dict[str, list[dict[str, Any]]] = {}
    identities = []
    for namespace in sorted({workload.namespace for workload in everywhere}):
        told[namespace] = [_object("EnvoyFilter", namespace, "local-replies", _local_replies())]
        identities.append(_object("PeerAuthentication", namespace, "default", {"mtls": {"mode": "STRICT"}}))
    for (namespace, app), proxy in everywhere.items():
        labels = {APP_LABEL: app}
        hosts = [f"{called}/*" for called in sorted(proxy.called)] or ["~/*"]
        known = {"workloadSelector": {"labels": labels}, "egress": [{"hosts": hosts}]}
        told[namespace].append(_object("Sidecar", namespace, app, known))
        # One object a workload, with all that is let in: two could come to its proxy one after the other. Without a
        # rule it lets in nobody.
        allowed = {"selector": {"matchLabels": labels}, "action": "ALLOW", "rules": _rules(proxy)}
        identities.append(_object("AuthorizationPolicy", namespace, app, allowed))
        for service in (services or {}).get(f"{namespace}/{app}", [app]) if proxy.callers else ():
            host = f"{service}.{namespace}.svc.{TRUST_DOMAIN}"
            identities.append(_object("DestinationRule", namespace, service, _destination(host)))
    return {
        "proxies": {namespace: sorted(objects, key=_order) for namespace, objects in told.items()},
        "identities": sorted(identities, key=_order),
    }


def _order(obj: dict[str, Any]) -> tuple[str, str, str]:
    return (obj["metadata"]["namespace"], obj["kind"], obj["metadata"]["name"])


class FilterModule:
    """Registers the filter."""

    def filters(self):
        """Names and functions."""
        return {"mesh_policies": mesh_policies}

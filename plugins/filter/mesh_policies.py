# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleFilterError
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
short_description: Istio's objects of each namespace from the platform's table of flows
version_added: 0.2.0
description:
  - The same table as of P(lambda_microservice.platform.network_policies#filter), said by identities and not by labels.
    An AuthorizationPolicy for each workload that others of the mesh call, by their service accounts (each is named as
    its workload), and one that denies all else; a PeerAuthentication; a Sidecar for each workload, so that its proxy
    knows the namespaces that it calls and no other; and a DestinationRule for each Service that is called.
  - What comes from outside of the mesh goes past the proxies
    (P(lambda_microservice.platform.mesh_workloads#filter)) and is in no object here.
  - An EnvoyFilter lets each proxy say of its own answers whether anything ran, in the form of the platform's errors.
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
  mtls:
    description:
      - V(strict) refuses who has no identity. V(permissive) takes everybody in, and asks nobody who it is, for the time
        in which pods get their proxies, or lose them.
    type: str
    choices: [strict, permissive]
    default: strict
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
  description: Objects by namespace, ordered by kind and name. A namespace is not there where nobody has a proxy.
  type: dict
"""

TRUST_DOMAIN = "cluster.local"
LABELS = {
    "app.kubernetes.io/part-of": "lambda-microservice-platform",
    "app.kubernetes.io/component": "mesh",
}
MODES = {"strict": "STRICT", "permissive": "PERMISSIVE"}
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


def _destination(host: str, mtls: str) -> dict[str, Any]:
    # As long as the edge and the controller wait for a connection themselves.
    policy: dict[str, Any] = {"connectionPool": {"tcp": {"connectTimeout": "1s"}}}
    if mtls == "strict":
        # Said, not found out: a proxy that knows no pod of a Service yet would speak plain text to the first.
        policy["tls"] = {"mode": "ISTIO_MUTUAL"}
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


def mesh_policies(
    flows: Any, namespaces: Any, services: Any = None, mtls: Any = "strict"
) -> dict[str, list[dict[str, Any]]]:
    """As RETURN says."""
    if mtls not in MODES:
        raise AnsibleFilterError(f"mesh_policies: mtls is wrong. Found: {mtls!r}. Expected: {' or '.join(MODES)}.")
    everywhere, _conflicts = proxies(parse_flows(flows), namespaces)
    by_namespace: dict[str, dict[str, Proxy]] = {}
    for (namespace, app), proxy in everywhere.items():
        by_namespace.setdefault(namespace, {})[app] = proxy
    return {namespace: _objects(namespace, apps, services or {}, mtls) for namespace, apps in by_namespace.items()}


def _objects(namespace: str, apps: dict[str, Proxy], services: dict[str, Any], mtls: str) -> list[dict[str, Any]]:
    objects = [
        _object("PeerAuthentication", namespace, "default", {"mtls": {"mode": MODES[mtls]}}),
        _object("EnvoyFilter", namespace, "local-replies", _local_replies()),
    ]
    if mtls == "strict":
        objects.append(_object("AuthorizationPolicy", namespace, "default-deny", {}))
    for app, proxy in apps.items():
        labels = {APP_LABEL: app}
        if proxy.callers and mtls == "strict":
            allowed = {"selector": {"matchLabels": labels}, "action": "ALLOW", "rules": _rules(proxy)}
            objects.append(_object("AuthorizationPolicy", namespace, app, allowed))
        hosts = [f"{called}/*" for called in sorted(proxy.called)] or ["~/*"]
        known = {"workloadSelector": {"labels": labels}, "egress": [{"hosts": hosts}]}
        objects.append(_object("Sidecar", namespace, app, known))
        for service in services.get(f"{namespace}/{app}", [app]) if proxy.callers else ():
            host = f"{service}.{namespace}.svc.{TRUST_DOMAIN}"
            objects.append(_object("DestinationRule", namespace, service, _destination(host, mtls)))
    return sorted(objects, key=lambda obj: (obj["kind"], obj["metadata"]["name"]))


class FilterModule:
    """Registers the filter."""

    def filters(self):
        """Names and functions."""
        return {"mesh_policies": mesh_policies}

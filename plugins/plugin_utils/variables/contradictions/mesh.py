# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mesh: no port of a workload is for one with an identity and for one without."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.lambda_microservice.platform.plugins.filter.placed import placed
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.flows import Endpoint, parse_flows
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.mesh import proxies
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.contradictions.finding import (
    NotChecked,
    Values,
    contradiction,
)

_MESHED = ("ingress", "controller", "runtimes", "openfaas")
_OTHERS = ("data_services", "monitoring")
_NO_PODS = {"api_servers": "kubernetes-api", "nodes": "world"}


def _flows(values: Values) -> Iterator[PlatformError]:
    if not values["mesh_enabled"]:
        raise NotChecked("mesh_enabled")
    places = {role: values[f"{role}_namespace"] for role in (*_MESHED, *_OTHERS)}
    table: list[Any] = [*values["__platform_flows"], *values["__platform_flows_monitoring"]]
    if values["openfaas_enabled"] and values["openfaas_edition"] == "compatible":
        table += values["__platform_flows_gateway"]
        if values["openfaas_callback_hosts"]:
            table.append({"from": "openfaas/queue-worker", "to": "world", "ports": values["openfaas_callback_ports"]})
    rows = placed(table, {**places, **_NO_PODS, "node_agents": values["foundation_node_agents_namespace"]})
    try:
        flows = parse_flows([*rows, *values["platform_extra_flows"]])
    except AnsibleFilterError as wrong:
        # It is said where the policies are made.
        raise NotChecked("platform_extra_flows") from wrong
    _found, conflicts = proxies(flows, {places[role] for role in _MESHED})
    for one in conflicts:
        yield contradiction(
            f"port {one.port} is for one who proves who it is, and for one who cannot",
            f"a flow of {_named(one.workload)} with {_named(one.known)}, which is in the mesh, and one with "
            f"{_named(one.unknown)}, which is not",
            "ports that one of the two alone uses: those of who has no identity go past the proxy",
            "give it another way (through the edge) or another port in platform_extra_flows or "
            "openfaas_callback_ports, or leave mesh_enabled false",
        )


def _named(end: Endpoint) -> str:
    return f"{end.namespace}/{end.app}" if end.namespace else end.app or "the world"


CHECKS = (_flows,)

# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.flows import parse_flows
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.mesh import proxies

DOCUMENTATION = r"""
name: mesh_workloads
short_description: Which workloads get a proxy of the mesh, and which ports it does not see
version_added: 0.2.0
description:
  - A workload has a proxy where it calls another one of the mesh, or is called by one
    (P(lambda_microservice.platform.mesh_policies#filter)).
  - A port on which somebody without an identity calls it, such as Prometheus, goes past the proxy, as does a port of
    somebody without one whom it calls, such as PostgreSQL or a name server. NetworkPolicies alone hold these.
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
"""

EXAMPLES = r"""
- name: What the controller's proxy does not see
  ansible.builtin.debug:
    msg: "{{ flows | lambda_microservice.platform.mesh_workloads(['ingress', 'controller']) }}"
  vars:
    flows:
      - {from: ingress/envoy, to: controller/controller, ports: [8080]}
      - {from: monitoring/prometheus, to: controller/controller, ports: [9090]}
# {controller/controller: {inbound: [9090], outbound: [53]}, ingress/envoy: {inbound: [], outbound: [53]}}
"""

RETURN = r"""
_value:
  description:
    - By V(NAMESPACE/APP), the ports of its own (C(inbound)) and of others (C(outbound)) that go past its proxy.
  type: dict
"""


DNS = 53
"""By TCP, for a long answer: what everybody may ask (foundation) is no row of the table."""


def mesh_workloads(flows: Any, namespaces: Any) -> dict[str, dict[str, list[int]]]:
    """As RETURN says."""
    found, _conflicts = proxies(parse_flows(flows), namespaces)
    return {
        f"{workload.namespace}/{workload.app}": {
            "inbound": sorted(proxy.past_in),
            "outbound": sorted({DNS, *proxy.past_out}),
        }
        for workload, proxy in found.items()
    }


class FilterModule:
    """Registers the filter."""

    def filters(self):
        """Names and functions."""
        return {"mesh_workloads": mesh_workloads}

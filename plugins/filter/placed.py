# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: placed
short_description: The table of flows with namespaces in place of roles
version_added: 0.2.0
description:
  - The platform's table of flows says C(controller/controller), and means the namespace of the role controller. So the
    table is plain text, which costs nothing to evaluate.
author:
  - The lambda_microservice.platform team
positional: _input, places
options:
  _input:
    description: The flows, as P(lambda_microservice.platform.network_policies#filter) takes them.
    type: list
    elements: dict
    required: true
  places:
    description:
      - What stands for what. V(ROLE/APP) becomes V(NAMESPACE/APP) by the namespace of V(ROLE), and V(NAME) without a
        slash becomes the value of V(NAME), such as a list of addresses. What is not in it stays as it is.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Where the controller is
  ansible.builtin.debug:
    msg: "{{ flows | lambda_microservice.platform.placed({'controller': 'my-controller', 'nodes': ['10.0.0.0/16']}) }}"
  vars:
    flows:
      - {from: controller/controller, to: nodes, ports: [10250]}
# [{from: my-controller/controller, to: [10.0.0.0/16], ports: [10250]}]
"""

RETURN = r"""
_value:
  description: The same flows.
  type: list
  elements: dict
"""


def placed(flows: Any, places: Any) -> list[dict[str, Any]]:
    """The flows, each end in its place."""
    if not isinstance(flows, list) or not isinstance(places, dict):
        raise AnsibleFilterError(
            f"placed: a list of flows and a dictionary of places are wanted. Found: {type(flows)}, {type(places)}."
        )

    def end(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        role, slash, app = value.partition("/")
        if role not in places:
            return value
        return f"{places[role]}/{app}" if slash else places[role]

    return [{**flow, "from": end(flow["from"]), "to": end(flow["to"])} for flow in flows]


class FilterModule:
    """Registers the filter."""

    def filters(self):
        """Names and functions."""
        return {"placed": placed}

# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.contradictions.finding import (
    NotChecked,
    Values,
)
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.contradictions.quotas import room

DOCUMENTATION = r"""
name: resource_quotas
short_description: The ResourceQuotas of the namespaces, with room for what the variables make
version_added: 0.1.0
description:
  - For the namespaces of the edge, the controller, the runtimes, the data services and the mesh, the sum of what their
    workloads ask for with replicas at their maximum, the pods that a rolling update adds, those that still end, and
    Jobs, each with its proxy where there is a mesh; and a quarter more.
  - A namespace that C(foundation_resource_quotas) names has what is said there. One with nothing in it has no quota.
author:
  - The lambda_microservice.platform team
options:
  _input:
    description: The variables of all roles.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the quotas
  ansible.builtin.debug:
    msg: "{{ __platform | lambda_microservice.platform.resource_quotas }}"
"""

RETURN = r"""
_value:
  description: The hard limits by namespace.
  type: dict
"""

COMPUTED = ("ingress", "controller", "runtimes", "data_services", "mesh")


def resource_quotas(values: Any) -> dict[str, dict[str, Any]]:
    """The hard limits by namespace; see DOCUMENTATION."""
    known = Values(values)
    try:
        given = {known.get(f"{key}_namespace", key): hard for key, hard in known["foundation_resource_quotas"].items()}
        namespaces = {known[f"{role}_namespace"] for role in COMPUTED}
        computed = {namespace: hard for namespace, hard in room(known).items() if namespace in namespaces}
    except NotChecked as missing:
        raise AnsibleFilterError(f"resource_quotas: the variable {missing} is missing") from missing
    return {namespace: dict(hard) for namespace, hard in sorted({**computed, **given}.items()) if hard}


class FilterModule:
    """Registers the filter."""

    def filters(self):
        """Names and functions."""
        return {"resource_quotas": resource_quotas}

# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.workloads import Workload, workloads

DOCUMENTATION = r"""
name: vertical_pod_autoscalers
short_description: A VerticalPodAutoscaler for each workload of the platform
version_added: 0.2.0
description:
  - Each watches, and changes nothing (C(Off)), unless C(vpa_mode) says otherwise.
  - Requests alone are what is recommended and applied. Limits stay, as programs are configured by them (the memory of
    Redis and of PostgreSQL, the scripts that fit into a runtime), and no request goes above its limit.
  - What acts, acts on the container of the workload's program, between the bounds that C(vpa_bounds) has for it; what
    is beside it stays as it is.
author:
  - The lambda_microservice.platform team
options:
  _input:
    description: The variables of all roles.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show what would be watched
  ansible.builtin.debug:
    msg: "{{ __platform | lambda_microservice.platform.vertical_pod_autoscalers | map(attribute='metadata') }}"
"""

RETURN = r"""
_value:
  description: VerticalPodAutoscaler objects, ordered by namespace and name.
  type: list
  elements: dict
"""

LABELS = {
    "app.kubernetes.io/part-of": "lambda-microservice-platform",
    "app.kubernetes.io/component": "vpa",
}
OFF = "Off"
REQUESTS = {"controlledValues": "RequestsOnly"}


def vertical_pod_autoscalers(values: Any) -> list[dict[str, Any]]:
    """As RETURN says."""
    try:
        watched = sorted(workloads(values), key=lambda one: (one.namespace, one.name))
        modes, bounds = values["vpa_mode"], values["vpa_bounds"]
    except KeyError as missing:
        raise AnsibleFilterError(f"vertical_pod_autoscalers: the variable {missing} is missing") from missing
    # YAML reads Off without quotes as false.
    return [_autoscaler(one, modes.get(one.name) or OFF, bounds.get(one.name) or {}) for one in watched]


def _autoscaler(workload: Workload, mode: str, bounds: dict[str, Any]) -> dict[str, Any]:
    allowed = {f"{end}Allowed": _texts(bounds[end]) for end in ("min", "max") if end in bounds}
    own = [{"containerName": workload.container, **REQUESTS, **allowed}] if allowed or mode != OFF else []
    rest = {"containerName": "*", **REQUESTS} if mode == OFF else {"containerName": "*", "mode": "Off"}
    # What guards a workload of one pod, or of the last two, is its disruption budget, and not a number of pods.
    policy = {"updateMode": mode} if mode == OFF else {"updateMode": mode, "minReplicas": 1}
    return {
        "apiVersion": "autoscaling.k8s.io/v1",
        "kind": "VerticalPodAutoscaler",
        "metadata": {"name": workload.name, "namespace": workload.namespace, "labels": LABELS},
        "spec": {
            "targetRef": workload.target,
            "updatePolicy": policy,
            "resourcePolicy": {"containerPolicies": [*own, rest]},
        },
    }


def _texts(quantities: dict[str, Any]) -> dict[str, str]:
    return {resource: str(value) for resource, value in quantities.items()}


class FilterModule:
    """Registers the filter."""

    def filters(self):
        """Names and functions."""
        return {"vertical_pod_autoscalers": vertical_pod_autoscalers}

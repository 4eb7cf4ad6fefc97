# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: prometheus_operator
short_description: Upstream's prometheus-operator in one namespace, with no rights beyond it
version_added: 0.1.0
description:
  - Takes the objects of upstream's bundle beside its CustomResourceDefinitions, and moves them to the namespace.
  - The ClusterRole is bound in the namespace alone, so that the operator reads no Secret of another one. All it
    manages is there; Prometheus itself finds its targets in other namespaces.
  - The operator does not write the kubelets' addresses into kube-system, since Prometheus finds nodes by itself.
author:
  - The lambda_microservice.platform team
positional: _input, namespace, image, reloader_image, requests, pull_secrets
options:
  _input:
    description: The objects, as the lookup P(lambda_microservice.platform.upstream_manifests#lookup) gives them.
    type: list
    elements: dict
    required: true
  namespace:
    description: Where the operator runs and what it watches.
    type: str
    required: true
  image:
    description: Its image.
    type: str
    required: true
  reloader_image:
    description: The image of the config-reloader beside each Prometheus and Alertmanager.
    type: str
    required: true
  requests:
    description: CPU and memory that its container asks for, in place of upstream's. Upstream's limits stay.
    type: dict
    default: {}
  pull_secrets:
    description: The imagePullSecrets of its pod.
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
- name: The operator
  lambda_microservice.platform.policy:
    name: monitoring
    namespace: monitoring
    files: ["{{ upstream.definitions }}"]
    objects: "{{ upstream.objects | lambda_microservice.platform.prometheus_operator('monitoring', one, two) }}"
  vars:
    upstream: "{{ lookup('lambda_microservice.platform.upstream_manifests', 'bundle.yaml') }}"
"""

RETURN = r"""
_value:
  description: The objects.
  type: list
  elements: dict
"""

PART_OF = {"app.kubernetes.io/part-of": "lambda-microservice-platform"}
_CLUSTER_WIDE = ("ClusterRole",)
# Not the operator's defaults: 10m of CPU as a limit slows the reload of a configuration down to many seconds.
_ARGUMENTS = ("--config-reloader-cpu-limit=0", "--disable-unmanaged-prometheus-configuration=true")


def prometheus_operator(
    objects: Any,
    namespace: str,
    image: str,
    reloader_image: str,
    requests: dict[str, str] | None = None,
    pull_secrets: list[dict[str, str]] | None = None,
) -> list[dict[str, Any]]:
    """As RETURN says."""
    arguments = [f"--namespaces={namespace}", f"--prometheus-config-reloader={reloader_image}", *_ARGUMENTS]
    # A copy: whoever else reads them sees them as upstream wrote them.
    made = [_moved(json.loads(json.dumps(given)), namespace) for given in objects]
    deployments = [obj for obj in made if obj["kind"] == "Deployment"]
    if len(deployments) != 1 or len(deployments[0]["spec"]["template"]["spec"]["containers"]) != 1:
        raise AnsibleFilterError(
            "prometheus_operator: monitoring_operator_source has something else in it. Found: "
            + ", ".join(f"{obj['kind']} {obj['metadata']['name']}" for obj in made)
            + ". Expected: upstream's bundle, with the operator's one Deployment of one container."
        )
    template = deployments[0]["spec"]["template"]
    template["metadata"]["labels"].update(PART_OF)
    if pull_secrets:
        template["spec"]["imagePullSecrets"] = pull_secrets
    container = template["spec"]["containers"][0]
    container.update(image=image, args=arguments)
    container["resources"]["requests"].update(requests or {})
    # Memory is bounded; a bound of CPU would only make it late.
    container["resources"]["limits"].pop("cpu", None)
    return made


def _moved(obj: dict[str, Any], namespace: str) -> dict[str, Any]:
    metadata = obj["metadata"]
    metadata.setdefault("labels", {}).update(PART_OF)
    if obj["kind"] in _CLUSTER_WIDE:
        return obj
    metadata["namespace"] = namespace
    if obj["kind"] == "ClusterRoleBinding":
        obj["kind"] = "RoleBinding"
        for subject in obj["subjects"]:
            subject["namespace"] = namespace
    return obj


class FilterModule:
    """Registers the filter."""

    def filters(self):
        """Names and functions."""
        return {"prometheus_operator": prometheus_operator}

# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Look for what only the cluster can have, before anything is written
version_added: 0.1.0
description:
  - Looks whether the cluster has what the platform stands on and does not make itself. These are StorageClasses and the
    CSI drivers behind them, VolumeSnapshotClasses, the resource metrics API, the controller of the cloud's load
    balancer, and Secrets that are the user's to make.
  - All that is missing is named at once, with what to do, in a second or two. Without it, each would be noticed when
    the time of a rollout is over.
  - Of CSI drivers it knows those of Amazon, Google and Microsoft; of another one it says nothing.
author:
  - Lambda Microservice Platform team (@lambda-microservice-platform)
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - lambda_microservice.platform.attributes
  - lambda_microservice.platform.attributes.in_process
options:
  storage_classes:
    description: StorageClasses that volumes ask for.
    type: list
    elements: dict
    default: []
    suboptions: &named
      variable:
        description: The variable that names it, for the message.
        type: str
        required: true
      name:
        description: Its name. Of a StorageClass, an empty one is the cluster's default; of a VolumeSnapshotClass, none.
        type: str
        required: true
      wanted:
        description: Whether anything asks for it.
        type: bool
        default: true
  snapshot_classes:
    description: VolumeSnapshotClasses that snapshots ask for.
    type: list
    elements: dict
    default: []
    suboptions: *named
  made:
    description: Objects of StorageClasses and VolumeSnapshotClasses that the run makes where they are missing.
    type: list
    elements: dict
    default: []
  zones:
    description: Zones that nodes have to be in, by their label C(topology.kubernetes.io/zone).
    type: list
    elements: str
    default: []
  resource_metrics:
    description: Whether autoscalers ask for the CPU and memory of pods.
    type: bool
    default: true
  load_balancer:
    description: The kind of load balancer, as the filter M(lambda_microservice.platform.load_balancer#filter) has it.
    type: str
    choices: [none, nlb, alb, gce]
    default: none
  secrets:
    description: Secrets that have to be there.
    type: list
    elements: dict
    default: []
    suboptions:
      variable:
        description: The variable that names it, for the message.
        type: str
        required: true
      name:
        description: Its name.
        type: str
        required: true
      namespace:
        description: Its namespace.
        type: str
        required: true
      keys:
        description: What is in it.
        type: list
        elements: str
        default: []
      wanted:
        description: Whether anything needs it.
        type: bool
        default: true
  wait_seconds:
    description: How long a resource metrics API that is installed and does not answer yet is waited for.
    type: int
    default: 60
  ignore:
    description: Subjects whose findings are warnings and no failure.
    type: list
    elements: str
    choices: [zones, storage, snapshots, metrics, load_balancer, secrets]
    default: []
attributes:
  check_mode:
    details: It changes nothing.
    support: full
  diff_mode:
    details: It changes nothing.
    support: none
notes:
  - What the user may not read is a warning.
requirements:
  - kubernetes >= 24.2
"""

EXAMPLES = r"""
- name: Volumes, autoscalers, the load balancer and its certificate have what they need
  lambda_microservice.platform.preflight:
    storage_classes:
      - {variable: data_services_storage_class, name: gp3}
    made: "{{ [{'name': 'gp3'}] | lambda_microservice.platform.storage_classes }}"
    load_balancer: nlb
    secrets:
      - {variable: ingress_tls_secret, namespace: ingress, name: envoy-tls, keys: [tls.crt, tls.key]}
"""

RETURN = r"""
findings:
  description: What is missing and was ignored.
  returned: success
  type: list
  elements: dict
  contains:
    check: {description: The subject., type: str, returned: always}
    state: {description: 'V(ignored).', type: str, returned: always}
    what: {description: What is wrong., type: str, returned: always}
    where: {description: The variable or object., type: str, returned: always}
    found: {description: What was found., type: str, returned: always}
    expected: {description: What was expected., type: str, returned: always}
    fix: {description: What to do., type: str, returned: always}
  sample: []
"""

from ansible_collections.lambda_microservice.platform.plugins.module_utils.module import (
    require_python,
    run_as_module,
)


def main():
    """Run as an ordinary module, where the action plugin of the same name cannot run in process."""
    require_python()
    # Only now: an older Python could not read it.
    from ansible_collections.lambda_microservice.platform.plugins.module_utils.preflight import preflight

    run_as_module(preflight)


if __name__ == "__main__":
    main()

# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout
short_description: Wait until workloads have rolled out, and say why when one does not
version_added: 0.1.0
description:
  - Waits for many workloads at once, by the rules of C(kubectl rollout status) for Deployments, StatefulSets and
    DaemonSets, for the completion of Jobs, for the load balancer of a Service or Ingress, and for a condition of any
    other kind.
  - StatefulSets and DaemonSets with the update strategy C(OnDelete) are ready when their pods are, whatever their
    revision.
  - While it waits, it prints a line when something changed, and every 10 seconds.
  - It ends early where waiting longer cannot help, each after a time that leaves room for what heals by itself. These
    are an image that cannot be pulled (20 s; at once if its name is malformed), a container that cannot be created,
    such as for a missing Secret (20 s), a container that ended again after O(max_restarts) restarts (5 s), pods
    whose creation is refused by a quota, an admission policy or Pod Security (20 s), an exceeded progress deadline
    (20 s), a failed Job (at once), a volume that cannot be mounted (60 s), a pod that no node can take (90 s, and not
    while an autoscaler adds one), a load balancer whose controller says why it cannot make it (180 s), and a workload
    that does not exist (30 s).
  - What passes by itself may take the whole O(timeout_seconds). That is a registry that is busy, overloaded or does not
    answer (its 429 and 5xx, C(pull QPS exceeded), time-outs, refused connections), and an admission webhook whose pods
    do not answer yet.
  - The error names every workload that is not ready, with its pods, each container's last state and last log lines, and
    the events. Log lines are the containers' own text and can hold whatever they print; O(log_lines=0) leaves them out.
author:
  - Lambda Microservice Platform team (@lambda-microservice-platform)
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - lambda_microservice.platform.attributes
  - lambda_microservice.platform.attributes.in_process
options:
  workloads:
    description: What to wait for.
    type: list
    elements: dict
    required: true
    suboptions:
      kind:
        description:
          - C(Deployment), C(StatefulSet), C(DaemonSet), C(Job); C(Service) and C(Ingress), which are ready once they
            have a load balancer's address; or another kind together with O(workloads[].condition).
        type: str
        required: true
      name:
        description: The name.
        type: str
        required: true
      namespace:
        description: The namespace. Required except for kinds that belong to the whole cluster.
        type: str
      api_version:
        description: The API version. Required for other kinds than those that are named above.
        type: str
      condition:
        description:
          - A condition to wait for, C(TYPE) or C(TYPE=STATUS), such as V(Ready) or V(Degraded=False).
          - It replaces the kind's own rules. A condition that was written for an older spec does not count.
        type: str
  timeout_seconds:
    description: The task fails when not all are ready after this time.
    type: int
    default: 600
  max_restarts:
    description:
      - A container that ended again after this many restarts counts as hopeless.
      - A Job's containers may fail as often as its C(backoffLimit) says.
    type: int
    default: 3
  log_lines:
    description: How many of a container's last log lines an error shows.
    type: int
    default: 20
attributes:
  check_mode:
    details: Reports the states and does not wait. A workload that does not exist yet is not an error then.
    support: full
  diff_mode:
    details: It changes nothing.
    support: none
notes:
  - The rights to list pods, ReplicaSets, events and PersistentVolumeClaims and to read logs only serve explanations.
    Without them it waits all the same, RV(notes) says so, and only the timeout ends what cannot succeed.
requirements:
  - kubernetes >= 24.2
"""

EXAMPLES = r"""
- name: Wait for the controller and the Redis servers
  lambda_microservice.platform.rollout:
    workloads:
      - {kind: Deployment, name: controller, namespace: controller}
      - {kind: StatefulSet, name: redis, namespace: data-services}
    timeout_seconds: 300

- name: Wait for a custom resource
  lambda_microservice.platform.rollout:
    workloads:
      - kind: Prometheus
        api_version: monitoring.coreos.com/v1
        name: platform
        namespace: monitoring
        condition: Available
"""

RETURN = r"""
workloads:
  description: The state of each workload, in the order of the argument. A failure returns it as well.
  returned: always
  type: list
  elements: dict
  contains:
    apiVersion: {description: The API version., type: str, returned: always}
    kind: {description: The kind., type: str, returned: always}
    name: {description: The name., type: str, returned: always}
    namespace: {description: 'The namespace, empty for kinds of the whole cluster.', type: str, returned: always}
    state: {description: 'V(ready), V(waiting), V(failed) or V(missing).', type: str, returned: always}
    message:
      description: The state in words; of a load balancer that is there, its names or addresses.
      type: str
      returned: always
    desired: {description: 'Pods (of a Job, completions) that are wanted.', type: int, returned: always}
    updated: {description: Pods of the newest revision., type: int, returned: always}
    ready: {description: Pods that are ready., type: int, returned: always}
    available: {description: Pods that are available., type: int, returned: always}
    status: {description: The object's own status., type: dict, returned: for kinds without pods}
    pods:
      description:
        - One pod for each cause, with C(name), C(node), C(container), C(reason), C(message), C(last_state), C(restarts)
          and C(log).
      type: list
      elements: dict
      returned: failure
    events: {description: The last warnings., type: list, elements: str, returned: failure}
  sample:
    - {apiVersion: apps/v1, kind: Deployment, name: controller, namespace: controller, state: ready, message: 3/3
      available,
       desired: 3, updated: 3, ready: 3, available: 3}
notes:
  description: What the module could not read and therefore not explain.
  returned: always
  type: list
  elements: str
"""

from ansible_collections.lambda_microservice.platform.plugins.module_utils.module import (
    require_python,
    run_as_module,
)


def main():
    """Run as an ordinary module, where the action plugin of the same name cannot run in process."""
    require_python()
    # Only now: an older Python could not read it.
    from ansible_collections.lambda_microservice.platform.plugins.module_utils.rollout import rollout

    run_as_module(rollout)


if __name__ == "__main__":
    main()

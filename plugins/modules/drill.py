# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: drill
short_description: Break a running platform on purpose, under load, and measure how it comes back
version_added: 0.1.0
description:
  - Makes drills, one after the other. Each starts a load, waits until it is served steadily, brings a failure about,
    waits until the load is served steadily again, mends what does not mend itself, waits until all workloads are
    healthy, and compares what was measured with the drill's bounds.
  - The load is vegeta's (C(tools/load)), a constant rate that does not wait for answers. Every request leaves a record,
    so that the longest time without an acknowledgement, the failed requests and the acknowledged writes that the store
    does not hold afterwards are counted and not estimated.
  - Whatever happens, an error or Ctrl-C among it, stopped nodes are started, cordoned ones uncordoned, and the load's
    pod, policies and records removed.
  - A missed bound or an error fails the task, after the remaining drills were made. Where the platform does not become
    healthy again after a drill, no further one is made.
author:
  - Lambda Microservice Platform team (@lambda-microservice-platform)
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - lambda_microservice.platform.redis
  - lambda_microservice.platform.attributes
  - lambda_microservice.platform.attributes.in_process
options:
  drills:
    description: What to break, in this order.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: What the table calls it., type: str, required: true}
      tags: {description: 'For whoever chooses; not used here.', type: list, elements: str, default: []}
      load: {description: 'The name of one of O(loads).', type: str, required: true}
      failure:
        description: What fails.
        type: dict
        required: true
        suboptions:
          kind:
            description:
              - C(kill_pod) sends SIGKILL to all processes of a pod's containers, or of the target's C(container), from
                a pod with C(hostPID) in kube-system, which has to be allowed. C(delete_pod) deletes a pod, with its
                grace period. C(run_in_pod) runs a command in it, C(run_here) one on this machine, such as a playbook.
              - C(stop_nodes) kills nodes that are kind's containers on this machine, and starts them again to heal.
              - C(drain_node) cordons a node and evicts its pods, as their disruption budgets allow.
              - C(restart) restarts workloads pod by pod, one workload after the other.
            type: str
            required: true
            choices: [delete_pod, drain_node, kill_pod, restart, run_here, run_in_pod, stop_nodes]
          target: {description: 'The name of one of O(targets): the pod, or the pod whose node it is.', type: str}
          zone: {description: 'With C(stop_nodes), all nodes of its zone.', type: bool, default: false}
          command:
            description: With C(run_here), and with C(run_in_pod), where C({pod}) is the name of the pod.
            type: list
            elements: str
          container: {description: With C(run_in_pod)., type: str}
          workloads:
            description: With C(restart).
            type: list
            elements: dict
            suboptions: &workload
              kind:
                description: The kind.
                type: str
                choices: [Deployment, StatefulSet, DaemonSet]
                default: Deployment
              name: {description: The name., type: str, required: true}
              namespace: {description: The namespace., type: str, required: true}
      must_hold:
        description: The bounds. What is not given is measured and not judged.
        type: dict
        required: true
        suboptions:
          resumes_within_seconds:
            description: The longest time without an acknowledged request.
            type: float
          recovers_within_seconds:
            description: From the failure to the last request that failed, before anything was mended.
            type: float
          lost_at_most: {description: Acknowledged writes that the store does not hold afterwards., type: int}
          failed_at_most:
            description: Requests that failed, a number; or V(in_flight), as many as were under way at the failure.
            type: str
          unclear_at_most: {description: Failed requests whose answer does not say why., type: int}
          second_runs_at_most:
            description:
              - Scripts that ran twice, or whose answer says that nothing ran although they had begun. The script has
                to give the time of its beginning (seconds since the epoch) as C(began) in its result.
            type: int
  loads:
    description:
      - The loads by name. One with C(scripts) (language to script) executes them through the edge, from this machine,
        with C(rate) requests a second (50), as C(users) users (100) with a session each; C(timeout_seconds) is 10.
        C(shares) (language to a whole number, 1 where it is not named) says how often each is executed, and with
        V(session) how often a session is asked for and nothing executed.
      - Any other writes to a store, from a pod in C(namespace), with C(rate) writes a second (200) to C(url)
        (V(rediss://HOST:PORT?cacert=/run/authority/ca.crt), a connection URI of PostgreSQL, or
        V(openfaas://HOST:PORT), where a write is a call of the runtime of Python that is queued, and is there if its
        end is known). C(app) and C(port) are the pods that the URL leads to, for a NetworkPolicy. C(credentials) is a
        Secret with username and password, where the store asks for them, C(authority) one with C(ca.crt), at
        V(/run/authority). C(timeout_seconds) is 3.
    type: dict
    required: true
  targets:
    description:
      - The pods that can be hit, by name, each with C(namespace) and C(selector) (labels). With C(command), those in
        which that command (in C(container)) prints C(prints). The oldest ready one is hit.
    type: dict
    required: true
  workloads:
    description: What has to be rolled out before, between and after the drills.
    type: list
    elements: dict
    required: true
    suboptions: *workload
  edge:
    description: The edge, as callers see it.
    type: dict
    required: true
    suboptions:
      url: {description: 'Its address, C(https://HOST[:PORT]).', type: str, required: true}
      ca_file: {description: The authority's certificate (PEM)., type: path}
  made:
    description:
      - Rows of drills that the playbook has made itself, in the form that this module returns, to be
        in the table, in O(output) and in the verdict with the others.
    type: list
    elements: dict
    default: []
  generator:
    description: The program C(load) that C(tools/go-programs) built.
    type: path
    required: true
  generator_image:
    description: The image with the same program. Needed by loads that write to a store, and by C(kill_pod).
    type: str
  steady_seconds:
    description: How long a load has to be served without a failure to count as steady.
    type: int
    default: 5
  failure_at_most_seconds:
    description: A failure is mended after this time, whether the load is served again or not.
    type: int
    default: 120
  settle_at_most_seconds:
    description: How long the workloads may take to become healthy.
    type: int
    default: 300
  output:
    description: The JSON file for the results.
    type: path
    required: true
attributes:
  check_mode:
    details: Says which drills would be made.
    support: full
  diff_mode:
    details: It breaks things, and mends them.
    support: none
notes:
  - It breaks what it is pointed at. C(playbooks/drill.yml) asks first unless the inventory says that the cluster is
    disposable.
requirements:
  - kubernetes >= 24.2
"""

EXAMPLES = r"""
- name: The death of the Redis master is survived
  lambda_microservice.platform.drill:
    generator: "{{ inventory_dir }}/load/load"
    generator_image: registry.example.com/lambda/load:latest
    edge: {url: https://lambda.example.com}
    output: "{{ inventory_dir }}/drill.json"
    workloads:
      - {kind: StatefulSet, name: redis, namespace: data-services}
    targets:
      redis_master:
        namespace: data-services
        selector: app.kubernetes.io/name=redis
        command: [sh, -c, '. /scripts/topology; role 127.0.0.1']
        prints: master
    loads:
      redis:
        namespace: data-services
        url: rediss://redis-master:6379?cacert=/run/authority/ca.crt
        app: redis-haproxy
        port: 6379
        credentials: redis-drill
        authority: redis-ca
    drills:
      - name: Redis master killed
        load: redis
        failure: {kind: kill_pod, target: redis_master}
        must_hold: {resumes_within_seconds: 5, lost_at_most: 0}
"""

RETURN = r"""
drills:
  description: One row for each drill that was made. O(output) has them also after a failure.
  returned: success
  type: list
  elements: dict
  contains:
    drill: {description: The name., type: str, returned: always}
    load: {description: The load and its rate., type: str, returned: always}
    bounds: {description: The bounds in words., type: str, returned: always}
    verdict: {description: 'V(held), V(MISSED) or V(ERROR).', type: str, returned: always}
    missed: {description: 'Each bound that was missed, or the error.', type: list, elements: str, returned: always}
    victims: {description: What was hit., type: list, elements: str, returned: measured}
    sent: {description: Requests., type: int, returned: measured}
    acknowledged: {description: Those that succeeded., type: int, returned: measured}
    failed: {description: Those that did not., type: int, returned: measured}
    in_flight: {description: Those under way at the failure., type: int, returned: measured}
    lost: {description: Acknowledged writes that are gone., type: int, returned: with a store}
    longest_gap_seconds: {description: The longest time without an acknowledgement., type: float, returned: measured}
    last_failure_seconds: {description: From the failure to the last failed request., type: float, returned: measured}
    unclear: {description: Failed requests whose answer does not say why., type: int, returned: measured}
    second_runs: {description: Scripts that ran twice., type: int, returned: with the edge}
    errors: {description: The most frequent errors., type: list, elements: str, returned: measured}
table:
  description: The same as lines of text, which are also shown where the module runs in process.
  returned: success
  type: list
  elements: str
failed_drills:
  description: The names of the drills that did not hold; the message tells of each.
  returned: failure
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
    from ansible_collections.lambda_microservice.platform.plugins.module_utils.drill import drill

    run_as_module(drill)


if __name__ == "__main__":
    main()

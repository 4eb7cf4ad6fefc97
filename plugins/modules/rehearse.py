#!/usr/bin/python
# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: rehearse
short_description: Try an inventory at its full size on simulated nodes
version_added: 0.2.0
description:
  - On a new kind cluster of this machine that has its control plane alone, makes the nodes that O(node_pools) names,
    which kwok plays, and runs C(site.yml) with the inventory against it.
  - Then loses each node and each zone, drains every node, updates everything, brings every autoscaler to its maximum
    on the largest number of nodes, and says of each promise whether it holds. The scheduler, admission, quotas and
    disruption budgets that answer are real ones.
  - What only a program that runs could tell is not known, and the report says what that is.
  - In check mode only what is wrong with the inventory itself is told, and nothing is started.
author:
  - Lambda Microservice Platform team (@lambda-microservice-platform)
extends_documentation_fragment:
  - lambda_microservice.platform.attributes
  - lambda_microservice.platform.attributes.in_process
  - lambda_microservice.platform.components
  - lambda_microservice.platform.components.node_pools
  - kubernetes.core.k8s_auth_options
requirements:
  - kwok 0.8, which C(tools/go-programs kwok) builds
  - helm 3.13 or later, or helm 4, on the machine that runs the module
  - kubernetes >= 24.2.0 (Python)
  - PyYAML >= 3.11 (Python)
options:
  inventory:
    description: How the report names the inventory.
    type: str
    required: true
  variables:
    description: The values of all variables. The action plugin gives those that the module C(variables) has registered.
    type: dict
    default: {}
  node_types:
    description: 'The file with types of nodes, see C(roles/platform/files/capacity). The action plugin gives that one.'
    type: path
    required: true
  own_node_types:
    description: 'Further ones, and others of the same name, in its form.'
    type: dict
    default: {}
  clouds:
    description: 'The folder that says what a cloud brings beside nodes, C(roles/platform/files/rehearsal).'
    type: path
    required: true
  stages:
    description: 'How pods and nodes go on, as kwok reads it.'
    type: path
    required: true
  kwok_binary: {description: The program kwok., type: path, required: true}
  helm_binary:
    description: 'The helm program, a path or a name that is searched in C(PATH).'
    type: str
    default: helm
  playbook: {description: The playbook that is rehearsed., type: path, required: true}
  arguments:
    description:
      - The options of C(ansible-playbook) for it. The action plugin gives the inventories, variables and vaults of its
        own command line.
    type: list
    elements: str
    default: []
  folder: {description: The folder to run it in., type: path, required: true}
  state_dir: {description: The folder for what a rehearsal writes beside its report., type: path, required: true}
  accept:
    description: The promises that this inventory chooses not to keep. They stand in the report and fail nothing.
    type: list
    elements: str
    default: []
  preflight_ignore:
    description: 'The checks of M(lambda_microservice.platform.preflight) whose findings the inventory accepts.'
    type: list
    elements: str
    default: []
  styles:
    description: The style sheets of the page.
    type: list
    elements: path
    default: []
  output: {description: The HTML page to write., type: path}
  json_output: {description: The JSON file to write., type: path}
  site_seconds:
    description: How long the playbook may take.
    type: int
    default: 1200
attributes:
  check_mode:
    description: Tells what is wrong with the inventory and starts nothing.
    support: partial
    details: What a cluster would answer is not known without one.
  diff_mode: {description: There is nothing to compare., support: none}
notes:
  - The cluster is changed in every way, and refused where it is not new, not a kind cluster of this machine, or has
    more than its control plane.
"""

EXAMPLES = r"""
- name: The variables are read
  lambda_microservice.platform.variables:
    images: false
    stop: false
  register: __platform

- name: What holds at full size
  lambda_microservice.platform.rehearse:
    inventory: production-eks
    kubeconfig: .local/rehearse/production-eks/kubeconfig
    context: kind-rehearse-production-eks
    kwok_binary: .local/kwok/kwok
    playbook: site.yml
    folder: "{{ playbook_dir }}"
    state_dir: .local/rehearse/production-eks
    output: rehearsal.html
"""

RETURN = r"""
report:
  description: The report, without the drawings that are in the files.
  returned: when the cluster was asked
  type: dict
  contains:
    promises:
      description: 'Each with C(check), C(result) (V(holds), V(fails), V(accepted)), C(sentence), C(seen) and C(to_do).'
      type: list
      elements: dict
      returned: always
    losses:
      description: 'What was lost or drained: C(nodes), C(zones) and C(drains) at rest, C(most) for zones at the most.'
      type: dict
      returned: always
    not_rehearsed: {description: What the report cannot know., type: list, elements: str, returned: always}
    seconds: {description: How long each part took., type: dict, returned: always}
table:
  description: The same as lines of text.
  returned: when the cluster was asked
  type: list
  elements: str
written:
  description: The files that were written.
  returned: when the cluster was asked
  type: list
  elements: str
"""

from ansible_collections.lambda_microservice.platform.plugins.module_utils.module import (
    require_python,
    run_as_module,
)


def main():
    """Run as an ordinary module, where the action plugin cannot run in process."""
    require_python()
    # Only now: an older Python could not read it.
    from ansible_collections.lambda_microservice.platform.plugins.module_utils.rehearse import rehearse

    run_as_module(rehearse)


if __name__ == "__main__":
    main()

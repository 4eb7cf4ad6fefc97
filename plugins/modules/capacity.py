#!/usr/bin/python
# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: capacity
short_description: Say what an inventory needs before there is a cluster
version_added: 0.1.0
description:
  - Renders what C(site.yml) would install, and adds up what it asks for - pods, CPU, memory and disks of each workload
    with its sidecars, at rest and with every autoscaler at its maximum.
  - Says how many nodes of a type take that over the zones, also when any node is lost or drained, and when any zone
    is lost or everything is updated at once, in whatever order pods have come; and what nodes, volumes, control plane
    and load balancer cost a month by a table of prices.
  - Puts every pod on the nodes of O(node_pools) as the scheduler would by its numbers, and tells who finds no place, at
    rest, at the most, when a node or a zone is lost, and in a rolling update.
  - No cluster is asked. What cannot be rendered here (a chart of a repository that does not answer) is named and not
    counted.
author:
  - Lambda Microservice Platform team (@lambda-microservice-platform)
extends_documentation_fragment:
  - lambda_microservice.platform.attributes
  - lambda_microservice.platform.attributes.in_process
  - lambda_microservice.platform.components
  - lambda_microservice.platform.components.node_pools
requirements:
  - helm 3.13 or later, or helm 4, on the machine that runs the module
  - PyYAML >= 3.11 (Python)
options:
  node_types:
    description: 'The file with types of nodes, see C(roles/platform/files/capacity).'
    type: path
    required: true
  own_node_types:
    description: 'Further ones, and others of the same name, in its form.'
    type: dict
    default: {}
  problems:
    description: 'What the module C(variables) has found wrong, told with all else that is.'
    type: list
    elements: dict
    default: []
  prices: {description: The file with prices., type: path, required: true}
  design: {description: The file with the table that the result is compared with., type: path, required: true}
  styles: {description: The style sheets of the page., type: list, elements: path, required: true}
  helm_binary:
    description: 'The helm program, a path or a name that is searched in C(PATH).'
    type: str
    default: helm
  kubernetes_version:
    description: 'The version to render for. Without it, the one that helm assumes.'
    type: str
    default: ''
  output: {description: The HTML page to write., type: path}
  json_output: {description: The JSON file to write., type: path}
attributes:
  check_mode: {description: Computes and writes no file., support: full}
  diff_mode: {description: It changes nothing but the files that it is told to write., support: none}
notes:
  - The placement is an estimate - it knows requests, zones, taints, selectors, spread and priorities, and neither
    ports nor pods of others nor how many volumes a node takes.
"""

EXAMPLES = r"""
- name: The variables are what their specifications say
  lambda_microservice.platform.variables:
  register: __platform

- name: What this inventory needs
  lambda_microservice.platform.capacity:
    node_pools: "{{ __platform.platform_node_pools }}"
    node_types: "{{ root }}/roles/platform/files/capacity/node_types.yml"
    prices: "{{ root }}/roles/platform/files/capacity/prices.yml"
    design: "{{ root }}/roles/platform/files/capacity/design.yml"
    styles:
      - "{{ root }}/roles/monitoring/files/page/page.css"
      - "{{ root }}/roles/platform/files/capacity/page.css"
    output: capacity.html
"""

RETURN = r"""
capacity:
  description: All figures.
  returned: success
  type: dict
  contains:
    components:
      description: 'Sums by component, C(least) and C(most).'
      type: list
      elements: dict
      returned: always
    workloads:
      description: 'Each workload, with the CPU, memory and disk of one pod.'
      type: list
      elements: dict
      returned: always
    total:
      description: 'The sum, without what runs on each node and without Jobs.'
      type: dict
      returned: always
    per_node: {description: What DaemonSets ask of each node., type: dict, returned: always}
    needed:
      description: 'Numbers of nodes by type, and what they cost.'
      type: list
      elements: dict
      returned: always
    pools:
      description: 'What happens on the nodes of O(node_pools), at their least and their most.'
      type: list
      elements: dict
      returned: always
    design: {description: 'The comparison with O(design).', type: dict, returned: always}
    notes: {description: What is not counted., type: list, elements: str, returned: always}
table:
  description: The same as lines of text.
  returned: success
  type: list
  elements: str
written:
  description: The files that were written.
  returned: success
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
    from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity import capacity

    run_as_module(capacity)


if __name__ == "__main__":
    main()

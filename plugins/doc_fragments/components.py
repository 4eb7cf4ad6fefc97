# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option ``components`` of the modules that look at what site.yml would do (``capacity.COMPONENTS``), and
``node_pools`` of those that know nodes (``capacity.NODE_POOLS``).
"""

from __future__ import annotations


class ModuleDocFragment:
    """For ``extends_documentation_fragment``."""

    DOCUMENTATION = r"""
options:
  components:
    description:
      - What each component's tasks give the modules of this collection. Without it, the components of C(site.yml), by
        the variables of the play; a task that is registered as C(__platform) has to come before.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: The component's name., type: str, required: true}
      releases:
        description: 'Releases, as M(lambda_microservice.platform.chart) takes them.'
        type: list
        elements: dict
        default: []
      objects:
        description: 'Objects, as M(lambda_microservice.platform.policy) takes them.'
        type: list
        elements: dict
        default: []
      files: {description: Files with further objects., type: list, elements: str, default: []}
      secrets:
        description: 'Secrets, as M(lambda_microservice.platform.secret) takes them.'
        type: list
        elements: dict
        default: []
      unknown:
        description: 'What could not be evaluated, with C(task) and C(why).'
        type: list
        elements: dict
        default: []
"""

    NODE_POOLS = r"""
options:
  node_pools:
    description:
      - The pools of nodes, in the form of C(platform_node_pools). M(lambda_microservice.platform.capacity) assumes the
        design's type of node in three zones where there are none; M(lambda_microservice.platform.rehearse) takes those
        of the play, and has to have some.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: The pool's name., type: str, required: true}
      type:
        description: 'The type of its nodes, of O(node_types) or O(own_node_types).'
        type: str
        required: true
      zones:
        description: 'The zones that its nodes are in, in turn.'
        type: list
        elements: str
        required: true
      min_count:
        description: 'How many nodes it has at the least, in all zones together.'
        type: int
        required: true
      max_count: {description: How many it may grow to., type: int, required: true}
      labels: {description: Labels of its nodes., type: dict, default: {}}
      taints:
        description: 'Taints of its nodes, each with C(key), C(value) and C(effect).'
        type: list
        elements: dict
        default: []
"""

# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of the modules that look at, undo or remove what is installed (``COMPONENTS`` and ``ONLY``)."""

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
      absent: {description: The same that are to be gone., type: list, elements: dict, default: []}
      batches:
        description: 'Batches, each with the arguments of M(lambda_microservice.platform.policy).'
        type: list
        elements: dict
        default: []
      rollouts:
        description: 'What is waited for, each with the arguments of M(lambda_microservice.platform.rollout).'
        type: list
        elements: dict
        default: []
      secrets:
        description: 'Secrets, as M(lambda_microservice.platform.secret) takes them.'
        type: list
        elements: dict
        default: []
      objects: {description: All objects of the batches., type: list, elements: dict, default: []}
      files: {description: All files of the batches., type: list, elements: str, default: []}
      unknown:
        description: 'What could not be evaluated, with C(task) and C(why).'
        type: list
        elements: dict
        default: []
"""

    ONLY = r"""
options:
  only:
    description: The names of the components that are meant. Without it, all.
    type: list
    elements: str
    default: []
"""

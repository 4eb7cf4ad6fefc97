# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option ``components`` of the modules that look at what site.yml would do (``capacity.COMPONENTS``)."""

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

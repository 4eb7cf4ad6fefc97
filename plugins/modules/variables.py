# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# This file documents the action plugin of the same name, which always runs on the control node.

from __future__ import annotations

DOCUMENTATION = r"""
module: variables
short_description: Give the roles' variables the types of their specifications, or name all that is wrong with them
version_added: 0.1.0
description:
  - C(-e NAME=VALUE), inventories in INI and surveys give texts, C("false") among them. This action reads the argument
    specifications of all roles of the collection and returns every variable in its type, with the defaults of those
    that nobody gave. The roles and playbooks use these values, registered as C(__platform), and never the variables
    themselves.
  - Values of a wrong type, variables that begin like a role's and that no role knows, and values that contradict each
    other are named all at once in one error, before anything is changed.
  - It is the first task of each role and playbook.
author:
  - Lambda Microservice Platform team (@lambda-microservice-platform)
extends_documentation_fragment:
  - lambda_microservice.platform.attributes
options:
  contradictions:
    description: Whether values are compared with each other. A playbook that deploys nothing leaves it out.
    type: bool
    default: true
  images:
    description: Whether it counts that an image has not been built yet. Where it does not run, it does not matter.
    type: bool
    default: true
  stop:
    description:
      - Whether what is wrong fails the task. Otherwise it is returned as RV(problems), for
        M(lambda_microservice.platform.preflight) to tell with what else it finds; the next task of this module that
        stops looks again.
    type: bool
    default: true
  playbook:
    description:
      - The first words of the playbook's own variables, C(verify) for C(verify_edge_url), which are returned too
        (C(playbooks/meta/argument_specs.yml)). A misspelt one is named in any case.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    details: It changes nothing.
    support: full
  diff_mode:
    details: There is nothing to compare.
    support: none
notes:
  - The result is not shown with C(-v), as values may be secret.
"""

EXAMPLES = r"""
- name: The variables are what their specifications say
  lambda_microservice.platform.variables:
  register: __platform

- name: A number, however it was given
  ansible.builtin.debug:
    msg: "{{ __platform.ingress_replicas + 1 }}"
"""

RETURN = r"""
NAME:
  description: The value of the variable NAME, for each that the roles' specifications name.
  returned: success
  type: raw
problems:
  description: What is wrong, in the form of RV(errors), where O(stop=false).
  returned: success
  type: list
  elements: dict
errors:
  description: What is wrong, one entry for each, with C(what), C(found), C(expected), C(fix) and C(reason).
  returned: failure
  type: list
  elements: dict
"""

#!/usr/bin/python
# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: rollback
short_description: Bring one release back to a revision that it had
version_added: 0.2.0
description:
  - Helm makes a new revision of what an older one was, from the records that it keeps (10 for each release). Nothing is
    rendered, so neither the chart nor the inventory of that day is needed.
  - The difference is told first, with Secrets redacted, and with the hooks of the newer revision whose work does not go
    back, such as a migration of a database.
  - It refuses, before anything is written, what would lose data - an older major version of what keeps data in volumes,
    a revision without a volume that there is, or with another size or class of one.
  - Counts of pods that an autoscaler sets stay. CustomResourceDefinitions stay as they are.
  - A revision that is what runs changes nothing.
author:
  - Lambda Microservice Platform team (@lambda-microservice-platform)
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - lambda_microservice.platform.attributes
  - lambda_microservice.platform.attributes.in_process
  - lambda_microservice.platform.installed
requirements:
  - kubernetes >= 24.2
  - helm 3.13 or later, or helm 4, on the machine that runs the module
options:
  component:
    description: The component that goes back.
    type: str
    required: true
  release:
    description: Which of its releases, where it has several.
    type: str
    default: ''
  revision:
    description: The revision that it goes back to. One that there is not, such as V(0), tells those that there are.
    type: int
    default: 0
  helm_binary:
    description: 'The helm program, a path or a name that is searched in C(PATH).'
    type: str
    default: helm
attributes:
  check_mode: {description: It tells what would change., support: full}
  diff_mode: {description: 'The difference between the two revisions, Secrets redacted.', support: full}
notes:
  - The inventory still has the newer state, which the next C(site.yml) brings back. Change it to stay.
"""

EXAMPLES = r"""
- name: The variables are what their specifications say
  lambda_microservice.platform.variables:
  register: __platform

- name: The controller goes back
  lambda_microservice.platform.rollback:
    component: controller
    revision: 3
  register: __back

- name: It is up
  lambda_microservice.platform.rollout:
    workloads: "{{ __back.workloads }}"
    timeout_seconds: "{{ __back.timeout_seconds }}"
"""

RETURN = r"""
release:
  description: The release.
  returned: success
  type: str
from_revision:
  description: The revision that ran.
  returned: success
  type: int
to_revision:
  description: The revision that it went back to.
  returned: success
  type: int
revision:
  description: The new revision that Helm made of it.
  returned: when something was changed
  type: int
revisions:
  description: 'Those that there are, with C(revision), C(status), C(chart), C(deployed) and C(description).'
  returned: success
  type: list
  elements: dict
changes:
  description: 'A line for each object, with the paths that differ.'
  returned: success
  type: list
  elements: str
hooks_that_stay:
  description: Hooks of the newer revision whose work does not go back.
  returned: success
  type: list
  elements: str
table:
  description: The same as lines of text, which are also shown where the module runs in process.
  returned: success
  type: list
  elements: str
workloads:
  description: 'What C(site.yml) would wait for, as M(lambda_microservice.platform.rollout) takes it.'
  returned: success
  type: list
  elements: dict
timeout_seconds:
  description: How long it would wait.
  returned: success
  type: int
"""

from ansible_collections.lambda_microservice.platform.plugins.module_utils.module import (
    require_python,
    run_as_module,
)


def main():
    """Run as an ordinary module, where the action plugin cannot run in process."""
    require_python()
    # Only now: an older Python could not read it.
    from ansible_collections.lambda_microservice.platform.plugins.module_utils.rollback import rollback

    run_as_module(rollback)


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: teardown
short_description: Remove what the platform has made, and nothing else
version_added: 0.2.0
description:
  - Removes releases, batches of objects and Secrets in the reverse order of C(site.yml). What is not there is passed
    over, so a run that was cut off is finished by the next.
  - Volumes stay, backups in them included, unless each is named in O(volumes), and with them the Secrets that open
    them. A release that would take an unnamed volume along stops it before the first object goes.
  - A namespace goes where all components or C(foundation) are removed and nothing is left in it that somebody could
    miss. Objects of others are never touched; they and what else is left are told.
  - CustomResourceDefinitions stay unless O(definitions), and even then where they were there before the platform or
    objects of them are left.
author:
  - Lambda Microservice Platform team (@lambda-microservice-platform)
extends_documentation_fragment:
  - kubernetes.core.k8s_auth_options
  - lambda_microservice.platform.attributes
  - lambda_microservice.platform.attributes.in_process
  - lambda_microservice.platform.installed
  - lambda_microservice.platform.installed.only
requirements:
  - kubernetes >= 24.2
  - helm 3.13 or later, or helm 4, on the machine that runs the module
options:
  confirm:
    description:
      - The name of the cluster, which is the context of the kubeconfig, or the address of the API server where there is
        none. Without it nothing is removed but in check mode, which tells what would be.
    type: str
    default: ''
  volumes:
    description: The claims whose volumes go too, each as C(NAMESPACE/NAME).
    type: list
    elements: str
    default: []
  definitions:
    description: Whether CustomResourceDefinitions go too.
    type: bool
    default: false
  helm_binary:
    description: 'The helm program, a path or a name that is searched in C(PATH).'
    type: str
    default: helm
attributes:
  check_mode: {description: It tells what would go and what would stay., support: full}
  diff_mode: {description: The names of what goes are its result., support: none}
"""

EXAMPLES = r"""
- name: The variables are what their specifications say
  lambda_microservice.platform.variables:
  register: __platform

- name: OpenFaaS goes with the volume of its queue
  lambda_microservice.platform.teardown:
    only: [openfaas]
    volumes: [openfaas/data-nats-0]
    confirm: kind-lambda
"""

RETURN = r"""
cluster:
  description: The name of the cluster, which O(confirm) has to be.
  returned: success
  type: str
components:
  description: The components that were removed.
  returned: success
  type: list
  elements: str
removed:
  description: 'What was removed, or would be.'
  returned: success
  type: list
  elements: str
kept:
  description: 'What stays though it is the platform''s, with C(component), C(object) and C(why).'
  returned: success
  type: list
  elements: dict
left:
  description: 'What else is left, with C(component), C(object) and C(why).'
  returned: success
  type: list
  elements: dict
table:
  description: The same as lines of text, which are also shown where the module runs in process.
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
    from ansible_collections.lambda_microservice.platform.plugins.module_utils.teardown import teardown

    run_as_module(teardown)


if __name__ == "__main__":
    main()

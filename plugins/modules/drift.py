#!/usr/bin/python
# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: drift
short_description: Tell what of the running platform is not as the inventory would have it
version_added: 0.2.0
description:
  - Renders what C(site.yml) would install and compares it with the cluster. It is the modules that would bring the
    platform there that say, in check mode, what they would do, so what is no change for them is no drift - counts that
    autoscalers set, what the API server or a controller fills in, fields that nobody here renders.
  - Tells what is changed, with the paths of the fields, what is missing, what a release or a batch does not make any
    more, objects of others in the platform's namespaces, Secrets with another value than they were given, and
    containers that run another image, or another digest of it, than the inventory names.
  - It reads only; what applying would change is asked of the API server in dry runs. No value of a Secret is shown.
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
  helm_binary:
    description: 'The helm program, a path or a name that is searched in C(PATH).'
    type: str
    default: helm
  fail:
    description: Whether the task fails where anything differs.
    type: bool
    default: true
  output: {description: The JSON file to write., type: path}
attributes:
  check_mode: {description: It changes nothing. In check mode it writes no file either., support: full}
  diff_mode: {description: It changes nothing., support: none}
notes:
  - Objects of others are only looked for where all components are, since one has objects in the namespace of another.
  - A value of a Secret that M(lambda_microservice.platform.secret) made at random is told as changed where the API
    server has noted that another program wrote it later.
"""

EXAMPLES = r"""
- name: The variables are what their specifications say
  lambda_microservice.platform.variables:
  register: __platform

- name: What runs is what the inventory has
  lambda_microservice.platform.drift:
    kubeconfig: /etc/lambda/kubeconfig
    only: [controller, ingress]
"""

RETURN = r"""
drift:
  description: Whether anything differs.
  returned: always
  type: bool
components:
  description: The components that were looked at.
  returned: always
  type: list
  elements: str
counts:
  description: How many differences there are of each kind.
  returned: always
  type: dict
differences:
  description: Each difference.
  returned: always
  type: list
  elements: dict
  contains:
    component: {description: Whose it is. Empty where nobody knows., type: str, returned: always}
    kind:
      description: 'V(missing), V(changed), V(extra), V(foreign), V(image) or V(refused).'
      type: str
      returned: always
    object: {description: 'The object, as kind namespace/name.', type: str, returned: always}
    fields: {description: The paths of what differs., type: list, elements: str, returned: always}
    note: {description: More about it., type: str, returned: always}
table:
  description: The same as lines of text, which are also shown where the module runs in process.
  returned: always
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
    from ansible_collections.lambda_microservice.platform.plugins.module_utils.drift import drift

    run_as_module(drift)


if __name__ == "__main__":
    main()

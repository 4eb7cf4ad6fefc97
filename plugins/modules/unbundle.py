#!/usr/bin/python
# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: unbundle
short_description: Take a bundle to where nothing else can be fetched
version_added: 0.2.0
description:
  - Unpacks an archive of M(lambda_microservice.platform.bundle), holds every file to its sum, and pushes the images
    that the registry lacks, each with the digest that it had.
  - Writes a file of variables that lead C(site.yml) to all of it.
author:
  - Lambda Microservice Platform team (@lambda-microservice-platform)
extends_documentation_fragment:
  - lambda_microservice.platform.attributes
  - lambda_microservice.platform.attributes.in_process
options:
  archive: {description: The archive., type: path, required: true}
  folder: {description: Where it is unpacked., type: path, required: true}
  registry:
    description: 'The registry, with a path where one is wanted, such as V(registry.example.com/lambda).'
    type: str
    required: true
  oras_binary: {description: "The oras program. Without it, the bundle's own.", type: path}
attributes:
  check_mode: {description: Asks the registry and writes nothing., support: full}
  diff_mode: {description: The result names what is pushed., support: none}
notes:
  - The registry is logged in to with C(docker login) or C(oras login) before.
"""

EXAMPLES = r"""
- name: The images are in the registry
  lambda_microservice.platform.unbundle:
    archive: lambda.tar
    folder: /srv/lambda
    registry: registry.example.com/lambda
"""

RETURN = r"""
pushed:
  description: The images that the registry lacked.
  returned: success
  type: list
  elements: str
variables:
  description: The file of variables, for C(ansible-playbook -e @FILE).
  returned: success
  type: str
collections:
  description: Archives for C(ansible-galaxy collection install).
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
    from ansible_collections.lambda_microservice.platform.plugins.module_utils.unbundle import unbundle

    run_as_module(unbundle)


if __name__ == "__main__":
    main()

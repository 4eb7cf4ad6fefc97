#!/usr/bin/python
# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bundle
short_description: Put all that an inventory needs from elsewhere into one file
version_added: 0.2.0
description:
  - Renders what C(site.yml) would install, and finds every image that something of it runs.
  - Writes one archive with these images by their digests (an OCI image layout), a bill of materials of each, the charts
    and manifests that would be downloaded, the collections, and a sum of every file.
  - M(lambda_microservice.platform.unbundle) takes it to a cluster that reaches nothing else.
author:
  - Lambda Microservice Platform team (@lambda-microservice-platform)
extends_documentation_fragment:
  - lambda_microservice.platform.attributes
  - lambda_microservice.platform.attributes.in_process
  - lambda_microservice.platform.components
requirements:
  - helm 3.13 or later, or helm 4, on the machine that runs the module
  - oras 1.2 or later
  - syft, for bills of materials
options:
  images:
    description: The table of images, name to reference. Without it, C(platform_image) of the play.
    type: dict
    required: true
  files:
    description: Files that are put in, by the variable that names one of them at the other end.
    type: dict
    default: {}
  charts:
    description:
      - For each release whose chart is downloaded, the variables that name its C(chart) and, where there is one, its
        C(repository).
    type: dict
    default: {}
  collections:
    description: The folders of collections. Without it, this one's and that of kubernetes.core.
    type: list
    elements: path
    default: []
  inventory: {description: 'What the bundle is for, as its index says.', type: str, default: ''}
  helm_binary:
    description: 'The helm program, a path or a name that is searched in C(PATH).'
    type: str
    default: helm
  kubernetes_version:
    description: 'The version to render for. Without it, the one that helm assumes.'
    type: str
    default: ''
  oras_binary: {description: The oras program. It is put into the bundle., type: path, required: true}
  syft_binary: {description: 'The syft program. Without it, there are no bills of materials.', type: path}
  output: {description: The archive to write., type: path, required: true}
attributes:
  check_mode: {description: Asks the registries and writes no file., support: full}
  diff_mode: {description: Shows the index of the archive before and after., support: full}
"""

EXAMPLES = r"""
- name: The variables are what their specifications say
  lambda_microservice.platform.variables:
  register: __platform

- name: All that this inventory needs
  lambda_microservice.platform.bundle:
    oras_binary: /usr/local/bin/oras
    syft_binary: /usr/local/bin/syft
    output: lambda.tar
"""

RETURN = r"""
bundle:
  description: The index of the archive.
  returned: success
  type: dict
  contains:
    format: {description: The number of the archive's form., type: int, returned: always}
    inventory: {description: What it is for., type: str, returned: always}
    images: {description: 'Of each image C(repository), C(tag) and C(digest).', type: dict, returned: always}
    charts: {description: The charts that were downloaded., type: dict, returned: always}
    files: {description: 'Of each file its C(name) and C(sha256).', type: dict, returned: always}
    collections: {description: 'The digest of what is in each, by its name and version.', type: dict, returned: always}
    sboms: {description: Whether there are bills of materials., type: bool, returned: always}
output:
  description: The archive.
  returned: success
  type: str
"""

from ansible_collections.lambda_microservice.platform.plugins.module_utils.module import (
    require_python,
    run_as_module,
)


def main():
    """Run as an ordinary module, where the action plugin cannot run in process."""
    require_python()
    # Only now: an older Python could not read it.
    from ansible_collections.lambda_microservice.platform.plugins.module_utils.bundle import bundle

    run_as_module(bundle)


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: attest
short_description: Say what images are made of, and sign them
version_added: 0.2.0
description:
  - Writes a bill of materials (SPDX) of each image by C(syft), where there is none of its digest yet.
  - Signs each image, and its bill, by C(cosign), where that has not been done with this key. Signatures are stored in
    the image's registry; no transparency log and no other service is asked. C(cosign verify --key cosign.pub
    --insecure-ignore-tlog) holds an image to them.
author:
  - Lambda Microservice Platform team (@lambda-microservice-platform)
extends_documentation_fragment:
  - lambda_microservice.platform.attributes
  - lambda_microservice.platform.attributes.in_process
options:
  images:
    description:
      - The images by name, each with C(repository) and C(digest), as M(lambda_microservice.platform.image) gives them.
    type: dict
    required: true
  bills:
    description:
      - The folder for bills of materials. Of each image, that of its present digest stays there. Without it, none.
    type: path
  syft_binary: {description: The syft program., type: path}
  cosign_key:
    description: The private key, a file or a KMS URI. Without it, nothing is signed.
    type: str
  cosign_password: {description: The password of a key that is a file., type: str}
  cosign_binary: {description: 'The cosign program, 3.1 or later.', type: path}
attributes:
  check_mode: {description: Asks the registry and writes nothing., support: full}
  diff_mode: {description: The result names what is written and signed., support: none}
notes:
  - The registry is logged in to with C(docker login) before.
"""

EXAMPLES = r"""
- name: What the images are made of, and who answers for it
  lambda_microservice.platform.attest:
    images: "{{ built.images }}"
    bills: /srv/bills
    syft_binary: /usr/local/bin/syft
    cosign_key: awskms:///alias/images
    cosign_binary: /usr/local/bin/cosign
"""

RETURN = r"""
bills:
  description: The file of each image's bill of materials.
  returned: success
  type: dict
written:
  description: The images whose bills were (in check mode, would be) written.
  returned: success
  type: list
  elements: str
signed:
  description: The images that were (in check mode, would be) signed, or whose bills were.
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
    from ansible_collections.lambda_microservice.platform.plugins.module_utils.attest import attest

    run_as_module(attest)


if __name__ == "__main__":
    main()

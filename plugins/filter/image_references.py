# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.image.reference import parse

DOCUMENTATION = r"""
name: image_references
short_description: Full references of the platform's images
version_added: 0.1.0
description:
  - Turns the table of images into references that a container runtime understands, C(repository:tag@digest).
  - An image that was built takes the place of the table's. A user's override wins over both, key by key.
  - A digest belongs to the repository and the tag beside it. An override with another repository or tag and no digest
    therefore drops the digest that the table had.
author:
  - The lambda_microservice.platform team
positional: _input, built, overrides, registry
options:
  _input:
    description:
      - The table, image name to a dictionary with C(repository), C(tag) and C(digest).
      - C(tag) or C(digest) may be missing.
    type: dict
    required: true
  built:
    description: Images built by C(playbooks/images.yml), in the same shape.
    type: dict
    default: {}
  overrides:
    description:
      - The user's changes in the same shape, every key optional.
      - A repository that begins with a registry's host stays as it is, whatever O(registry) says.
    type: dict
    default: {}
  registry:
    description: A prefix that replaces each repository's registry host, for a mirror or a private registry.
    type: str
    default: ''
"""

EXAMPLES = r"""
- name: Show the references
  ansible.builtin.debug:
    msg: "{{ images | lambda_microservice.platform.image_references(built, overrides, 'registry.example.com/mirror') }}"
  vars:
    overrides:
      redis: {tag: '8.0.3'}
    images:
      redis: {repository: docker.io/library/redis, tag: '8.0.2'}
      controller: {repository: ghcr.io/example/controller, tag: '1.0'}
    built:
      controller: {repository: localhost:5000/controller, tag: 3f2a9c}
# redis: registry.example.com/mirror/library/redis:8.0.3
# controller: registry.example.com/mirror/controller:3f2a9c
"""

RETURN = r"""
_value:
  description: Image name to reference.
  type: dict
"""

_KEYS = ("repository", "tag", "digest")
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_HOST = r"(?:localhost|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+|[A-Za-z0-9-]+(?=:))(?::[0-9]{1,5})?"
# https://github.com/distribution/reference: its grammar, the length limit left to the registry.
_FORM = {
    "repository": re.compile(rf"(?:{_HOST}/)?{_COMPONENT}(?:/{_COMPONENT})*"),
    "tag": re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"),
    "digest": re.compile(r"sha256:[a-f0-9]{64}"),
}
_EXPECTED = {
    "repository": "a repository such as registry.example.com/team/name, without a tag",
    "tag": "a tag as a string (in YAML, quote a tag that looks like a number)",
    "digest": "sha256: and 64 hexadecimal digits",
}


def _fail(where: str, found: Any, expected: str) -> None:
    raise AnsibleFilterError(f"image_references: {where} is wrong. Found: {found!r}. Expected: {expected}.")


def _table(table: Any, where: str) -> dict[str, dict[str, str]]:
    if table is None:
        return {}
    if not isinstance(table, dict):
        _fail(where, table, "a dictionary of image names")
    checked = {}
    for name, image in table.items():
        at = f"{where}.{name}"
        if not isinstance(image, dict):
            _fail(at, image, "a dictionary with repository, tag and digest")
        unknown = sorted(str(key) for key in image if key not in _KEYS)
        if unknown:
            _fail(f"{at} (its keys)", unknown, "only repository, tag and digest")
        entry = {}
        for key in _KEYS:
            value = image.get(key)
            if value is None or value == "":
                continue
            if not isinstance(value, str) or not _FORM[key].fullmatch(value):
                _fail(f"{at}.{key}", value, _EXPECTED[key])
            entry[key] = str(value)
        checked[str(name)] = entry
    return checked


def image_references(images: Any, built: Any = None, overrides: Any = None, registry: Any = "") -> dict[str, str]:
    """References of all images, by name."""
    if registry is None:
        registry = ""
    if not isinstance(registry, str) or "://" in registry:
        _fail("registry", registry, "a host and path such as registry.example.com/mirror, without a scheme")
    prefix = registry.rstrip("/")
    table = {**_table(images, "images"), **_table(built, "built")}
    changes = _table(overrides, "overrides")
    unknown = sorted(set(changes) - set(table))
    if unknown:
        _fail("overrides", ", ".join(unknown), "only the names " + ", ".join(sorted(table)))

    references = {}
    for name in sorted(table):
        image, change = table[name], changes.get(name, {})
        merged = {**image, **change}
        if "digest" not in change and any(
            change.get(key, image.get(key)) != image.get(key) for key in ("repository", "tag")
        ):
            merged.pop("digest", None)
        if "digest" in change and "tag" not in change:
            # The table's tag beside another digest would name a version that is not what runs.
            merged.pop("tag", None)
        if "repository" not in merged:
            _fail(f"images.{name}.repository", None, _EXPECTED["repository"])
        if "tag" not in merged and "digest" not in merged:
            _fail(f"images.{name}", dict(merged), "a tag, a digest or both: an image without them changes by itself")
        named = parse(merged["repository"])
        moves = prefix and not (named.host and "repository" in change)
        reference = f"{prefix}/{named.path}" if moves else merged["repository"]
        if "tag" in merged:
            reference += ":" + merged["tag"]
        if "digest" in merged:
            reference += "@" + merged["digest"]
        references[name] = reference
    return references


class FilterModule:
    """Registers the filter."""

    def filters(self):
        """Names and functions."""
        return {"image_references": image_references}

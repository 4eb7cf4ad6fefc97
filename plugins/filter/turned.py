# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: turned
short_description: Which Secrets of a list are rotated, and at which step
version_added: 0.2.0
description:
  - Sets C(rotate), C(forget) and C(certificate.switch) of the entries of M(lambda_microservice.platform.secret) by
    name, so that a role's list stays as it is and a rotation says what is to be done with it.
  - A name that the list does not have is an error.
author:
  - The lambda_microservice.platform team
positional: _input
options:
  _input:
    description: The Secrets, as the module takes them.
    type: list
    elements: dict
    required: true
  rotate:
    description: Names of Secrets whose values, certificates or next authorities are made anew.
    type: list
    elements: str
    default: []
  switch:
    description: Names of authorities that sign with their next key from now on.
    type: list
    elements: str
    default: []
  forget:
    description: Names of Secrets whose values before are taken no longer.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Redis learns a new password of the controller
  lambda_microservice.platform.secret:
    secrets: "{{ redis_secrets | lambda_microservice.platform.turned(rotate=['redis-controller']) }}"
"""

RETURN = r"""
_value:
  description: The Secrets, in the same order.
  type: list
  elements: dict
"""


def turned(secrets: Any, rotate: Any = (), switch: Any = (), forget: Any = ()) -> list[dict[str, Any]]:
    """The list with the flags set."""
    known = [secret["name"] for secret in secrets]
    lacking = sorted({*rotate, *switch, *forget} - set(known))
    if lacking:
        raise AnsibleFilterError(
            f"turned: there is no such Secret. Found: {', '.join(lacking)}. Expected: some of {', '.join(known)}."
        )
    return [_turned(secret, rotate, switch, forget) for secret in secrets]


def _turned(secret: dict[str, Any], rotate: Any, switch: Any, forget: Any) -> dict[str, Any]:
    name, made = secret["name"], dict(secret)
    if name in rotate:
        made["rotate"] = True
    if name in forget:
        made["forget"] = True
    if name in switch:
        made["certificate"] = {**secret["certificate"], "switch": True}
    return made


class FilterModule:
    """Registers the filter."""

    def filters(self):
        """Names and functions."""
        return {"turned": turned}

# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: outcome
short_description: What came of a look at the platform, in the few words that a workflow branches on
version_added: 0.2.0
description:
  - Takes what a task of P(lambda_microservice.platform.verify#module),
    P(lambda_microservice.platform.preflight#module), P(lambda_microservice.platform.drill#module) or a look for drift
    has registered, whether it failed or not, and gives the same few fields for each.
  - Meant for P(ansible.builtin.set_stats#module), whose data AWX keeps as the job's artifacts and hands to what comes
    after it in a workflow.
author:
  - The lambda_microservice.platform team
positional: _input
options:
  _input:
    description: The result of the task.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: A workflow sees what came of it
  ansible.builtin.set_stats:
    data:
      lambda_verify: "{{ verified | lambda_microservice.platform.outcome }}"
"""

RETURN = r"""
_value:
  description: The outcome.
  type: dict
  contains:
    result:
      description: V(passed), V(warned) or V(failed); V(not made) where the task was left out.
      type: str
    failed:
      description: The names of those that failed, or of the objects that differ.
      type: list
      elements: str
    warned: {description: The names of those with a warning., type: list, elements: str}
"""

_FAILED = frozenset(("FAILED", "FAIL", "MISSED", "ERROR"))
_WARNED = frozenset(("warning", "warn"))
_ROWS = (("checks", "check", "result"), ("findings", "check", "result"), ("drills", "drill", "verdict"))
"""What each module calls its rows, their names and their results."""


def outcome(result: Any) -> dict[str, Any]:
    """The result as ``result``, ``failed`` and ``warned``, of whichever module it is."""
    if not isinstance(result, Mapping):
        raise AnsibleFilterError(
            f"outcome: no result of a task. Found: {type(result).__name__}. Expected: what a task has registered."
        )
    rows = [(row[name], row[said]) for key, name, said in _ROWS for row in result.get(key) or ()]
    failed = [name for name, said in rows if said in _FAILED]
    # What differs from the inventory, of a look for drift.
    failed += [row["object"] for row in result.get("differences") or ()]
    failed += [*(result.get("failed_checks") or ()), *(result.get("failed_drills") or ())]
    warned = _each_once(name for name, said in rows if said in _WARNED)
    if result.get("skipped"):
        word = "not made"
    elif result.get("failed") or failed:
        word = "failed"
    else:
        word = "warned" if warned else "passed"
    return {"result": word, "failed": _each_once(failed), "warned": warned}


def _each_once(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


class FilterModule:
    """Registers the filter."""

    def filters(self):
        """Names and functions."""
        return {"outcome": outcome}

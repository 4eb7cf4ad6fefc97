# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: with_tags
short_description: The rows of a table that --tags and --skip-tags choose
version_added: 0.1.0
description:
  - Chooses rows of a table as Ansible chooses tasks, by each row's C(tags). One task can thus handle a whole table and
    still be told which rows are wanted.
  - That no row is left is an error, which names the tags that there are.
author:
  - The lambda_microservice.platform team
positional: _input, run_tags, skip_tags
options:
  _input:
    description: The table, rows with C(tags).
    type: list
    elements: dict
    required: true
  run_tags:
    description: Usually C(ansible_run_tags). V(all) and V(tagged) choose every row.
    type: list
    elements: str
    required: true
  skip_tags:
    description: Usually C(ansible_skip_tags).
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Make the drills that were asked for
  lambda_microservice.platform.drill:
    drills: "{{ drill_table | lambda_microservice.platform.with_tags(ansible_run_tags, ansible_skip_tags) }}"
"""

RETURN = r"""
_value:
  description: The chosen rows, in the table's order.
  type: list
  elements: dict
"""


def with_tags(rows: Any, run_tags: Any, skip_tags: Any = ()) -> list[dict[str, Any]]:
    """The rows that have one of run_tags and none of skip_tags."""
    wanted, unwanted = set(run_tags), set(skip_tags)
    every = bool(wanted & {"all", "tagged"})
    chosen = [row for row in rows if (every or wanted & set(row["tags"])) and not unwanted & set(row["tags"])]
    if not chosen:
        known = sorted({tag for row in rows for tag in row["tags"]})
        raise AnsibleFilterError(
            f"with_tags: nothing is left. Found: --tags {','.join(sorted(wanted))} --skip-tags "
            f"{','.join(sorted(unwanted)) or 'none'}. Expected: some of the tags {', '.join(known)}."
        )
    return chosen


class FilterModule:
    """Registers the filter."""

    def filters(self):
        """Names and functions."""
        return {"with_tags": with_tags}

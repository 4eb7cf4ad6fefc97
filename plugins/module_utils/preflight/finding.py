# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What preflight has found: one row a finding, all of them in one table."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError

PASS = "pass"  # noqa: S105 (no password)
WARN = "warn"
FAIL = "FAIL"
IGNORED = "ignored"


@dataclass(frozen=True)
class Finding:
    """``check`` is the name by which preflight_ignore knows it; ``to_do`` is empty where all is well."""

    check: str
    result: str
    found: str
    needed: str = ""
    to_do: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For the task's result."""
        return asdict(self)


def passed(check: str, found: str) -> Finding:
    """All is as it should be."""
    return Finding(check, PASS, found)


def of_error(check: str, error: PlatformError, result: str = FAIL) -> Finding:
    """What an error says, in the table's columns."""
    found = ": ".join(part for part in (error.what, error.found) if part)
    if error.where:
        found = f"{found} ({error.where})"
    return Finding(check, result, found, error.expected, error.fix)


def table(findings: Iterable[Finding], width: int = 160) -> list[str]:
    """The lines of the table: what is well has one; what is not says below it what is needed and what to do."""
    rows = list(findings)
    name = max([len(row.check) for row in rows] + [5])
    result = max([len(row.result) for row in rows] + [6])
    room = max(40, width - name - result - 4)
    margin = " " * (name + result + 4)
    lines = [f"{'check':<{name}}  {'result':<{result}}  found", f"{'-' * name}  {'-' * result}  {'-' * min(room, 40)}"]
    for row in rows:
        told = textwrap.wrap(" ".join(row.found.split()), room) or [""]
        lines.append(f"{row.check:<{name}}  {row.result:<{result}}  {told[0]}".rstrip())
        lines += [margin + line for line in told[1:]]
        if row.result in (WARN, FAIL):
            for label, text in (("needed: ", row.needed), ("to do:  ", row.to_do)):
                wrapped = textwrap.wrap(" ".join(text.split()), room - len(label))
                lines += [
                    margin + (label if number == 0 else " " * len(label)) + line for number, line in enumerate(wrapped)
                ]
    return lines

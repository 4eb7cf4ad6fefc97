# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of the module ``rehearse`` for a terminal."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.table import aligned


def lines(report: dict[str, Any]) -> list[str]:
    """The whole report."""
    found = []
    for one in report["promises"]:
        found.append(f"{one['result'].upper():8}  {one['check']}: {one['sentence']}")
        found += [f"          - {line}" for line in one["seen"]]
        if one["seen"]:
            found.append(f"          to do: {one['to_do']}")
    for name, title in (
        ("nodes", "a node lost, at rest"),
        ("zones", "a zone lost, at rest"),
        ("drains", "drained, at rest"),
        ("most", "a zone lost, at most"),
    ):
        losses = report["losses"].get(name) or []
        if losses:
            found += ["", *aligned([title, "moved", "waiting", "budgets said no", "s"], [_row(one) for one in losses])]
    seconds = ", ".join(f"{name} {value:.0f}" for name, value in report["seconds"].items())
    return [*found, "", "Not rehearsed:", *(f"- {text}" for text in report["not_rehearsed"]), "", f"Seconds: {seconds}"]


def _row(loss: dict[str, Any]) -> list[str]:
    waiting = sum(one["pods"] for one in loss["waiting"])
    return [
        loss["what"],
        str(sum(bool(one["to"]) for one in loss["moved"])),
        str(waiting),
        str(loss["refusals"]),
        f"{loss['seconds']:.1f}",
    ]


def moved_to(loss: dict[str, Any]) -> list[str]:
    """What moved, one line a workload."""
    found: dict[str, Counter[str]] = {}
    for one in loss["moved"]:
        found.setdefault(one["workload"], Counter())[one["to"] or "nowhere yet"] += 1
    return [
        f"{workload} to "
        + ", ".join(node if count == 1 else f"{node} ({count})" for node, count in sorted(places.items()))
        for workload, places in sorted(found.items())
    ]

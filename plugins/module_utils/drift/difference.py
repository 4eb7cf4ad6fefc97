# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One thing that is not as the inventory would have it, and all of them as a table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.table import aligned

CHANGED = "changed"
MISSING = "missing"
EXTRA = "extra"
"""The platform's own, which the inventory does not ask for any more."""
FOREIGN = "foreign"
"""In a namespace of the platform's, and of nobody that it knows."""
IMAGE = "image"
"""Runs something else than what its image's entry names."""
REFUSED = "refused"
"""What the inventory asks for cannot be compared, or the cluster would not take it."""

KINDS = (MISSING, CHANGED, EXTRA, FOREIGN, IMAGE, REFUSED)
_FIELDS_SHOWN = 4
_WIDEST = 110


@dataclass(frozen=True)
class Difference:
    """``fields`` are paths, never values."""

    component: str
    kind: str
    object: str
    fields: list[str] = field(default_factory=list)
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For the task's result."""
        return asdict(self)


def ordered(differences: Iterable[Difference]) -> list[Difference]:
    """By kind, component and name; what two looks have found is there once."""
    unique: dict[tuple[str, str], Difference] = {}
    for one in differences:
        unique.setdefault((one.kind, one.object), one)
    return sorted(unique.values(), key=lambda one: (KINDS.index(one.kind), one.component, one.object))


def table(differences: list[Difference]) -> list[str]:
    """Aligned lines; none where nothing differs."""
    if not differences:
        return []
    rows = [[one.kind, one.component or "-", one.object, _told(one)] for one in differences]
    return aligned(["what", "component", "object", "fields"], rows, left=4)


def _told(one: Difference) -> str:
    told = ", ".join(one.fields[:_FIELDS_SHOWN])
    if len(one.fields) > _FIELDS_SHOWN:
        told += f" and {len(one.fields) - _FIELDS_SHOWN} more"
    told = "; ".join(part for part in (told, " ".join(one.note.split())) if part)
    return told if len(told) <= _WIDEST else told[: _WIDEST - 1] + "…"

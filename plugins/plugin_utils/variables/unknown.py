# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables that begin like those of a role or playbook and that none knows: misspelt, mostly, and without effect."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError

_ALIKE_FROM = 7
"""A role's name of so many letters and more may have one wrong letter in a variable's beginning."""


def find_unknown(given: Iterable[str], roles: Collection[str], known: Collection[str]) -> Iterator[PlatformError]:
    """An error for each name of ``given`` that ``known`` has not, and that begins like a role or is one letter off."""
    by_length: dict[int, list[str]] = {}
    public = [name for name in known if not name.startswith("_")]  # the others are the roles' own
    for name in public:
        by_length.setdefault(len(name), []).append(name)
    for name in sorted(set(given) - set(known)):
        close = (other for length in range(len(name) - 1, len(name) + 2) for other in by_length.get(length, ()))
        misspelt = next((other for other in close if _one_edit(name, other)), None)
        if misspelt is None and not any(_alike(head, role) for head in _heads(name) for role in roles):
            continue
        nearest = misspelt or max(public, key=lambda other: difflib.SequenceMatcher(None, name, other).ratio())
        yield PlatformError(
            f"no role knows the variable {name}",
            expected=f"one that a role knows; the nearest is {nearest}",
            fix="correct the name, or give -e platform_unknown_variables=allow where it is a variable of your own",
            reason="unknown",
        )


def _heads(name: str) -> Iterator[str]:
    """What a role's name could be, the longest first: the words before each underscore."""
    words = name.split("_")
    for count in range(len(words) - 1, 0, -1):
        yield "_".join(words[:count])


def _alike(head: str, role: str) -> bool:
    return head == role or (len(role) >= _ALIKE_FROM and _one_edit(head, role))


def _one_edit(one: str, other: str) -> bool:
    """Whether one letter was left out, added, replaced, or changed places with its neighbour."""
    if abs(len(one) - len(other)) > 1:
        return False
    at = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    left, right = one[at:], other[at:]
    if left[1:] == right or left == right[1:] or left[1:] == right[1:]:
        return True
    return left[:2] == right[:2][::-1] and left[2:] == right[2:]

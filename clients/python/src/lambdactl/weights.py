"""Which versions an alias leads to, with the percentage of the calls that each gets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from lambdactl.failure import Failure

_WORD = re.compile(r"([1-9][0-9]{0,8})(?:=([1-9][0-9]{0,2}))?")


def parse(words: Iterable[str]) -> dict[int, int]:
    """`7`, or `7=90 8=10`."""
    given = list(words)
    found: dict[int, int] = {}
    for word in given:
        part = _WORD.fullmatch(word)
        if not part or (part[2] is None and len(given) > 1):
            raise Failure(f"{word!r} is no version with its share; expected VERSION alone, or VERSION=PERCENT for each")
        if int(part[1]) in found:
            raise Failure(f"version {part[1]} is named twice")
        found[int(part[1])] = int(part[2] or 100)
    if sum(found.values()) != 100:
        raise Failure(f"the shares are {sum(found.values())} % in all; expected 100")
    return found


def text(versions: Mapping[str, int]) -> str:
    ordered = sorted(versions.items(), key=lambda item: int(item[0]))
    return ", ".join(f"{version}" if weight == 100 else f"{version} ({weight}%)" for version, weight in ordered)


def earlier(versions: Mapping[str, int], kept: Iterable[int]) -> int | None:
    """The newest version before the newest that an alias leads to."""
    newest = max(int(version) for version in versions)
    return max((version for version in kept if version < newest), default=None)

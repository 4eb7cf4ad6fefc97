# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a chart renders anew each time (random passwords, certificates, the time), and the installed values of it.

Two renderings of the same input differ in nothing else. So what they agree on is the chart's, and where they differ the
installed value is kept: a random value is made once.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.compare import MERGE_KEYS, plain
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object

# The time is one word: of two renderings in the same minute only the seconds differ.
_TIME = (
    r"(?:\d{4}-\d\d-\d\d[T ]|(?:[A-Z][a-z]{2},? )?(?:\d{1,2} [A-Z][a-z]{2} \d{4}|[A-Z][a-z]{2} +\d{1,2}) )?"
    r"\d\d:\d\d:\d\d[\w.+:-]*"
)
_WORD = re.compile(_TIME + r"|[^\s\"'`,;:{}\[\]()<>=&?@#|]+|.", re.DOTALL)
_MOST_WORDS = 4000
"""Beyond, lines are compared: the comparison takes the square of their number."""


def kept(now: Object, then: Object, installed: Object) -> Object:
    """The object ``now`` with installed values wherever it and another rendering of the same, ``then``, differ.

    What is random in the middle of a text (a configuration file with a password) is kept there, and the text around it
    is the chart's. Where the installed text cannot be matched, the new one is taken whole: the chart's own change must
    come through.
    """
    found = _kept(now, then, installed, "")
    if now.get("kind") == "Secret":
        for field in ("data", "stringData"):
            if isinstance(now.get(field), dict):
                found[field] = {name: _kept_entry(now, then, installed, field, name) for name in now[field]}
    return found


def _kept(now: Any, then: Any, installed: Any, name: str) -> Any:
    if plain(now) == plain(then):
        return now
    if isinstance(now, dict) and isinstance(then, dict) and isinstance(installed, dict):
        return {
            key: _kept(item, then[key], installed[key], key) if key in then and key in installed else item
            for key, item in now.items()
        }
    if isinstance(now, list) and isinstance(then, list) and isinstance(installed, list):
        return _kept_list(now, then, installed, name)
    if isinstance(now, str) and isinstance(then, str) and isinstance(installed, str):
        return kept_text(now, then, installed)
    return installed if type(now) is type(installed) and not isinstance(now, (dict, list)) else now


def _kept_list(now: list[Any], then: list[Any], installed: list[Any], name: str) -> list[Any]:
    """By the key where the list is a map in truth: an entry that is new in the chart must not take another's value."""
    keys = MERGE_KEYS.get(name)
    if keys and all(isinstance(item, dict) for item in [*now, *then, *installed]):
        thens, olds = ({tuple(item.get(key) for key in keys): item for item in part} for part in (then, installed))
        names = [tuple(item.get(key) for key in keys) for item in now]
        return [
            _kept(item, thens[key], olds[key], "") if key in thens and key in olds else item
            for key, item in zip(names, now, strict=True)
        ]
    if len(now) == len(then) == len(installed):
        return [_kept(*items, "") for items in zip(now, then, installed, strict=True)]
    return now


def _kept_entry(now: Object, then: Object, installed: Object, field: str, name: str) -> Any:
    """An entry of a Secret, compared as the text that its base64 stands for."""
    mine, other, old = now[field][name], _text_of(then, name), _text_of(installed, name)
    text = _text_of(now, name, field)
    if text is None or other is None or old is None:
        encoded = _encoded(installed, name)
        differs = _encoded(now, name) != _encoded(then, name)
        return encoded if differs and encoded is not None and field == "data" else mine
    chosen = kept_text(text, other, old) if text != other else text
    if chosen == text:
        return mine
    return chosen if field == "stringData" else base64.b64encode(chosen.encode()).decode()


def _encoded(secret: Object, name: str) -> str | None:
    if name in (secret.get("stringData") or {}):
        return base64.b64encode(str(secret["stringData"][name]).encode()).decode()
    value = (secret.get("data") or {}).get(name)
    return None if value is None else "".join(str(value).split())


def _text_of(secret: Object, name: str, field: str = "") -> str | None:
    """The text of an entry; None if there is none, or it is no text."""
    if field == "data":
        secret = {"data": secret["data"]}
    encoded = _encoded(secret, name)
    try:
        return None if encoded is None else base64.b64decode(encoded, validate=True).decode()
    except ValueError:
        return None


def kept_text(now: str, then: str, installed: str) -> str:
    """The text ``now`` with the installed words where it and ``then`` differ; ``now`` itself if they are not found."""
    mine, other, old = _words(now, then, installed)
    sequence: list[str | _Random] = []
    at, at_other = 0, 0
    for block in SequenceMatcher(None, mine, other, autojunk=False).get_matching_blocks():
        common = mine[block.a : block.a + block.size]
        if common and not _names(common):
            # Signs between random words, such as the ends of a certificate's lines, hold nothing fast.
            continue
        if block.a > at:
            sequence.append(_Random(mine[at : block.a], block.b - at_other))
        sequence.extend(common)
        at, at_other = block.a + block.size, block.b + block.size
    if not any(isinstance(word, str) for word in sequence):
        return installed
    found: list[str] = []
    codes = SequenceMatcher(None, sequence, old, autojunk=False).get_opcodes()
    for number, (tag, begin, end, from_old, to_old) in enumerate(codes):
        beside = [codes[near] for near in (number - 1, number + 1) if 0 <= near < len(codes)]
        held = any(near[0] == "equal" and _names(sequence[near[1] : near[2]]) for near in beside)
        for index in range(begin, end):
            word = sequence[index]
            if isinstance(word, str):
                found.append(word)
                continue
            there = old[from_old:to_old] if tag == "replace" and held else []
            words = word.installed(there, index == begin, index == end - 1)
            if not words:
                return now
            found.extend(words)
    return "".join(found)


def _names(words: Sequence[object]) -> bool:
    """Whether one of the words is more than signs and blanks, so that its neighbours are known by it."""
    return any(isinstance(word, str) and re.search(r"\w", word) for word in words)


@dataclass(eq=False)
class _Random:
    """A run of random words between the chart's own, and how many there were in the other rendering."""

    words: list[str]
    other_number: int

    def installed(self, there: list[str], begins: bool, ends: bool) -> list[str] | None:
        """Its words among those that stand in its place; the chart's own changes beside it are among these too."""
        number = len(self.words)
        if any("\n" in word for word in self.words):
            return there if begins and ends else None
        if begins and ends and number != self.other_number:
            until = next((index for index, word in enumerate(there) if "\n" in word), len(there))
            return there[:until]
        part = there[:number] if begins else there[-number:] if ends else []
        return None if len(part) < number or any("\n" in word for word in part) else part


def _words(*texts: str) -> list[list[str]]:
    found = [_WORD.findall(text) for text in texts]
    if max(map(len, found)) > _MOST_WORDS:
        return [text.splitlines(keepends=True) for text in texts]
    return found

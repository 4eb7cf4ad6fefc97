"""The pages in Japanese are in step with those in English: headings, tables, code, commands, links and figures."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAIRS = {
    "README.md": "README.ja.md",
    **{f"docs/{name}.md": f"docs/ja/{name}.md" for name in ("start", "concepts", "tasks")},
}
# Where a fence ends a line with other words than code: a comment, which is for people.
_COMMENT = re.compile(r"^#.*$|  +#.*$", re.MULTILINE)
_LABEL = re.compile(r'"[^"\n]*"')


def fences(text: str) -> list[str]:
    """The code, without comments; of a picture, what leads where, without its labels."""
    found = []
    for block in re.findall(r"^```.*?^```", text, re.MULTILINE | re.DOTALL):
        found.append(_LABEL.sub('""', block) if block.startswith("```mermaid") else _COMMENT.sub("", block))
    return found


def labels(text: str) -> list[int]:
    pictures = re.findall(r"^```mermaid.*?^```", text, re.MULTILINE | re.DOTALL)
    return [len(_LABEL.findall(picture)) for picture in pictures]


def chapters(text: str) -> list[tuple[int, str]]:
    """The text of each heading's chapter, with the heading's level; code blocks left out."""
    plain = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    parts = re.split(r"^(#{1,6}) .*$", plain, flags=re.MULTILINE)
    return [(len(parts[number]), parts[number + 1]) for number in range(1, len(parts), 2)]


def commands(chapter: str) -> Counter[str]:
    return Counter(re.findall(r"`([^`\n]+)`", chapter))


def figures(chapter: str) -> set[str]:
    """Numbers of the words: those in code are compared there, those of a link's target are its name."""
    words = re.sub(r"`[^`\n]*`|\]\([^)]*\)", "", chapter)
    return set(re.findall(r"\d+(?:[.,]\d+)*", words))


def rows(chapter: str) -> list[int]:
    """The number of cells of each row of tables."""
    lines = [line for line in chapter.splitlines() if line.startswith("|")]
    return [len(re.findall(r"(?<!\\)\|", line)) - 1 for line in lines]


def links(page: str, text: str) -> Counter[str]:
    """Where links lead, by the English page's name; an anchor is in the language of its page."""
    english = {japanese: page for page, japanese in PAIRS.items()}
    found: Counter[str] = Counter()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            found[target] += 1
            continue
        path = os.path.normpath(Path(page).parent / target.split("#")[0])
        found[english.get(path, path)] += 1
    return found


def differences(page: str, english: str, japanese_page: str, japanese: str) -> list[str]:
    found = []
    ours, theirs = chapters(english), chapters(japanese)
    if [level for level, _text in ours] != [level for level, _text in theirs]:
        return [f"headings: {len(ours)} in English, {len(theirs)} in Japanese, or of other levels"]
    if fences(english) != fences(japanese):
        missing = [f"code: {one!r}" for one in fences(english) if one not in fences(japanese)]
        found += missing or ["code in another order"]
    if labels(english) != labels(japanese):
        found.append("labels of a picture")
    for number, ((_level, one), (_same, other)) in enumerate(zip(ours, theirs, strict=True), 1):
        for what, read in (("commands and names", commands), ("rows", rows)):
            if read(one) != read(other):
                found.append(f"chapter {number}, {what}: {read(one)} in English, {read(other)} in Japanese")
        # Japanese writes figures for numbers that are words in English.
        if not figures(one) <= figures(other):
            found.append(f"chapter {number}, figures that are missing in Japanese: {figures(one) - figures(other)}")
    to, to_there = links(page, english), links(japanese_page, japanese)
    if to != to_there:
        found.append(f"links: only in English {to - to_there}, only in Japanese {to_there - to}")
    return found


@pytest.mark.parametrize("page", PAIRS)
def test_both_say_the_same(page: str) -> None:
    english, japanese = ((ROOT / name).read_text(encoding="utf-8") for name in (page, PAIRS[page]))
    assert differences(page, english, PAIRS[page], japanese) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("## Where data lives", "### Where data lives"),
        ("| metrics | Prometheus | 15 days | nothing |\n", ""),
        ("`playbooks/verify.yml`", "`playbooks/report.yml`"),
        ("gateway --> runtime", "gateway --> redis"),
        ("controller 32 s", "controller 31 s"),
        ("](drills.md)", "](rehearsal.md)"),
    ],
)
def test_what_has_changed_in_one_alone_is_found(before: str, after: str) -> None:
    page = "docs/concepts.md"
    english, japanese = ((ROOT / name).read_text(encoding="utf-8") for name in (page, PAIRS[page]))
    assert before in english
    assert differences(page, english.replace(before, after), PAIRS[page], japanese)


@pytest.mark.parametrize("page", PAIRS.values())
def test_a_page_in_japanese_is_one(page: str) -> None:
    """A chapter that was left in English has hardly a kana."""
    for _level, chapter in chapters((ROOT / page).read_text(encoding="utf-8")):
        words = re.sub(r"`[^`\n]*`|\]\([^)]*\)", "", chapter)
        if len(words.strip()) > 60:
            assert len(re.findall(r"[\u3041-\u30ff]", words)) > len(words) * 0.1, chapter[:80]

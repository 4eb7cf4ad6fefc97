"""Tables, JSON and params, whatever characters are in them."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lambda_microservice_client import models
from lambdactl import output
from lambdactl.failure import Failure
from lambdactl.params import of_words
from lambdactl.weights import earlier, parse, text
from rich.cells import cell_len

TEXTS = st.text(max_size=12)


def printed(run: Any, encoding: str = "utf-8") -> str:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="backslashreplace")
    before, sys.stdout = sys.stdout, stream
    try:
        run()
    finally:
        sys.stdout = before
    stream.seek(0)
    return stream.read()


@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), max_size=5))
def test_columns_begin_at_the_same_place_of_a_terminal(rows: list[tuple[str, str, str]]) -> None:
    lines = printed(lambda: output.table(["A", "B", "C"], rows)).split("\n")
    assert len(lines) == len(rows) + 2  # a text with a line's end does not make two rows
    widths = [max([1, *(cell_len(output.visible(row[number] or "-")) for row in rows)]) for number in (0, 1)]
    for line, row in zip(lines[1:], rows, strict=False):
        shown = [output.visible(cell or "-") for cell in row]
        wanted = "   ".join(
            [*(cell + " " * (width - cell_len(cell)) for cell, width in zip(shown, widths, strict=False)), shown[2]]
        )
        assert line == wanted.rstrip()


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_printed(value: str) -> None:
    shown = output.visible(value)
    assert all(one.isprintable() for one in shown)
    assert shown == value or not value.isprintable()


def test_wide_characters_take_two_cells() -> None:
    shown = printed(lambda: output.table(["NAME", "N"], [["試験", 1], ["abcd", 2]]))
    assert shown == "NAME   N\n試験   1\nabcd   2\n"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, st.sampled_from(["utf-8", "ascii", "latin-1"]))
def test_json_is_json_at_any_terminal(value: Any, encoding: str) -> None:
    assert json.loads(printed(lambda: output.as_json(value), encoding)) == value


@given(st.dictionaries(st.text(min_size=1).filter(lambda name: "=" not in name), JSON, max_size=4))
def test_params_by_name_are_what_their_json_says(params: dict[str, Any]) -> None:
    words = [f"{name}={json.dumps(value)}" for name, value in params.items()]
    assert of_words(words, {}) == params


@given(st.dictionaries(st.integers(1, 999), st.integers(1, 100), min_size=1, max_size=4))
def test_shares_are_100_or_refused(shares: dict[int, int]) -> None:
    words = [f"{version}={share}" for version, share in shares.items()]
    if sum(shares.values()) == 100:
        assert parse(words) == shares
    else:
        with pytest.raises(Failure):
            parse(words)


@given(st.dictionaries(st.integers(1, 20).map(str), st.just(1), min_size=1), st.lists(st.integers(1, 20)))
def test_an_earlier_version_is_kept_and_older_than_all_that_is_tried_out(now: dict[str, int], kept: list[int]) -> None:
    found = earlier(now, kept)
    older = [version for version in kept if version < max(map(int, now))]
    assert found == (max(older) if older else None)


def test_an_alias_is_told_with_its_shares() -> None:
    assert text({"10": 10, "9": 90}) == "9 (90%), 10 (10%)"
    assert text({"9": 100}) == "9"


def test_what_was_absent_stays_absent_and_a_null_that_was_there_stays() -> None:
    called = models.Called(None, "r", 1, 0.5, 1)
    assert json.loads(printed(lambda: output.as_json(called)))["result"] is None
    version = models.Version(1, 1, "0", "t")
    assert "timeout_seconds" not in json.loads(printed(lambda: output.as_json([version])))[0]

"""An error for people, and what it was caused by for whoever mends the modules."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import REASONS, PlatformError

PLUGINS = Path(__file__).resolve().parents[3] / "plugins"


def failed(text: str) -> PlatformError:
    try:
        try:
            raise OSError(text)
        except OSError as failure:
            raise ValueError("unreadable") from failure
    except ValueError as failure:
        error = PlatformError("it cannot be read", reason="credentials")
        error.__cause__ = failure
        return error


def test_causes_are_told_from_the_nearest_with_their_places():
    nearest, first = failed("disk full").causes()
    assert nearest.startswith("ValueError: unreadable (test_errors.py, line ")
    assert first.startswith("OSError: disk full (test_errors.py, line ")
    assert PlatformError("nothing below").causes() == []


def test_causes_are_no_part_of_what_a_user_reads():
    error = failed("disk full")
    assert "disk full" not in str(error) + str(error.result())


def test_a_batch_keeps_the_causes_of_all():
    batch = PlatformError.of_many("2 of 3 failed", [failed("disk full"), failed("disk gone")])
    assert [line.partition(" (")[0] for line in batch.causes()] == [
        "ValueError: unreadable",
        "OSError: disk full",
        "ValueError: unreadable",
        "OSError: disk gone",
    ]


# --- reasons ---------------------------------------------------------------------------------------------------------


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Every error that the sources make, and its place."""
    for path in sorted(PLUGINS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("PlatformError", "Refusal"):
                yield f"{path.relative_to(PLUGINS)}:{node.lineno}", node


def words(value: ast.expr) -> list[str]:
    """The texts that an expression can give: a constant, or one of the two of ``A if B else C``."""
    if isinstance(value, ast.IfExp):
        return [*words(value.body), *words(value.orelse)]
    return [value.value] if isinstance(value, ast.Constant) else []


def test_every_error_has_a_reason_and_reasons_are_one_word_of_the_table():
    used = set()
    for place, call in calls():
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        assert {"reason", None} & given.keys(), f"{place}: an error without a reason"
        for word in words(given["reason"]) if "reason" in given else []:
            assert word in REASONS, f"{place}: {word!r} is not in REASONS (errors.py)"
            used.add(word)
    assert used == REASONS.keys()
    assert all(re.fullmatch("[a-z]+", word) for word in REASONS)


def test_only_reasons_of_the_table_are_asked_for():
    asked = []
    for path in sorted(PLUGINS.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        asked += re.findall(r"(?:error|failure|refusal|answer)\.reason [!=]= \"([^\"]*)\"", text)
        for several in re.findall(r"(?:error|failure|refusal|answer)\.reason (?:not )?in \(([^)]*)\)", text):
            asked += re.findall(r"\"([^\"]*)\"", several)
    assert len(asked) > 10
    assert set(asked) <= REASONS.keys()


def test_a_causes_chain_is_kept():
    """``from None`` would take from -vvv what a program or library said. Where that may hold a secret, a comment says
    so.
    """
    sources = {path.name: path.read_text(encoding="utf-8") for path in sorted(PLUGINS.rglob("*.py"))}
    assert [name for name, text in sources.items() if re.search(r" from None *$", text, re.MULTILINE)] == []

"""Checks made side by side, and the report."""

from __future__ import annotations

import threading

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.checks import (
    DOUBTFUL,
    FAILED,
    PASSED,
    SKIPPED,
    Check,
    Doubtful,
    Outcome,
    Passed,
    make_all,
    table,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.verify import report
from hypothesis import given
from hypothesis import strategies as st


def passes(detail="fine"):
    return lambda: Passed(detail)


def fails(**parts):
    def look():
        raise PlatformError("it is broken", **parts)

    return look


def test_outcomes_have_the_order_of_the_checks():
    first_may_end = threading.Event()

    def slow():
        assert first_may_end.wait(5), "the checks were not made side by side"
        return Passed("slow")

    def quick():
        first_may_end.set()
        return Passed("quick")

    assert [outcome.detail for outcome in make_all([Check("a", slow), Check("b", quick)])] == ["slow", "quick"]


def test_a_check_without_ground_is_not_made_and_neither_is_what_needs_it():
    made = []
    checks = [
        Check("third", lambda: made.append(3), needs="second"),
        Check("second", lambda: made.append(2), needs="first"),
        Check("first", fails()),
        Check("other", passes()),
    ]
    assert [outcome.result for outcome in make_all(checks)] == [SKIPPED, SKIPPED, FAILED, PASSED]
    assert made == []


def test_a_doubt_is_ground_enough():
    checks = [Check("first", lambda: Doubtful("short", "A sentence.")), Check("second", passes(), needs="first")]
    first, second = make_all(checks)
    assert (first.result, first.warning, second.result) == (DOUBTFUL, "A sentence.", PASSED)


def test_a_bug_in_a_check_is_no_failed_check():
    def bug():
        raise KeyError("x")

    with pytest.raises(KeyError):
        make_all([Check("a", bug), Check("b", passes())])


@pytest.mark.parametrize(
    "checks",
    [[Check("a", passes()), Check("a", passes())], [Check("a", passes(), needs="nowhere")]],
    ids=["twice the same name", "needs what is not there"],
)
def test_a_wrong_list_is_an_error_and_no_endless_wait(checks):
    with pytest.raises(ValueError, match="a"):
        make_all(checks)


def test_a_long_wait_says_what_for():
    said = []
    heard = threading.Event()

    def hear(line):
        said.append(line)
        heard.set()

    make_all(
        [Check("slow one", lambda: Passed("") if heard.wait(5) else None), Check("quick one", passes())],
        progress=hear,
        report_seconds=0.05,
    )
    assert said[0] == "verify: 1 of 2 checks made, waiting for slow one"


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=1, max_size=30),
            st.sampled_from([PASSED, FAILED]),
            st.text(max_size=300),
        ),
        max_size=8,
    )
)
def test_the_table_is_aligned_and_fits(rows):
    lines = table([Outcome("x" + name, result, " ".join(detail.split())) for name, result, detail in rows])
    assert len(lines) == len(rows) + 2
    assert all(len(line) <= 160 for line in lines)
    column = lines[0].index("result")
    assert all(line[column - 2 : column] == "  " for line in lines)


def test_all_passed():
    shown = []
    result = report([Outcome("a", PASSED, "fine"), Outcome("b", DOUBTFUL, "hm", warning="Look at b.")], shown.append)
    assert "failed" not in result
    assert result["msg"] == "1 of 2 checks passed, 1 with a warning"
    assert result["warnings"] == ["Look at b."]
    assert shown == result["table"]
    assert result["changed"] is False


def test_a_failure_says_what_where_found_expected_and_what_to_do():
    error = PlatformError("no redirect", where="http://x", found="200", expected="301", fix="check Envoy")
    shown = []
    result = report([Outcome("edge: redirect", FAILED, "200", error=error), Outcome("b", PASSED, "")], shown.append)
    assert result["failed"] is True
    assert result["failed_checks"] == ["edge: redirect"]
    assert result["msg"] == (
        "1 of 2 checks failed:\n- edge: redirect: no redirect\n    where: http://x\n    found: 200\n"
        "    expected: 301\n    to do: check Envoy\n"
    )
    assert any("FAILED" in line for line in shown)
    # Ansible would print it a second time, with its lines broken.
    assert "table" not in result

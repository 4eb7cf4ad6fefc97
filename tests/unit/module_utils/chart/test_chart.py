"""What is refused or ordered before anything happens."""

from __future__ import annotations

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.chart import chart
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from hypothesis import given
from hypothesis import strategies as st


def _specs(*entries: tuple[str, list[str]]) -> list[dict]:
    return [{"name": name, "namespace": "n", "after": after} for name, after in entries]


def test_releases_wait_only_for_what_they_name() -> None:
    assert chart._waves(_specs(("a", ["b"]), ("b", []), ("c", []))) == [[1, 2], [0]]


@pytest.mark.parametrize(
    ("specs", "named"),
    [
        (_specs(("a", ["b"]), ("b", ["a"])), "wait for each other"),
        (_specs(("a", ["x"])), "x"),
        (_specs(("a", []), ("a", [])), "n/a"),
    ],
)
def test_an_inconsistent_list_is_refused(specs: list[dict], named: str) -> None:
    with pytest.raises(PlatformError, match=named):
        chart._waves(specs)


def check(values: dict) -> None:
    chart._check_values([{"name": "a", "namespace": "n", "values": values}])


@given(st.integers(), st.sampled_from([1, -1]))
def test_an_integer_that_helm_would_change_is_refused_and_no_other(number: int, sign: int) -> None:
    check({"a": [{"b": max(-(2**53), min(2**53, number))}], "c": True, "d": str(2**60)})
    with pytest.raises(PlatformError, match=r"n/a: values\.a\[0\]\.b") as caught:
        check({"a": [{"b": sign * (2**53 + 1 + abs(number))}]})
    assert caught.value.reason == "values" and "quote it" in caught.value.fix


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_what_json_does_not_hold_is_refused(number: float) -> None:
    with pytest.raises(PlatformError, match="no finite number"):
        check({"a": number})


def test_passwords_in_addresses_are_secrets() -> None:
    releases = [{"repository": "https://u:p%40ss@h/x", "chart": "w"}, {"chart": "oci://u:other@h/x"}, {"chart": "/a"}]
    assert {"p%40ss", "p@ss", "other"} <= set(chart.secrets_of({"releases": releases}))

"""Objects are compared by meaning."""

from __future__ import annotations

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm import compare
from hypothesis import given
from hypothesis import strategies as st

SCALARS = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=12)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=20,
)
OBJECTS = st.dictionaries(st.text(min_size=1, max_size=6), VALUES, max_size=5)


@given(OBJECTS)
def test_an_object_never_drifts_from_itself(obj: dict) -> None:
    assert compare.missing_from(obj, obj) == []


@given(OBJECTS, st.dictionaries(st.text(min_size=7, max_size=9), VALUES, max_size=3))
def test_what_the_cluster_adds_is_no_drift(obj: dict, added: dict) -> None:
    assert compare.missing_from(obj, {**added, **obj}) == []


@given(st.dictionaries(st.sampled_from("abc"), st.text(min_size=1, max_size=5), min_size=1))
def test_a_field_that_was_removed_or_changed_is_named(obj: dict) -> None:
    for name in obj:
        assert compare.missing_from(obj, {k: v for k, v in obj.items() if k != name}) == [(name,)]
        assert compare.missing_from(obj, {**obj, name: obj[name] + "x"}) == [(name,)]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("1000m", "1", True),
        ("1024Mi", "1Gi", True),
        ("1", 1, True),
        ("1500m", "1.5", True),
        ("1G", "1Gi", False),
        ("1", "2", False),
    ],
)
def test_quantities_are_numbers(one: object, other: object, same: bool) -> None:
    expected, live = {"requests": {"cpu": one}}, {"requests": {"cpu": other}}
    assert (compare.missing_from(expected, live) == []) is same


def test_texts_that_look_like_quantities_are_texts() -> None:
    assert compare.missing_from({"data": {"value": "1000m"}}, {"data": {"value": "1"}}) == [("data", "value")]


def test_true_is_not_one() -> None:
    assert compare.missing_from({"a": True}, {"a": 1}) == [("a",)]
    assert compare.changed_paths({"a": True}, {"a": 1}) == ["a"]
    assert compare.changed_paths({"a": 1.0}, {"a": 1}) == []


def test_an_injected_container_is_no_drift_and_a_removed_one_is() -> None:
    ours = {"containers": [{"name": "a", "image": "x"}]}
    assert compare.missing_from(ours, {"containers": [{"name": "sidecar"}, {"name": "a", "image": "x"}]}) == []
    assert compare.missing_from(ours, {"containers": [{"name": "sidecar"}]}) == [("containers", "a")]


def test_empty_values_may_be_left_out_by_the_cluster() -> None:
    assert compare.missing_from({"a": "", "b": [], "c": {"d": None}, "e": False, "f": 0}, {}) == []


def test_ignored_fields_are_dropped_for_comparison_and_kept_live_when_applied() -> None:
    rule = compare.Ignored("W", "/webhooks/*/failurePolicy", "istio*")
    obj = {"kind": "W", "metadata": {"name": "istiod"}, "webhooks": [{"name": "a", "failurePolicy": "Ignore"}]}
    live = {"webhooks": [{"name": "b", "failurePolicy": "x"}, {"name": "a", "failurePolicy": "Fail"}]}
    assert rule.drop_from(obj)["webhooks"] == [{"name": "a"}]
    assert rule.keep_live(obj, live)["webhooks"] == [{"name": "a", "failurePolicy": "Fail"}]
    assert obj["webhooks"][0]["failurePolicy"] == "Ignore"
    other = {**obj, "metadata": {"name": "other"}}
    assert rule.drop_from(other) is other

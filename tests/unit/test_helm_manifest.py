"""Manifests are read as Go reads them, compared by meaning, and shown without secrets."""

from __future__ import annotations

import base64
import json

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils import helm_manifest as manifest
from hypothesis import given
from hypothesis import strategies as st

SCALARS = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=12)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=20,
)
OBJECTS = st.dictionaries(st.text(min_size=1, max_size=6), VALUES, max_size=5)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 12:30:45", {"a": "12:30:45"}),
        ("a: 2024-01-01", {"a": "2024-01-01"}),
        ("a: yes", {"a": True}),
        ("n: 3", {"false": 3}),
        ("a: 1e3", {"a": 1000.0}),
        ("a: 0644", {"a": 420}),
        ("a: 1.2.3", {"a": "1.2.3"}),
        ("80: b", {"80": "b"}),
    ],
)
def test_yaml_means_what_it_means_to_helm(text: str, value: object) -> None:
    assert manifest.from_yaml(text) == value


def test_documents_split_at_separators_only_and_keep_their_source() -> None:
    text = (
        "---\n# Source: w/templates/a.yaml\nkind: A\n"
        "---\n# Source: w/crds/c.yaml\nkind: C\ndata: |\n  ---\n  x\n---\n# only a comment\n"
    )
    found = manifest.documents(text)
    assert [d.source for d in found] == ["w/templates/a.yaml", "w/crds/c.yaml", ""]
    assert [d.is_crd_file for d in found] == [False, True, False]
    assert found[1].objects == [{"kind": "C", "data": "---\nx\n"}]
    assert found[2].objects == []


def test_a_template_below_a_folder_named_crds_is_no_crd_file() -> None:
    assert not manifest.documents("# Source: w/templates/crds/c.yaml\nkind: C")[0].is_crd_file


@given(OBJECTS)
def test_an_object_never_drifts_from_itself(obj: dict) -> None:
    assert manifest.missing_from(obj, obj) == []


@given(OBJECTS, st.dictionaries(st.text(min_size=7, max_size=9), VALUES, max_size=3))
def test_what_the_cluster_adds_is_no_drift(obj: dict, added: dict) -> None:
    assert manifest.missing_from(obj, {**added, **obj}) == []


@given(st.dictionaries(st.sampled_from("abc"), st.text(min_size=1, max_size=5), min_size=1))
def test_a_field_that_was_removed_or_changed_is_named(obj: dict) -> None:
    for name in obj:
        assert manifest.missing_from(obj, {k: v for k, v in obj.items() if k != name}) == [(name,)]
        assert manifest.missing_from(obj, {**obj, name: obj[name] + "x"}) == [(name,)]


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
    assert (manifest.missing_from(expected, live) == []) is same


def test_texts_that_look_like_quantities_are_texts() -> None:
    assert manifest.missing_from({"data": {"value": "1000m"}}, {"data": {"value": "1"}}) == [("data", "value")]


def test_true_is_not_one() -> None:
    assert manifest.missing_from({"a": True}, {"a": 1}) == [("a",)]
    assert manifest.changed_paths({"a": True}, {"a": 1}) == ["a"]
    assert manifest.changed_paths({"a": 1.0}, {"a": 1}) == []


def test_an_injected_container_is_no_drift_and_a_removed_one_is() -> None:
    ours = {"containers": [{"name": "a", "image": "x"}]}
    assert manifest.missing_from(ours, {"containers": [{"name": "sidecar"}, {"name": "a", "image": "x"}]}) == []
    assert manifest.missing_from(ours, {"containers": [{"name": "sidecar"}]}) == [("containers", "a")]


def test_empty_values_may_be_left_out_by_the_cluster() -> None:
    assert manifest.missing_from({"a": "", "b": [], "c": {"d": None}, "e": False, "f": 0}, {}) == []


def test_stringdata_is_what_it_is_stored_as() -> None:
    stored = manifest.as_stored(
        {"kind": "Secret", "stringData": {"k": "v"}, "data": {"k": "eA==", "l": "eQ=="}, "status": {}}
    )
    assert stored == {"kind": "Secret", "data": {"k": "dg==", "l": "eQ=="}}


@given(
    st.dictionaries(st.sampled_from(["k", "l"]), st.text("abcdefghijkl0123456789", min_size=9, max_size=30), min_size=1)
)
def test_no_value_of_a_secret_is_shown(values: dict) -> None:
    obj = {"kind": "Secret", "metadata": {"name": "s"}, "stringData": values}
    shown = manifest.to_yaml(manifest.Redaction()(obj))
    for value in values.values():
        assert value not in shown
        assert base64.b64encode(value.encode()).decode() not in shown


@given(st.text(max_size=20), st.text(max_size=20))
def test_marks_are_equal_exactly_when_values_are(one: str, other: str) -> None:
    redact = manifest.Redaction()
    assert (redact.mark(one) == redact.mark(other)) == (one == other)
    assert manifest.Redaction().mark(one) != redact.mark(one)  # salted anew for each call


def test_other_kinds_are_shown_as_they_are() -> None:
    obj = {"kind": "ConfigMap", "data": {"password": "shown"}}
    assert manifest.Redaction()(obj) is obj


@given(OBJECTS)
def test_yaml_round_trip(obj: dict) -> None:
    text = json.loads(json.dumps(obj))
    printable = all(c.isprintable() or c == "\n" for c in json.dumps(text, ensure_ascii=False))
    if printable:
        assert manifest.plain(manifest.from_yaml(manifest.to_yaml(text)) or {}) == manifest.plain(text)


def test_ignored_fields_are_dropped_for_comparison_and_kept_live_when_applied() -> None:
    rule = manifest.Ignored("W", "/webhooks/*/failurePolicy", "istio*")
    obj = {"kind": "W", "metadata": {"name": "istiod"}, "webhooks": [{"name": "a", "failurePolicy": "Ignore"}]}
    live = {"webhooks": [{"name": "b", "failurePolicy": "x"}, {"name": "a", "failurePolicy": "Fail"}]}
    assert rule.drop_from(obj)["webhooks"] == [{"name": "a"}]
    assert rule.keep_live(obj, live)["webhooks"] == [{"name": "a", "failurePolicy": "Fail"}]
    assert obj["webhooks"][0]["failurePolicy"] == "Ignore"
    other = {**obj, "metadata": {"name": "other"}}
    assert rule.drop_from(other) is other


def test_autoscaled_workloads_are_found() -> None:
    hpa = {
        "kind": "HorizontalPodAutoscaler",
        "metadata": {},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"}},
    }
    assert manifest.autoscaled([hpa, {"kind": "Service"}], "ns") == {("Deployment", "ns", "d")}


@pytest.mark.parametrize("text", ["Y", "n", "1e3", "0o17", "1_000", "017", "yes", "null", "1.5", ".5", "0x1F"])
def test_a_text_that_go_would_read_as_something_else_is_quoted(text: str) -> None:
    obj = {text: {"value": text}}
    assert manifest.from_yaml(manifest.to_yaml(obj)) == obj

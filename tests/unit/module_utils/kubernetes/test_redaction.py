"""A Secret is shown without its values, and still so that a difference is seen."""

from __future__ import annotations

import base64
import json

from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.redaction import (
    LAST_APPLIED,
    Redaction,
)
from hypothesis import given
from hypothesis import strategies as st


@given(
    st.dictionaries(st.sampled_from(["k", "l"]), st.text("abcdefghijkl0123456789", min_size=9, max_size=30), min_size=1)
)
def test_no_value_of_a_secret_is_shown(values: dict) -> None:
    obj = {"kind": "Secret", "metadata": {"name": "s"}, "stringData": values}
    shown = json.dumps(Redaction()(obj))
    for value in values.values():
        assert value not in shown
        assert base64.b64encode(value.encode()).decode() not in shown


@given(st.text(max_size=20), st.text(max_size=20))
def test_marks_are_equal_exactly_when_values_are(one: str, other: str) -> None:
    redact = Redaction()
    assert (redact.mark(one) == redact.mark(other)) == (one == other)
    assert Redaction().mark(one) != redact.mark(one)  # salted anew for each call


def test_other_kinds_are_shown_as_they_are() -> None:
    obj = {"kind": "ConfigMap", "data": {"password": "shown"}}
    assert Redaction()(obj) is obj


@given(st.text(max_size=20))
def test_a_value_looks_the_same_in_both_spellings(text: str) -> None:
    redact = Redaction()
    plain = {"kind": "Secret", "metadata": {}, "stringData": {"k": text}}
    stored = {"kind": "Secret", "metadata": {}, "data": {"k": base64.b64encode(text.encode()).decode()}}
    assert redact(plain) == redact(stored)


def test_what_is_no_map_is_hidden_too_and_so_is_the_copy_that_kubectl_keeps() -> None:
    obj = {"kind": "Secret", "metadata": {"annotations": {LAST_APPLIED: "shown", "a": "b"}}, "data": "shown"}
    assert "shown" not in json.dumps(Redaction()(obj))
    assert Redaction()(obj)["metadata"]["annotations"] == {"a": "b"}

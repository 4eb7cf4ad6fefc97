"""YAML is read as Go reads it, and written so that Go reads the same."""

from __future__ import annotations

import json

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.compare import plain
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.yaml import (
    YAMLError,
    from_yaml,
    to_yaml,
    yaml_error,
)
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
    assert from_yaml(text) == value


@given(OBJECTS)
def test_yaml_round_trip(obj: dict) -> None:
    text = json.loads(json.dumps(obj))
    printable = all(c.isprintable() or c == "\n" for c in json.dumps(text, ensure_ascii=False))
    if printable:
        assert plain(from_yaml(to_yaml(text)) or {}) == plain(text)


@pytest.mark.parametrize("text", ["Y", "n", "1e3", "0o17", "1_000", "017", "yes", "null", "1.5", ".5", "0x1F"])
def test_a_text_that_go_would_read_as_something_else_is_quoted(text: str) -> None:
    obj = {text: {"value": text}}
    assert from_yaml(to_yaml(obj)) == obj


@pytest.mark.parametrize("text", ["0b_", "0x_", "-0b_"])
def test_a_prefix_without_digits_is_a_text(text: str) -> None:
    assert from_yaml("a: " + text) == {"a": text}


@given(st.from_regex(r"[-+0-9a-fxo._eEyYnN]{1,12}", fullmatch=True))
def test_every_plain_scalar_is_read_and_a_text_stays_one(text: str) -> None:
    if text.strip("-"):  # dashes alone begin a list
        from_yaml("a: " + text)
    assert from_yaml(to_yaml({"a": text})) == {"a": text}


def test_an_error_shows_no_line() -> None:
    with pytest.raises(YAMLError) as caught:
        from_yaml("password: 'hunter2\nb: [")
    assert "hunter2" not in yaml_error(caught.value) and "line" in yaml_error(caught.value)

"""Quantities are read as the API server reads them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.quantities import quantity
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("100m", "0.1"),
        ("1.5Gi", str(3 * 2**29)),
        ("1E", "1e18"),
        ("1E3", "1000"),
        ("1e-3", "0.001"),
        ("2Ei", str(2**61)),
        ("5.", "5"),
        (".5", "0.5"),
        ("-1k", "-1000"),
        ("7n", "0.000000007"),
        (3, "3"),
        (0.5, "0.5"),
    ],
)
def test_a_quantity_is_a_number(text: object, number: str) -> None:
    assert quantity(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "Gi", "1 Gi", "1GB", "1K", "1ki", "1Gi\n", "0x10", "1e", "1_000", None, True, {}])
def test_anything_else_is_none(text: object) -> None:
    assert quantity(text) is None


@given(st.sampled_from("KMGTPE"), st.data())
def test_no_digit_is_lost(prefix: str, data: st.DataObject) -> None:
    factor = 1024 ** ("KMGTPE".index(prefix) + 1)
    # The API server's numbers end at 2^63.
    number = data.draw(st.integers(-(2**63) // factor, 2**63 // factor))
    assert quantity("%d%si" % (number, prefix)) == number * factor
    assert quantity(number) == number


@given(st.text(max_size=12) | st.floats())
def test_any_text_is_a_number_or_none(text: object) -> None:
    found = quantity(text)
    assert found is None or found.is_finite()

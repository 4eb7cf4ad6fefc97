"""What the checks of values say."""

from __future__ import annotations

import pytest
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.checks import quantity_bytes


@pytest.mark.parametrize(
    "quantity, number", [("4Gi", 4 * 2**30), ("1.5G", 1_500_000_000), ("512Mi", 2**29), (1024, 1024)]
)
def test_quantities_of_memory(quantity, number):
    assert quantity_bytes(quantity, "x") == number

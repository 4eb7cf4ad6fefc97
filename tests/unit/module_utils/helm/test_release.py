"""Helm's record is read and written."""

from __future__ import annotations

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm import release as helm_release
from hypothesis import given
from hypothesis import strategies as st


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=40), max_size=5))
def test_a_record_survives_being_written(record: dict) -> None:
    revision = helm_release.Revision("w", "n", 1, "deployed")
    assert helm_release.decode(helm_release.encode(record), revision) == record


@pytest.mark.parametrize(
    "data", ["", "!!", "bm90aGluZw==", helm_release.encode([1])], ids=["empty", "no base64", "no gzip", "no record"]
)
def test_a_broken_record_names_its_secret(data: str) -> None:
    with pytest.raises(PlatformError, match=r"Secret n/sh\.helm\.release\.v1\.w\.v3"):
        helm_release.decode(data, helm_release.Revision("w", "n", 3, "deployed"))

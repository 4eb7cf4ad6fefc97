"""A runtime's memory: whatever executions, compilers and files may take together, the container has it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.lambda_microservice.platform.plugins.filter.runtime_memory import runtime_memory
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils import runtime_memory as sums
from hypothesis import given
from hypothesis import strategies as st

IMAGES = Path(__file__).resolve().parents[3] / "images"
MIB = 1 << 20
LANGUAGES = ("nodejs", "python", "rust", "go")


def divided(language: str, limit: str = "2Gi", cpu: str = "1", **environment: Any) -> dict[str, Any]:
    return runtime_memory(environment, language=language, memory_limit=limit, cpu_limit=cpu)


@pytest.mark.parametrize(
    ("language", "limit", "places", "scratch"),
    [
        # 64 + 4 x 48 + 5 x 256 + 8 + 5 x 64 = 1864; a sixth would take 2184.
        ("nodejs", "2Gi", 5, "328Mi"),
        # 64 + 4 x 16 + 6 x 256 + 6 x 64 = 2048
        ("python", "2Gi", 6, "384Mi"),
        # 64 + 640 + 3 x 256 + 4 x 16 + 128 + 3 x 64 = 1856; a fourth would take 2176.
        ("rust", "2Gi", 3, "384Mi"),
        # The local inventory's.
        ("nodejs", "1600Mi", 4, "264Mi"),
        ("python", "1600Mi", 4, "256Mi"),
        ("rust", "1600Mi", 2, "320Mi"),
        # A language of the user's own has no interpreter that waits, as far as is known here.
        ("go", "2Gi", 6, "384Mi"),
    ],
)
def test_the_defaults(language: str, limit: str, places: int, scratch: str):
    assert divided(language, limit) == {"places": places, "scratch": scratch}


@given(
    language=st.sampled_from(LANGUAGES),
    limit=st.integers(256, 65536),
    each=st.integers(64, 1024),
    files=st.integers(1, 1024),
    cpus=st.integers(1, 64),
)
def test_all_that_is_allowed_fits_and_one_more_would_not(language: str, limit: int, each: int, files: int, cpus: int):
    environment = {"MEMORY_LIMIT_BYTES": each * MIB, "SCRATCH_LIMIT_BYTES": f"{files}Mi"}
    found = sums.memory(language, f"{limit}Mi", str(cpus), environment)
    assert found.places == 1 or found.sum <= limit * MIB
    assert found.scratch >= found.places * files * MIB
    more = sums.memory(language, f"{limit}Mi", str(cpus), {**environment, "MAX_CONCURRENCY": found.places + 1})
    assert found.places == 8 * cpus or more.sum > limit * MIB


def test_a_number_of_places_is_taken_as_it_is():
    assert divided("python", MAX_CONCURRENCY=2) == {"places": 2, "scratch": "128Mi"}
    # 8 for each processor, of which a part is none.
    assert divided("python", "64Gi", "1500m")["places"] == 8
    assert divided("python", "64Gi", "2")["places"] == 16


def test_no_quantity_is_said_by_name():
    with pytest.raises(AnsibleFilterError, match="SCRATCH_LIMIT_BYTES of a runtime is no quantity. Found: 'much'"):
        divided("python", SCRATCH_LIMIT_BYTES="much")


def test_the_numbers_are_the_supervisor_s():
    """Which counts by itself where nobody says how many executions there are."""
    source = (IMAGES / "runtime/src/config.rs").read_text(encoding="utf-8")
    for language, waiting in sums.WAITING.items():
        found = re.search(rf"Self::{language.title()} => (\d+) \* MIB", source)
        assert found and int(found[1]) * MIB == waiting, language
    assert re.search(rf"supervisor = {sums.SUPERVISOR // MIB} \* MIB", source)
    readme = (IMAGES / "runtime/README.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in readme.splitlines() if line.startswith("| ")]
    for name, default in sums.DEFAULTS.items():
        (cells,) = [cells for cells in rows if name in cells[0].strip("| ").split(", ")]
        told = dict(zip(cells[0].strip("| ").split(", "), cells[1].split(", "), strict=True))[name]
        size = int(told.removesuffix(" MiB")) * (MIB if told.endswith("MiB") else 1)
        assert size == default, name

"""What the README shows is what is tested and printed elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("language", ["nodejs", "python", "rust"])
def test_readme_shows_the_example_that_verify_prints(language: str) -> None:
    example = (ROOT / "docs" / "examples" / f"{language}.sh").read_text(encoding="utf-8")
    assert example in (ROOT / "README.md").read_text(encoding="utf-8")

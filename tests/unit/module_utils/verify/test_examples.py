"""The examples of docs/examples are what the README shows."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]


@pytest.mark.parametrize("language", ["nodejs", "python", "rust"])
def test_the_readme_shows_the_example_as_it_is_tested(language):
    example = (ROOT / "docs" / "examples" / f"{language}.sh").read_text()
    commands = [line for line in example.splitlines() if not line.startswith("#")]
    assert commands
    assert "\n".join(commands) in (ROOT / "README.md").read_text()

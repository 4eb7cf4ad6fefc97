"""The examples of docs/examples are what the README shows."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]


@pytest.mark.parametrize("name", ["nodejs", "python", "rust", "functions"])
def test_the_readme_shows_the_example_as_it_is_tested(name):
    example = (ROOT / "docs" / "examples" / f"{name}.sh").read_text()
    commands = [line for line in example.splitlines() if not line.startswith("#")]
    assert commands
    assert "\n".join(commands) in (ROOT / "README.md").read_text()

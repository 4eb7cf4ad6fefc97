"""What the README shows is what is tested and printed elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("language", ["nodejs", "python", "rust"])
def test_readme_shows_the_example_that_verify_prints(language: str) -> None:
    example = (ROOT / "docs" / "examples" / f"{language}.sh").read_text(encoding="utf-8")
    assert example in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_versions_are_those_of_the_one_table() -> None:
    rows = yaml.safe_load((ROOT / "roles/platform/vars/main.yml").read_text(encoding="utf-8"))["__platform_versions"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = dict(re.findall(r"^\| Kubernetes: (.+?) \| (.+?) \|", readme, re.MULTILINE))
    assert shown == {
        row["name"]: f"{row['floor']} to {row['ceiling']}" if "ceiling" in row else f"{row['floor']} and later"
        for row in rows
    }


def test_ansible_is_what_the_collection_requires() -> None:
    requires = yaml.safe_load((ROOT / "meta/runtime.yml").read_text(encoding="utf-8"))["requires_ansible"]
    low, above = re.fullmatch(r">=(2\.\d+)\.0,<(2\.\d+)\.0", requires).groups()
    high = f"2.{int(above.split('.')[1]) - 1}"
    assert f"| ansible-core | {low} to {high} |" in (ROOT / "README.md").read_text(encoding="utf-8")

"""The page that says what of the design is built names what there is: paths, drills and the roles' defaults."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/design-coverage.md").read_text(encoding="utf-8")
DEFAULTS = {
    name: value
    for file in ROOT.glob("roles/*/defaults/main.yml")
    for name, value in yaml.safe_load(file.read_text(encoding="utf-8")).items()
}
CODE = re.findall(r"`([^`\n]+)`(?:: ([A-Za-z0-9]+))?", PAGE)


@pytest.mark.parametrize("path", sorted({word for word, _value in CODE if "/" in word and " " not in word}))
def test_a_path_is_there(path: str) -> None:
    assert "://" in path or path == "kubernetes.io/metadata.name" or (ROOT / path).exists()


@pytest.mark.parametrize(("name", "value"), sorted({(word, value) for word, value in CODE if value}))
def test_a_value_is_the_default(name: str, value: str) -> None:
    assert str(DEFAULTS[name]) == value


def test_variables_are_known() -> None:
    prefixes = (
        "ingress_",
        "controller_",
        "runtimes_",
        "data_services_",
        "monitoring_",
        "logging_",
        "platform_",
        "foundation_",
        "vpa_",
        "mesh_",
    )
    named = {word for word, _value in CODE if word.startswith(prefixes)}
    assert named <= DEFAULTS.keys()
    assert len({name for name, value in CODE if value}) > 25


def test_drills_are_in_the_table() -> None:
    drills = (ROOT / "playbooks/vars/drills.yml").read_text(encoding="utf-8")
    named = set(re.findall(r"(?<!\*)\*([^*|]+)\*(?!\*)", PAGE)) - {"Proven by"}
    assert len(named) >= 4
    for name in named:
        assert f"name: {name}\n" in drills, name


def test_each_row_says_by_what_it_is_proven() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    assert len(rows) > 40
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert len(cells) == 4, row
        assert cells[0] and cells[1] and cells[3], row

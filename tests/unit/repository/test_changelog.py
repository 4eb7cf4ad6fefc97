"""What antsibull-changelog refuses at a release, found where it is written."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
CONFIG = yaml.safe_load((ROOT / "changelogs/config.yaml").read_text(encoding="utf-8"))
FRAGMENTS = sorted((ROOT / "changelogs/fragments").glob("*.yml"))


@pytest.mark.parametrize("fragment", FRAGMENTS, ids=[path.stem for path in FRAGMENTS])
def test_a_fragment_has_known_sections_of_texts(fragment: Path) -> None:
    sections = {name for name, _title in CONFIG["sections"]} | {"trivial"}
    for section, entries in yaml.safe_load(fragment.read_text(encoding="utf-8")).items():
        if section == CONFIG["prelude_section_name"]:
            assert isinstance(entries, str)
            continue
        assert section in sections
        # A colon in a text that is not quoted makes a dictionary of it.
        assert all(isinstance(entry, str) for entry in entries), section


def test_one_fragment_alone_introduces_a_release() -> None:
    assert sum(CONFIG["prelude_section_name"] in yaml.safe_load(path.read_text()) for path in FRAGMENTS) <= 1


def test_the_configuration_names_the_file_of_releases() -> None:
    assert CONFIG["changes_format"] == "combined"
    assert (ROOT / "changelogs" / CONFIG["changes_file"]).is_file()

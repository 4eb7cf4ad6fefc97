"""What the documentation names is there: files and modules. Commands: test_commands.py."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
PAGES = [name for name in TRACKED if name.endswith(".md") and (ROOT / name).is_file()]
TOPS = {name.split("/")[0] for name in TRACKED if "/" in name}
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")


def named_paths(page: str, text: str) -> set[Path]:
    """Relative links, and words in backquotes that begin with a folder of the repository. NAME is anybody's."""
    found = set()
    for target in LINK.findall(text):
        if "://" not in target and not target.startswith("#"):
            found.add((ROOT / page).parent / target.split("#")[0])
    for code in CODE.findall(text):
        for word in code.split():
            if "/" in word and word.split("/")[0] in TOPS and not re.search(r"[A-Z]{3}|[*<{$:…]|\.\.\.", word):
                # Or below the page's folder, or in each role.
                places = [ROOT / word, (ROOT / page).parent / word, *ROOT.glob(f"roles/*/{word}")]
                found.add(next((place for place in places if place.exists()), ROOT / word))
    return found


@pytest.mark.parametrize("page", PAGES)
def test_the_paths_that_a_page_names_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    missing = [str(path) for path in named_paths(page, text) if not path.exists()]
    assert not missing


def test_a_path_that_is_missing_would_be_found() -> None:
    text = "`plugins/nothing.py` and [a page](nowhere.md), `plugins/modules/NAME.py`, `docs/drills.md`"
    missing = {path.name for path in named_paths("docs/x.md", text) if not path.exists()}
    assert missing == {"nothing.py", "nowhere.md"}


def test_every_module_has_its_chapter() -> None:
    modules = {path.stem for path in (ROOT / "plugins" / "modules").glob("*.py") if path.stem != "__init__"}
    text = (ROOT / "docs" / "modules.md").read_text(encoding="utf-8")
    assert modules <= set(re.findall(r"^## (\w+)$", text, re.M))
    assert modules >= set(re.findall(r"lambda_microservice\.platform\.(\w+):", text)) - {"k8s"}

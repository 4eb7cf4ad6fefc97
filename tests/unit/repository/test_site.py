"""The documents as a site: every name is found, nothing is loaded from elsewhere, and a phone shows it too."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.module_utils.dashboards.browser import Browser, chromium
from tests.unit.module_utils.dashboards.conftest import library as library

from . import pictures

ROOT = Path(__file__).resolve().parents[3]
SIZES = {"phone": (390, 844), "screen": (1360, 900)}
# Code and a table, a picture, the longest reference, Japanese.
SEEN = ("index.html", "docs/concepts.html", "reference/variables/data_services.html", "docs/ja/start.html")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built once, whichever worker asks first."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / "site"
    with (shared / "site.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            command = [sys.executable, ROOT / "tools/docs/build", folder]
            built = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
            assert built.returncode == 0, built.stdout + built.stderr
    return folder


@pytest.fixture(scope="module")
def index(site: Path) -> list[dict[str, Any]]:
    """What the search knows: a section each, with title, text and place."""
    text = (site / "search/search_index.js").read_text(encoding="utf-8")
    return json.loads(text[text.index("{") : text.rindex("}") + 1])["docs"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium")) as running:
        yield running


def variables() -> set[str]:
    found: set[str] = set()
    for file in [*ROOT.glob("roles/*/meta/argument_specs.yml"), ROOT / "playbooks/meta/argument_specs.yml"]:
        for part in yaml.safe_load(file.read_text(encoding="utf-8"))["argument_specs"].values():
            found |= part["options"].keys()
    return found


def alerts() -> set[str]:
    files = (ROOT / "roles/monitoring/files/rules").glob("*.yaml")
    return {name for file in files for name in re.findall(r"alert: (\w+)", file.read_text(encoding="utf-8"))}


def plugins(kind: str) -> set[str]:
    files = [*(ROOT / "plugins" / kind).glob("*.py"), *(ROOT / "plugins" / kind).glob("*.yml")]
    return {file.stem for file in files if file.stem != "__init__"}


NAMES = {
    "reference/variables/": variables(),
    "reference/playbooks.html": {f"playbooks/{file.name}" for file in ROOT.glob("playbooks/*.yml")},
    "reference/alerts.html": alerts(),
    "reference/modules.html": plugins("modules"),
    "reference/filters.html": plugins("filter"),
}


@pytest.mark.parametrize("place", NAMES)
def test_the_search_leads_to_each_by_its_name(site: Path, index: list[dict[str, Any]], place: str) -> None:
    sections = [entry for entry in index if entry["location"].startswith(place) and "#" in entry["location"]]
    entries = {entry["title"]: entry for entry in sections}
    assert len(NAMES[place]) > 15
    assert NAMES[place] - entries.keys() == set()
    for name in NAMES[place]:
        page, anchor = entries[name]["location"].split("#")
        assert f'id="{anchor}"' in (site / page).read_text(encoding="utf-8"), name
        # A heading with nothing below it says nothing.
        assert len(entries[name]["text"]) > 20, name


def test_the_search_in_the_browser(browser: Browser, site: Path) -> None:
    """From a file, as whoever opens the page has it."""
    browser.open(site / "docs/start.html", *SIZES["screen"], "light")
    browser.value("document.querySelector('[data-md-toggle=search]').click()")
    for typed, place in {
        "ingress_replicas": "reference/variables/ingress.html#ingress_replicas",
        "redis memory": "reference/variables/data_services.html#data_services_redis_memory",
        "playbooks/restore.yml": "reference/playbooks.html#playbooks-restore-yml",
        "BackupOld": "reference/alerts.html#BackupOld",
        "with_tags": "reference/filters.html#with_tags",
        "バックアップ": "docs/ja/tasks.html#データ",
    }.items():
        assert place in found(browser, typed), typed
    assert elsewhere(browser) == [] and browser.errors == []


def found(browser: Browser, typed: str) -> list[str]:
    """The places on the first three pages that are found."""
    box = "document.querySelector('.md-search__input')"
    result = "document.querySelector('.md-search-result__list')"
    browser.value(f"{result}.replaceChildren()")
    browser.value(
        f"({box}.value = {json.dumps(typed)}, {box}.dispatchEvent(new KeyboardEvent('keyup', {{bubbles: true}})),"
        f" {box}.dispatchEvent(new Event('input', {{bubbles: true}})))"
    )
    end = time.monotonic() + 60
    while time.monotonic() < end:
        links = browser.value(
            f"Array.from({result}.querySelectorAll('a'), link => new URL(link.href)).map(url =>"
            " decodeURIComponent(url.pathname.split('/site/')[1] + url.hash))"
        )
        if links:
            pages = list(dict.fromkeys(link.split("#")[0] for link in links))[:3]
            return [link for link in links if link.split("#")[0] in pages]
        time.sleep(0.1)
    raise AssertionError(f"the search finds nothing for {typed}")


def elsewhere(browser: Browser) -> list[str]:
    return [url for url in browser.requests if not url.startswith(("file:", "data:", "blob:"))]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_it_is_drawn_and_nothing_stands_out(browser: Browser, site: Path, size: str, scheme: str) -> None:
    for page in SEEN:
        browser.open(site / page, *SIZES[size], scheme)
        assert browser.value("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0, page
        background = browser.value("getComputedStyle(document.body).backgroundColor")
        brightness = sum(map(int, re.findall(r"\d+", background)[:3]))
        assert brightness > 600 if scheme == "light" else brightness < 200, background
        assert browser.errors == [] and elsewhere(browser) == [], page
        images = "Array.from(document.images)"
        assert browser.value(f"{images}.filter(one => one.complete && !one.naturalWidth).length") == 0, page


def test_pictures_are_drawn(browser: Browser, site: Path) -> None:
    for page in ("docs/concepts.html", "docs/ja/concepts.html"):
        browser.open(site / page, *SIZES["screen"], "light")
        end = time.monotonic() + 60
        heights: list[int] = []
        while time.monotonic() < end and not (len(heights) == 3 and min(heights) > 150):
            heights = browser.value("Array.from(document.querySelectorAll('div.mermaid'), one => one.offsetHeight)")
            time.sleep(0.2)
        # Code that is not drawn stays a <pre>.
        assert len(heights) == 3 and min(heights) > 150, heights
        assert browser.value("document.querySelectorAll('pre.mermaid').length") == 0


def test_japanese_says_that_it_is(site: Path) -> None:
    for page in ("README.ja.html", "docs/ja/tasks.html"):
        assert '<html lang="ja"' in (site / page).read_text(encoding="utf-8")
    assert '<html lang="en"' in (site / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("link", "leads"),
    [("other.md#other", True), ("nowhere.md", False), ("other.md#nowhere", False), ("#nowhere", False)],
)
def test_a_link_that_leads_nowhere_fails_the_build(tmp_path: Path, site: Path, link: str, leads: bool) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages/index.md").write_text(f"# One\n\n[x]({link})\n")
    (tmp_path / "pages/other.md").write_text("# Other\n")
    built = _build(tmp_path)
    assert (built.returncode == 0) == leads, built.stderr


def _build(folder: Path) -> subprocess.CompletedProcess[str]:
    text = (ROOT / "tools/docs/mkdocs.yml").read_text(encoding="utf-8")
    (folder / "mkdocs.yml").write_text(f"{text}\ndocs_dir: pages\n")
    shutil.copy(ROOT / "tools/docs/language.py", folder)
    shutil.copytree(ROOT / "tools/docs/theme", folder / "theme")
    command = [ROOT / ".local/docs/bin/mkdocs", "build", "--strict", "--config-file", folder / "mkdocs.yml"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)


def test_the_screenshots_are_there_and_small() -> None:
    named = set(re.findall(r"pictures/([\w-]+\.webp)", (ROOT / "docs/start.md").read_text(encoding="utf-8")))
    assert named == {"report.webp", "rehearsal.webp", "dashboards.webp"}
    for name in named:
        file = ROOT / "docs/pictures" / name
        assert file.read_bytes()[8:12] == b"WEBP" and file.stat().st_size < pictures.LARGEST_BYTES, name


def test_the_screenshots_can_be_drawn(browser: Browser, tmp_path: Path, library: Path) -> None:
    folder = Path(os.environ.get("DRAW_PICTURES", tmp_path))
    for name, page in pictures.pages(tmp_path, library).items():
        pictures.draw(browser, page, folder / f"{name}.webp")
        # An empty page is smaller.
        assert 10_000 < (folder / f"{name}.webp").stat().st_size < pictures.LARGEST_BYTES, name
        assert browser.errors == []

"""The page that make demo ends with, by the real ansible-playbook and in a real browser."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.unit.module_utils.dashboards.browser import Browser, chromium

ROOT = Path(__file__).resolve().parents[3]
SIZES = {"phone": (390, 844), "screen": (1440, 900)}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a checkout whose path has what a shell and a browser would take for something else."""
    state = tmp_path_factory.mktemp("a & b") / "<i>'s/.local"
    state.mkdir(parents=True)
    (state / "ca.crt").touch()
    (state / "report.html").write_text("the report")
    variables = {"cluster_state_dir": str(state), "cluster_edge_https_port": 9443}
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "playbooks/index.yml", "-e", json.dumps(variables)],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (url,) = [word.strip("'\"") for word in done.stdout.split() if word.strip("'\"").startswith("file://")]
    assert Path(unquote(urlsplit(url).path)) == state / "index.html"
    return state / "index.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_everything_is_drawn_and_nothing_stands_out(browser: Browser, page: Path, size: str, scheme: str) -> None:
    browser.open(page, *SIZES[size], scheme)
    if folder := os.environ.get("SCREENSHOTS"):
        browser.screenshot(Path(folder) / f"index-{size}-{scheme}.png", whole=True)
    assert browser.errors == []
    assert [url for url in browser.requests if not url.startswith(("file:", "data:"))] == []
    sections = browser.value("Array.from(document.querySelectorAll('section'), section => section.id)")
    assert sections == ["calls", "pages", "reading"]
    assert browser.value("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    widths = browser.value("Array.from(document.querySelectorAll('article.panel'), one => one.offsetWidth)")
    assert len(widths) == 5 and min(widths) > SIZES[size][0] * 0.8
    background = browser.value("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(238, 241, 245)", "dark": "rgb(14, 18, 23)"}[scheme]


def test_links_lead_to_what_is_there(browser: Browser, page: Path) -> None:
    browser.open(page, *SIZES["screen"], "light")
    links = browser.value("Array.from(document.links, link => link.href)")
    files = [Path(unquote(urlsplit(link).path)) for link in links if link.startswith("file:")]
    assert page.with_name("report.html") in files and ROOT / "README.md" in files
    assert [file for file in files if not file.is_file()] == []
    assert page.with_name("docs") / "index.html" not in files
    # What is not there yet is made by a command.
    told = browser.value("document.getElementById('pages').innerText")
    assert "make dashboards" in told and "dashboards.html" not in told
    others = [link for link in links if not link.startswith("file:")]
    assert others == ["https://localhost:9443/health", "http://localhost:9428/select/vmui"]


def test_the_three_calls_are_those_of_the_documents(browser: Browser, page: Path, tmp_path: Path) -> None:
    """Run by a shell, whose curl writes down what it is asked."""
    browser.open(page, *SIZES["screen"], "light")
    calls = browser.value("Array.from(document.querySelectorAll('#calls code'), code => code.textContent)")
    assert len(calls) == 3
    curl = tmp_path / "curl"
    curl.write_text('#!/bin/sh\nprintf \'%s\\0\' "$@" >>"$ASKED"\necho \'{"session_id":"7"}\'\n')
    curl.chmod(0o755)

    def asked(text: str) -> list[str]:
        file = tmp_path / "asked"
        file.unlink(missing_ok=True)
        environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "ASKED": str(file)}
        subprocess.run(["bash", "-euc", text], env=environment, check=True, capture_output=True)
        return file.read_text().split("\0")

    for name, call in zip(("nodejs", "python", "rust"), calls, strict=True):
        example = (ROOT / f"docs/examples/{name}.sh").read_text(encoding="utf-8")
        wanted = [
            word.replace("https://localhost:8443", "https://localhost:9443").replace(
                ".local/ca.crt", str(page.with_name("ca.crt"))
            )
            for word in asked(example)
        ]
        assert asked(call) == wanted
        assert f"https://localhost:9443/api/v1/execute/{7}" in wanted

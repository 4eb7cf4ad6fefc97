"""What a person sees of the page: on a phone and on a screen, in light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity import page
from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.capacity import (
    compared,
    read_yaml,
    report_of,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.prices import Prices
from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.table import lines
from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.workloads import (
    GIB,
    Volume,
    Workload,
)

from ..dashboards.browser import Browser, chromium

ROOT = Path(__file__).resolve().parents[4]
DATA = ROOT / "roles/platform/files/capacity"
SIZES = {"phone": (390, 844), "screen": (1440, 900)}
HOSTILE = "</style><img src=x onerror=document.title=1>"
POOL = {"name": "general", "type": "m5.2xlarge", "zones": ["us-east-1a", "us-east-1b", "us-east-1c"], "min_count": 6,
        "max_count": 9}  # fmt: skip


def sample() -> dict:
    volume = (Volume("data", 100 * GIB, "gp3"),)
    workloads = [
        Workload("data", "one", "StatefulSet", "postgresql", 3, 3, 4000, 16 * GIB, ("postgresql",), volume),
        Workload("web", "one", "Deployment", "envoy", 3, 3, 2000, 4 * GIB, ("envoy",), surge=1),
        Workload("web", "one", "Deployment", HOSTILE, 2, 20, 1000, 2 * GIB, ("main",), surge=5),
        Workload("agents", "one", "DaemonSet", "agent", 1, 1, 50, GIB, ("agent",), per_node=True),
    ]
    prices = Prices(read_yaml(str(DATA / "prices.yml")), "prices.yml")
    report = report_of(workloads, [POOL], read_yaml(str(DATA / "node_types.yml")), {}, prices)
    report["design"] = compared(read_yaml(str(DATA / "design.yml")), workloads)
    report["notes"].append(f"not counted: {HOSTILE}")
    return report


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "capacity.html"
    style = (ROOT / "roles/monitoring/files/page/page.css").read_text() + (DATA / "page.css").read_text()
    path.write_text(page.drawn(sample(), style))
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_everything_is_drawn_and_nothing_stands_out(browser: Browser, drawn: Path, size: str, scheme: str) -> None:
    browser.open(drawn, *SIZES[size], scheme)
    assert browser.errors == []
    assert [url for url in browser.requests if not url.startswith(("file:", "data:"))] == []
    sections = browser.value("Array.from(document.querySelectorAll('section'), section => section.id)")
    assert sections == ["figures", "components", "nodes", "needed", "design", "workloads", "notes"]
    assert browser.value("document.querySelectorAll('.node').length") == 6 + 9
    assert browser.value("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    # A bar has the width of its share: what is at rest of what may be.
    shares = browser.value("Array.from(document.querySelectorAll('.bar i:not(.most)'), bar => bar.offsetWidth)")
    assert max(shares) > 50 and min(shares) > 0
    background = browser.value("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(238, 241, 245)", "dark": "rgb(14, 18, 23)"}[scheme]


def test_text_that_looks_like_a_tag_is_text(browser: Browser, drawn: Path) -> None:
    browser.open(drawn, *SIZES["screen"], "light")
    assert browser.value("document.querySelectorAll('img').length") == 0
    assert browser.value("document.title") == "Lambda microservice platform: capacity"
    assert "<img" in browser.value("document.getElementById('notes').innerText")


def test_the_table_is_aligned() -> None:
    table = lines(sample())
    (rule,) = [line for line in table if line.startswith("---")][:1]
    body = table[table.index(rule) + 1 : table.index("")]
    assert len({len(line) for line in body}) == 1 == len({len(rule)} | {len(line) for line in body})

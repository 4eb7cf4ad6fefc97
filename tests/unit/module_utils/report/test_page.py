"""What a person sees of the page: on a phone and on a screen, in light and dark."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.report import page

from ..dashboards.browser import Browser, chromium

ROOT = Path(__file__).resolve().parents[4]
SIZES = {"phone": (390, 844), "screen": (1440, 900)}
HOSTILE = "</style><img src=x onerror=document.title=1>"


def sample(**changes: Any) -> dict[str, Any]:
    zones = ["local-a", "local-b", "local-c"]
    by_zone = {"local-a": 1, "local-b": 1}
    alert = {"name": "BackupOld", "severity": "P2", "since": "2026-11-30 10:00", "said": HOSTILE}
    differs = {"component": "controller", "kind": "changed", "object": "Deployment controller/controller"}
    certificate = {"secret": "ingress/envoy-tls", "subject": "localhost", "ends": "2027-11-30"}
    backup = {"what": "data-services/postgresql-backup", "kind": "CronJob"}
    return {
        "cluster": "https://127.0.0.1:6443 (context kind-lambda)",
        "made_at": "2026-11-30 20:00 UTC",
        "kubernetes": "v1.37.2",
        "nodes_ready": {"ready": 4, "all": 4},
        "releases": [
            {"release": "controller/controller", "chart": "controller-1.0.0", "version": "-",
             "revision": "3 (deployed)", "deployed": "2026-11-30 19:00",
             "component": "controller"}
        ],
        "images": [{"image": "localhost:5001/lambda-microservice/controller", "digest": "0123456789ab", "pods": 2}],
        "workloads": [
            {"namespace": "controller", "name": "controller", "kind": "Deployment", "wanted": 2, "ready": 2,
             "by_zone": by_zone},
            {"namespace": "data-services", "name": "redis", "kind": "StatefulSet", "wanted": 3, "ready": 2,
             "by_zone": by_zone},
        ],
        "zones": zones,
        "endpoints": [{"endpoint": "the edge", "kind": "URL", "address": "https://localhost:8443"}],
        "certificates": [{**certificate, "days_left": 2}, {**certificate, "days_left": 300}],
        "backups": [{**backup, "last": "2026-11-30T02:00:00Z", "age_hours": 18.0},
                    {**backup, "last": "", "age_hours": None}],
        "drills": {"said": "Made at 2026-11-30 18:00 UTC.",
                   "rows": [{"drill": "redis master killed", "verdict": "held", "said": "0 of 3900 failed"}]},
        "alerts": [alert],
        "alerts_unknown": "",
        "drift": [{**differs, "fields": ["spec.replicas"], "note": ""}],
        "drift_unknown": "",
        "nodes": [{"name": f"lambda-worker{number}", "zone": zones[number], "cpu": 8.0, "free_cpu": 2.0 * number,
                   "memory_gib": 24.0, "free_memory_gib": 6.0} for number in range(3)],
        "recommendations": None,
        "notes": [f"Ingress: {HOSTILE}"],
        **changes,
    }  # fmt: skip


def style() -> str:
    paths = [f"roles/platform/files/{name}/page.css" for name in ("capacity", "report")]
    paths.insert(0, "roles/monitoring/files/page/page.css")
    return "".join((ROOT / path).read_text() for path in paths)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page.drawn(sample(), style()))
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_everything_is_drawn_and_nothing_stands_out(browser: Browser, drawn: Path, size: str, scheme: str) -> None:
    browser.open(drawn, *SIZES[size], scheme)
    assert browser.errors == []
    assert [url for url in browser.requests if not url.startswith(("file:", "data:"))] == []
    sections = browser.value("Array.from(document.querySelectorAll('section'), section => section.id)")
    assert sections == [
        "figures", "alerts", "drift", "workloads", "versions", "endpoints", "certificates", "backups", "drills",
        "capacity", "recommendations", "notes",
    ]  # fmt: skip
    assert browser.value("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    # A panel fills its row: nothing is pressed into a column of a grid that is not there.
    widths = browser.value(
        "Array.from(document.querySelectorAll('article.panel:not(.number)'), one => one.offsetWidth)"
    )
    assert min(widths) > SIZES[size][0] * 0.8
    # Whether a workload is whole is seen without scrolling.
    right = browser.value("document.querySelector('#workloads td:nth-child(2)').getBoundingClientRect().right")
    assert right < SIZES[size][0]
    shares = browser.value("Array.from(document.querySelectorAll('.bar i'), bar => bar.offsetWidth)")
    assert len(shares) == 6 and max(shares) > 20 and min(shares) > 0
    background = browser.value("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(238, 241, 245)", "dark": "rgb(14, 18, 23)"}[scheme]


def test_what_is_wrong_is_in_words_and_in_colour(browser: Browser, drawn: Path) -> None:
    browser.open(drawn, *SIZES["screen"], "light")
    figures = browser.value("document.getElementById('figures').innerText")
    assert "4 of 5" in figures and "2 days" in figures and "4 of 4" in figures
    wrong = browser.value("Array.from(document.querySelectorAll('td.red'), cell => cell.innerText)")
    assert wrong == ["P2", "changed", "2 of 3", "2 days", "never"]
    red = browser.value("getComputedStyle(document.querySelector('td.red')).color")
    assert red == "rgb(179, 32, 31)"


def test_text_that_looks_like_a_tag_is_text(browser: Browser, drawn: Path) -> None:
    browser.open(drawn, *SIZES["screen"], "light")
    assert browser.value("document.querySelectorAll('img').length") == 0
    assert browser.value("document.title") == "Lambda microservice platform: report"
    assert "<img" in browser.value("document.getElementById('notes').innerText")


def test_what_is_unknown_is_not_told_as_well() -> None:
    unknown = {"alerts": None, "alerts_unknown": "monitoring is off.", "drift": None, "drift_unknown": "no helm."}
    text = page.drawn(sample(**unknown, certificates=[], nodes=[], drills={"said": "none", "rows": []}), style())
    assert "unknown: monitoring is off." in text and "unknown: no helm." in text and "none</div>" not in text
    assert "off: this cluster has no VerticalPodAutoscaler" in text
    rows = [{"workload": "c/c", "container": "c", "cpu": "1", "recommended_cpu": "77m", "memory": "-",
             "recommended_memory": "1Gi"}]  # fmt: skip
    assert "77m" in page.drawn(sample(recommendations=rows), "")
    well = page.drawn(sample(alerts=[], drift=[]), "")
    assert "What runs is what the inventory has." in well and json.dumps(sample())

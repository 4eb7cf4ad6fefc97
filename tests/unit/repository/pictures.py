"""The pictures of docs/pictures: the pages of the tests' sample data, as a browser shows them.

To draw them anew, and look at them then:

DRAW_PICTURES=docs/pictures pytest tests/unit/repository/test_site.py -k screenshots
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.rehearse import page as rehearsal
from ansible_collections.lambda_microservice.platform.plugins.module_utils.report import page as report

from tests.unit.module_utils.dashboards import conftest as dashboards
from tests.unit.module_utils.dashboards.browser import Browser
from tests.unit.module_utils.report import test_page as sample

ROOT = Path(__file__).resolve().parents[3]
SIZE = (1200, 760)
LARGEST_BYTES = 200_000


def pages(folder: Path, library: Path) -> dict[str, Path]:
    """The pages of the sample data, by the picture's name."""
    dashboards.drawn(dashboards.arguments(folder, library=str(library)), dashboards.SamplePrometheus())
    whole = {"notes": [], "alerts": [{"name": "BackupOld", "severity": "P2", "since": "2026-11-30 10:00",
                                      "said": "A nightly backup has not succeeded for 26 h"}]}  # fmt: skip
    made = {
        "report": report.drawn(sample.sample(**whole), sample.style()),
        "rehearsal": rehearsal.drawn(rehearsed(), _style()),
    }
    for name, text in made.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in ("report", "rehearsal", "dashboards")}


def _style() -> str:
    folders = ("monitoring/files/page", "platform/files/capacity", "platform/files/rehearsal")
    return "".join((ROOT / "roles" / folder / "page.css").read_text(encoding="utf-8") for folder in folders)


def rehearsed() -> dict[str, Any]:
    """As the module rehearse gives it, of nine nodes."""
    namespaces = {"controller": 2.0, "data-services": 4.0, "ingress": 2.0, "openfaas-fn": 1.0, "monitoring": 1.0}
    pods = [
        {"name": f"{name}-0", "namespace": name, "cpu": cpu, "memory_gib": 2 * cpu} for name, cpu in namespaces.items()
    ]
    nodes = [
        {"name": f"general-{zone}-{number}", "zone": f"us-east-1{zone}", "cpu": 15.9, "memory_gib": 57.6,
         "pods": pods[: 3 + (number + ord(zone)) % 3]}
        for zone in "abc" for number in (1, 2, 3)
    ]  # fmt: skip
    # As a rehearsal of inventories/production-eks said it.
    said = {
        "site": "site.yml comes to its end, in 81 s",
        "scheduled": "9 nodes, at rest: all pods have a node",
        "node_lost": "9 nodes, at rest: each node can be lost: its pods find another",
        "zone_lost": "9 nodes, at rest: each zone can be lost: what may move finds a node",
        "update": "9 nodes, at rest: a rolling update of everything at once finds room, in 74 s",
    }
    promises = [
        {"check": check, "result": "holds", "sentence": text, "seen": [], "to_do": ""} for check, text in said.items()
    ]
    seen = ["ingress/envoy: no pod in us-east-1c"]
    broken = "a zone is left empty, and a rolling update does not fill it"
    promises.append({"check": "balance", "result": "fails", "sentence": broken, "seen": seen,
                     "to_do": "spread it hard over zones, or accept it by name (rehearse_accept)"})  # fmt: skip
    return {"inventory": "production-eks", "pools": [], "promises": promises, "losses": {}, "states": {"rest": nodes},
            "not_rehearsed": [], "seconds": {"all": 648.0}}  # fmt: skip


def draw(browser: Browser, page: Path, picture: Path) -> None:
    browser.open(page, *SIZE, "light")
    browser.value("1")
    # Of a page of panels the first screen says what it is; WebP, a fifth of a PNG.
    shot = browser.call("Page.captureScreenshot", format="webp", quality=70)
    picture.write_bytes(base64.b64decode(shot["data"]))

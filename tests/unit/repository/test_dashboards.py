"""The dashboards are what their definitions give, and what they ask for is there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.dashboards.panels import read
from ansible_collections.lambda_microservice.platform.plugins.module_utils.dashboards.queries import expanded, window

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "roles/monitoring/files/dashboards"
BOARDS = read(str(FOLDER))
PANELS = [panel for board in BOARDS for panel in board.panels]
QUERIES = sorted({query.expression for panel in PANELS for query in panel.queries})
# As Grafana's documentation of standard options has them, and page.js knows them.
UNITS = {"s", "percentunit", "bytes", "Bps", "reqps", "ops", "short", "none"}


def test_they_are_what_the_definitions_give() -> None:
    check = [sys.executable, ROOT / "tools/dashboards/generate", "--check"]
    ran = subprocess.run(check, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"{ran.stdout}{ran.stderr}run tools/dashboards/generate"


def test_a_file_that_was_edited_is_found(tmp_path: Path) -> None:
    copied = tmp_path / "roles/monitoring/files/dashboards"
    shutil.copytree(FOLDER, copied)
    shutil.copytree(ROOT / "tools/dashboards", tmp_path / "tools/dashboards")
    (copied / "redis.json").write_text("{}\n")
    check = [sys.executable, tmp_path / "tools/dashboards/generate", "--check"]
    ran = subprocess.run(check, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert ran.stdout == "roles/monitoring/files/dashboards/redis.json: differs from tools/dashboards\n"


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_each_has_what_it_needs_and_no_more(board) -> None:
    titles = [panel.title for panel in board.panels]
    assert 6 <= len(titles) <= 10 and len(set(titles)) == len(titles)
    for panel in board.panels:
        assert panel.unit in UNITS, panel.name
        assert panel.elsewhere or all(query.legend for query in panel.queries), panel.name
    places = [panel["gridPos"] for panel in json.loads((FOLDER / f"{board.name}.json").read_text())["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    assert len({(place["x"], place["y"]) for place in places}) == len(places)


def test_one_legend_is_one_line() -> None:
    """Two queries of a panel with the same legend could not be told apart, nor series whose legend has too little."""
    for panel in PANELS:
        legends = [query.legend for query in panel.queries]
        assert len(set(legends)) == len(legends), panel.name
        for query in panel.queries:
            grouped = re.findall(r"by \(([^)]*)\)", query.expression)
            if not grouped:
                assert "{{" not in query.legend or "sum" not in query.expression, panel.name


def names(prefix: str) -> set[str]:
    """The names of series with this prefix that queries have."""
    return {name for query in QUERIES for name in re.findall(rf"\b{prefix}\w+", query)}


@pytest.mark.parametrize(
    ("prefix", "page"), [("lambda_controller_", "images/controller"), ("lambda_runtime_", "images/runtime")]
)
def test_our_own_series_are_described(prefix: str, page: str) -> None:
    described = (ROOT / page / "README.md").read_text(encoding="utf-8")
    for name in names(prefix):
        metric = re.sub(r"_(bucket|sum|count)$", "", name)
        known = {metric, metric.removesuffix("_total")} | {metric.removeprefix(prefix)}
        assert any(re.search(rf"\b{one}\b", described) for one in known), f"{name} is not in {page}/README.md"


def test_the_local_stand_in_has_what_is_asked_of_kube_state_metrics() -> None:
    exporter = ROOT / "images/kube-state-exporter/kube_state_exporter.py"
    known = set(re.findall(r'"(kube_\w+)"', exporter.read_text(encoding="utf-8")))
    assert names("kube_") <= known


def test_every_query_is_promql() -> None:
    """Of a rule, promtool checks the expression."""
    if not (ROOT / "tools/prometheus").exists():
        pytest.skip("there is no tools/prometheus, of which promtool is built")
    programs = ROOT / ".local/prometheus"
    subprocess.run([ROOT / "tools/go-programs", "prometheus", programs], check=True, timeout=3600)
    variables = window(60, 15, 0).variables
    rules = [{"record": f"query:{number}", "expr": expanded(query, variables)} for number, query in enumerate(QUERIES)]
    text = json.dumps({"groups": [{"name": "dashboards", "rules": rules}]})
    ran = subprocess.run(
        [programs / "promtool", "check", "rules"], input=text, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"{len(QUERIES)} rules found" in ran.stdout

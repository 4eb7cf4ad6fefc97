"""No rule stands on a series that nobody makes: a misspelt name would never fire, and nobody would know."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.envoy.conftest import Edge, serving, stopping
from tests.unit.envoy.conftest import envoy_binary as envoy_binary
from tests.unit.envoy.test_running_edge import METRICS_PORT, configuration

from .conftest import ROOT, RULES, rules_of

NO_SERIES = re.compile(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\b(?:by|on|ignoring|without|group_left|group_right)\s*\([^)]*\)')
WORDS = {"and", "or", "unless", "offset", "bool", "by", "on", "ignoring", "without", "group_left", "group_right"}
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}


def series_of(expr: str) -> set[str]:
    """The names of series in an expression: what is no function, label, duration or word of the language."""
    bare = NO_SERIES.sub(" ", re.sub(r'"[^"]*"', '""', expr))
    names = re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*(?!\s*\(|[a-zA-Z0-9_:])", re.sub(r"\b\d+[smhdwy]?\b", " ", bare))
    return set(names) - WORDS


def controllers() -> set[str]:
    text = (ROOT / "images" / "controller" / "src" / "metrics.rs").read_text(encoding="utf-8")
    types = dict(re.findall(r"pub (\w+): (?:Family<\w+, )?(Counter|Gauge|Histogram)", text))
    found = set()
    registered = r'registry\.register\w*\(\s*"(\w+)",\s*"[^"]*",\s*(Unit::\w+,\s*)?self\.(\w+)'
    for name, unit, field in re.findall(registered, text):
        unit = f"_{re.sub(r'Unit::|,.*', '', unit.strip()).lower()}" if unit else ""
        found |= {f"lambda_controller_{name}{unit}{suffix}" for suffix in SUFFIXES[types[field].lower()]}
    return found


def runtimes() -> set[str]:
    """Of the README, which a test of the runtime holds against what it registers."""
    text = (ROOT / "images" / "runtime" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(lambda_runtime_\w+)` \| (\w+) \|", text, re.M)
    return {name + suffix for name, kind in rows for suffix in SUFFIXES[kind]}


def gateways() -> set[str]:
    text = (ROOT / "images" / "openfaas" / "internal" / "metrics" / "metrics.go").read_text(encoding="utf-8")
    return set(re.findall(r'"(gateway_\w+)"', text))


def state_exporters() -> set[str]:
    text = (ROOT / "images" / "kube-state-exporter" / "kube_state_exporter.py").read_text(encoding="utf-8")
    return set(re.findall(r'"((?:kube|platform)_\w+)"', text))


def others() -> set[str]:
    text = (Path(__file__).parent / "series.txt").read_text(encoding="utf-8")
    return {line for line in text.splitlines() if line and not line.startswith("#")}


@pytest.fixture(scope="module")
def envoys(envoy_binary: str, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """What a running Envoy shows after an answer and a timeout."""
    with serving() as behind, stopping(Edge(envoy_binary, tmp_path_factory.mktemp("edge"))) as edge:
        edge.start(configuration(behind))
        edge.get("/api/v1/any")
        edge.get("/api/v1/slow")
        text = edge.get("/metrics", port=METRICS_PORT).text
    assert 'envoy_http_downstream_rq_xx{envoy_response_code_class="5",envoy_http_conn_manager_prefix="edge"} 1' in text
    assert 'envoy_cluster_upstream_rq{envoy_response_code="504",envoy_cluster_name="controller"} 1' in text
    assert 'envoy_cluster_upstream_rq_timeout{envoy_cluster_name="controller"} 1' in text
    return set(re.findall(r"^(envoy_\w+)\{", text, re.M))


RECORDED = {rule["record"] for path in RULES for rule in rules_of(path) if "record" in rule}


@pytest.mark.parametrize("path", RULES, ids=[path.stem for path in RULES])
def test_every_series_is_somebodys(path: Path, envoys: set[str]) -> None:
    known = controllers() | runtimes() | gateways() | state_exporters() | others() | envoys | RECORDED
    used = set().union(*(series_of(rule["expr"]) for rule in rules_of(path)))
    # What fires always asks for none.
    assert used or path.stem == "watchdog"
    assert not used - known


def test_what_others_are_said_to_expose_is_used() -> None:
    used = set().union(*(series_of(rule["expr"]) for path in RULES for rule in rules_of(path)))
    assert others() <= used


def test_a_misspelt_series_would_be_found() -> None:
    expr = (
        'sum by (le) (rate(a_total{x="y z"}[5m])) / on (pod) -deriv(b:c:d[6h]) > 3 * 60 or on () max(up offset 12h) > 0'
    )
    assert series_of(expr) == {"a_total", "b:c:d", "up"}

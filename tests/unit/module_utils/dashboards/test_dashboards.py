"""What is asked of Prometheus for a panel, and what is said where it cannot be drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.dashboards.panels import read
from ansible_collections.lambda_microservice.platform.plugins.module_utils.dashboards.queries import (
    embedded,
    expanded,
    legend,
    placed,
    window,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError

from .conftest import FOLDER, SamplePrometheus, arguments, drawn


@pytest.mark.parametrize(
    ("minutes", "scrape", "step", "rate"),
    [(60, 15, 15, "60s"), (5, 15, 15, "60s"), (1440, 15, 360, "375s"), (60, 60, 60, "240s"), (1, 120, 120, "480s")],
)
def test_a_rate_spans_four_scrapes_and_a_step(minutes: int, scrape: int, step: int, rate: str) -> None:
    shown = window(minutes, scrape, 1_700_000_000.7)
    assert (shown.step, shown.variables["$__rate_interval"]) == (step, rate)
    assert shown.end == 1_700_000_000 and shown.end - shown.start <= minutes * 60
    assert shown.points <= 241


def test_grafanas_variables_are_filled_in() -> None:
    shown = window(60, 15, 0)
    asked = expanded('rate(a{b=~"x$__interval|y$"}[$__rate_interval]) + c[$__range:$__interval]', shown.variables)
    assert asked == 'rate(a{b=~"x$__interval|y$"}[60s]) + c[3600s:15s]'


@pytest.mark.parametrize("query", ["a[$__rate]", "a[$interval]", "a[${__range}]", "$namespace"])
def test_a_variable_that_is_not_known_is_an_error(query: str) -> None:
    with pytest.raises(PlatformError, match="variable that the page does not know"):
        expanded(query, window(60, 15, 0).variables)


def test_a_legend_names_labels() -> None:
    assert legend("{{language}} {{ outcome }}", {"language": "rust", "outcome": "ok"}) == "rust ok"
    assert legend("p95 {{nothing}}", {}) == "p95"


def test_samples_stand_at_their_times_and_what_is_no_number_is_left_out() -> None:
    shown = window(1, 15, 1000)
    assert (shown.start, shown.points) == (940, 5)
    samples = [[940, "1.23456789"], [955, "NaN"], [970, "+Inf"], [1000.001, "0"], [1015, "7"]]
    assert placed(samples, shown) == [1.2346, None, None, None, 0.0]


def test_no_text_of_the_data_ends_the_script() -> None:
    text = embedded({"name": "</script><script>alert(1)</script>"})
    assert "<" not in text and json.loads(text) == {"name": "</script><script>alert(1)</script>"}


def test_every_query_of_every_panel_is_asked_once(tmp_path: Path, library: Path) -> None:
    prometheus = SamplePrometheus()
    result = drawn(arguments(tmp_path, library=str(library)), prometheus)
    queries = [query["query"] for path, query in prometheus.asked if path.endswith("query_range")]
    panels = [panel for board in read(str(FOLDER)) for panel in board.panels]
    assert len(queries) == sum(len(panel.queries) for panel in panels)
    assert set(queries) == set(prometheus.panels)
    assert {path for path, _ in prometheus.asked} == {
        "/api/v1/query_range",
        "/api/v1/status/buildinfo",
    }
    assert result["panels"] + len(result["panels_elsewhere"]) == len(panels)
    assert result["panels_without_data"] == []
    page = (tmp_path / "dashboards.html").read_text()
    assert "/*DATA*/" not in page and "/*SCRIPT*/" not in page
    # Nothing is loaded from anywhere.
    assert "src=" not in page and "url(" not in page and "@import" not in page


def test_panels_without_data_are_named(tmp_path: Path, library: Path) -> None:
    prometheus = SamplePrometheus(silent=("Volumes used",))
    result = drawn(arguments(tmp_path, library=str(library)), prometheus)
    assert result["panels_without_data"] == ["Cluster capacity: Volumes used"]


def test_check_mode_asks_and_writes_nothing(tmp_path: Path, library: Path) -> None:
    result = drawn(arguments(tmp_path, library=str(library)), SamplePrometheus(), check_mode=True)
    assert result["changed"] and result["panels"] > 50
    assert list(tmp_path.iterdir()) == []


def test_a_query_that_prometheus_refuses_is_named(tmp_path: Path, library: Path) -> None:
    params = arguments(tmp_path, library=str(library))
    with pytest.raises(PlatformError, match="cannot answer a query") as raised:
        drawn(params, SamplePrometheus(refused="redis_connected_clients"))
    assert raised.value.where == 'sum by (pod) (redis_connected_clients{job="redis"})'
    assert "parse error" in raised.value.found
    assert not (tmp_path / "dashboards.html").exists()


def test_one_error_says_that_prometheus_is_not_there(tmp_path: Path, library: Path) -> None:
    class Nobody:
        asked = 0

        def get_from_pod(self, *arguments: Any, **options: Any) -> bytes:
            self.asked += 1
            raise PlatformError("a pod cannot be reached through the API server", found="404", reason="unreachable")

    nobody = Nobody()
    with pytest.raises(PlatformError, match="Prometheus does not answer") as raised:
        drawn(arguments(tmp_path, library=str(library)), nobody)
    assert "monitoring_enabled" in raised.value.fix
    assert nobody.asked == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"library": "/nowhere"}, "a part of the page is not there"),
        ({"folder": "/nowhere"}, "no dashboards to draw"),
        ({"minutes": 0}, "too short to draw"),
        ({"output": "/proc/dashboards.html"}, "cannot be written"),
    ],
)
def test_wrong_arguments_are_told(given: dict[str, Any], message: str, tmp_path: Path, library: Path) -> None:
    with pytest.raises(PlatformError, match=message):
        drawn({**arguments(tmp_path, library=str(library)), **given}, SamplePrometheus())


def test_a_file_that_is_no_dashboard_is_named(tmp_path: Path) -> None:
    (tmp_path / "odd.json").write_text('{"title": "odd", "panels": [{"type": "piechart"}]}')
    with pytest.raises(PlatformError, match="a dashboard cannot be read") as raised:
        read(str(tmp_path))
    assert raised.value.where == str(tmp_path / "odd.json")


@pytest.mark.parametrize(
    "source", [{"uid": "loki", "type": "loki"}, {"uid": "prometheus", "type": "grafana-postgresql-datasource"}]
)
def test_a_data_source_that_there_is_not_is_named(tmp_path: Path, source: dict[str, str]) -> None:
    board = json.loads((FOLDER / "redis.json").read_text())
    panel = next(entry for entry in board["panels"] if entry["type"] != "row")
    panel["datasource"] = source
    (tmp_path / "redis.json").write_text(json.dumps(board))
    with pytest.raises(PlatformError, match="a data source that there is not") as raised:
        read(str(tmp_path))
    assert raised.value.where == f"{board['title']}: {panel['title']}"
    assert raised.value.found == f"{source['uid']} ({source['type']})"

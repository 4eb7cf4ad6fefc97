"""What is asked of Prometheus for a panel, and what is said where it cannot be drawn."""

from __future__ import annotations

import http.server
import json
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.dashboards import queries
from ansible_collections.lambda_microservice.platform.plugins.module_utils.dashboards.panels import read
from ansible_collections.lambda_microservice.platform.plugins.module_utils.dashboards.queries import (
    embedded,
    expanded,
    legend,
    placed,
    window,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.exec import Ran

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


@pytest.mark.parametrize("wget", [True, False])
def test_the_command_in_the_pod_gives_the_answer(wget: bool, tmp_path: Path) -> None:
    """Against a server of this machine: with wget, and with bash alone."""
    programs = ["sh", "bash", "cat", "printf"] + (["wget"] if wget else [])
    for program in programs:
        (tmp_path / program).symlink_to(str(shutil.which(program)))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        path = "/api/v1/query_range?query=sum+by+%28le%29+%28rate%28a%5B60s%5D%29%29&start=0"
        command = ["sh", "-c", queries._GET, str(server.server_port), path]
        ran = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=True)
        server.shutdown()
    # GNU's wget writes a parenthesis as it is.
    assert unquote(ran.stdout.replace("\r\n", "\n").partition("\n\n")[2]) == unquote(path)


class Echo(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.path.encode())


class NoPrometheus:
    """``ran`` is what comes of a command there, or the error."""

    def __init__(self, ran: Ran | PlatformError) -> None:
        self.ran, self.asked = ran, 0

    def run_in_pod(self, *arguments: Any, **options: Any) -> Ran:
        self.asked += 1
        if isinstance(self.ran, PlatformError):
            raise self.ran
        return self.ran


@pytest.mark.parametrize(
    ("ran", "found"),
    [
        (PlatformError("no command can be run in a pod", found="Handshake status 404", reason="exec"), "status 404"),
        (Ran(1, "", "bash: connect: Connection refused"), "Connection refused"),
        (Ran(0, "HTTP/1.0 503 Service Unavailable\r\n\r\nService Unavailable", ""), "503"),
    ],
)
def test_one_error_says_that_prometheus_is_not_there(
    ran: Ran | PlatformError, found: str, tmp_path: Path, library: Path
) -> None:
    nothing = NoPrometheus(ran)
    with pytest.raises(PlatformError, match="Prometheus does not answer") as raised:
        drawn(arguments(tmp_path, library=str(library)), nothing)
    assert raised.value.where == "Pod monitoring/prometheus-platform-0, container prometheus"
    assert found in raised.value.found and "monitoring_enabled" in raised.value.fix
    assert nothing.asked == 1


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

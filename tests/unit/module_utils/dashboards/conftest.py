"""A Prometheus that has something for each query, and a page that is drawn from it."""

from __future__ import annotations

import hashlib
import json
import math
import re
import subprocess
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.dashboards import dashboards
from ansible_collections.lambda_microservice.platform.plugins.module_utils.dashboards.panels import Panel, read
from ansible_collections.lambda_microservice.platform.plugins.module_utils.dashboards.queries import expanded, window
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.prometheus import prometheus as client

ROOT = Path(__file__).resolve().parents[4]
FOLDER = ROOT / "roles/monitoring/files/dashboards"
PAGE = ROOT / "roles/monitoring/files/page"

_NAMES = {
    "language": ["nodejs", "python", "rust"],
    "namespace": ["controller", "data-services", "ingress", "openfaas-fn"],
    "node": ["lambda-control-plane", "lambda-worker", "lambda-worker2", "lambda-worker3"],
    "envoy_response_code_class": ["2", "4", "5"],
    "outcome": ["success", "failure", "rejected"],
    "horizontalpodautoscaler": ["controller", "nodejs-runtime", "python-runtime"],
}
_SCALE = {"s": 0.08, "percentunit": 0.42, "bytes": 3.2e8, "Bps": 48000, "reqps": 12, "ops": 30, "short": 14, "none": 2}
"""About how large a value is that has this unit."""


class SamplePrometheus:
    """Answers what is asked in its pod. ``silent`` are titles of panels without data, ``refused`` a part of a query."""

    def __init__(self, silent: tuple[str, ...] = (), refused: str = "") -> None:
        self.silent, self.refused = silent, refused
        self.asked: list[tuple[str, dict[str, Any]]] = []
        shown = window(60, 15, 0)
        self.panels: dict[str, tuple[Panel, str]] = {
            expanded(query.expression, shown.variables): (panel, query.legend)
            for board in read(str(FOLDER))
            for panel in board.panels
            for query in panel.queries
        }

    def get_from_pod(
        self, cluster: Any, namespace: str, pod: str, port: int, path: str, query: dict[str, Any] | None = None
    ) -> bytes:
        """In the place of the one that speaks to the cluster."""
        assert (namespace, pod, port) == ("monitoring", "prometheus-platform-0", 9090)
        self.asked.append((path, query or {}))
        if query and self.refused and self.refused in query["query"]:
            found = '400 Bad Request: {"status":"error","error":"parse error: unexpected end"}'
            raise PlatformError("a pod answers otherwise than it should", found=found, reason="answer")
        data = {"resultType": "matrix", "result": self.answer(query)} if query else {"version": "2.53.3"}
        return json.dumps({"status": "success", "data": data}).encode()

    def answer(self, query: dict[str, Any]) -> list[dict[str, Any]]:
        panel, legend = self.panels[query["query"]]
        if panel.title in self.silent:
            return []
        labels = re.findall(r"\{\{(\w+)\}\}", legend)
        count = max([len(_NAMES.get(label, ["one", "two"])) for label in labels], default=1)
        times = range(int(query["start"]), int(query["end"]) + 1, int(query["step"]))
        result = []
        for number in range(count):
            seed = int(hashlib.sha256(f"{query['query']}{number}".encode()).hexdigest(), 16) % 1000 / 1000
            size = _SCALE[panel.unit] * (0.4 + seed)
            whole = panel.unit == "none"
            values = [
                [
                    at,
                    str(
                        round(size)
                        if whole
                        else size * (1 + 0.3 * math.sin(at / 300 + 7 * seed) + 0.05 * math.sin(at / 31))
                    ),
                ]
                for at in times
            ]
            names = {label: (_NAMES.get(label) or [f"{label}-one", f"{label}-two"]) for label in labels}
            result.append(
                {"metric": {label: name[number % len(name)] for label, name in names.items()}, "values": values}
            )
        return result


def arguments(folder: Path, **given: Any) -> dict[str, Any]:
    prometheus = {"namespace": "monitoring", "pod": "prometheus-platform-0", "port": 9090}
    return {
        "folder": str(FOLDER),
        "page": str(PAGE),
        "library": str(folder / "library"),
        "output": str(folder / "dashboards.html"),
        "prometheus": prometheus,
        "minutes": 60,
        "scrape_seconds": 15,
    } | given


def drawn(params: dict[str, Any], prometheus: Any, check_mode: bool = False) -> dict[str, Any]:
    with mock.patch.object(client, "get_from_pod", autospec=True, side_effect=prometheus.get_from_pod):
        return dashboards.run(params, check_mode, False, lambda line: None, connect=lambda params: None)  # type: ignore


@pytest.fixture(scope="session")
def library() -> Path:
    """uPlot, as playbooks/dashboards.yml installs it."""
    folder = ROOT / ".local" / "dashboards"
    subprocess.run([ROOT / "tools/dashboards/library", folder], check=True, capture_output=True)
    return folder / "node_modules" / "uplot" / "dist"

# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks Prometheus what a panel shows."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import (
    all_or_error,
    concurrently,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.dashboards.panels import Panel
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.exec import run_in_pod

POINTS = 240
"""Of a line: about as many as a panel has pixels on a phone."""

# With what an image of Prometheus has: upstream's busybox' wget, Debian's bash. It gives a head, an empty line, a body.
_GET = r"""
if command -v wget >/dev/null; then printf '\n\n' && exec wget -q -T 15 -O - "http://127.0.0.1:$0$1"; fi
exec bash -c 'exec 3<>/dev/tcp/127.0.0.1/$0 && printf "GET %s HTTP/1.0\r\n\r\n" "$1" >&3 && cat <&3' "$0" "$1"
"""

_VARIABLE = re.compile(r"\$(?:__\w+|\{\w+\}|\w+)")
_LABEL = re.compile(r"\{\{\s*(\w+)\s*\}\}")


@dataclass(frozen=True)
class Window:
    """What time the panels show: ``points`` times, ``step`` seconds apart, the last of which is ``end`` (Unix)."""

    end: int
    step: int
    points: int
    scrape_seconds: int

    @property
    def start(self) -> int:
        return self.end - (self.points - 1) * self.step

    @property
    def variables(self) -> dict[str, str]:
        """As Grafana has them: a rate needs four scrapes to outlive one that failed.

        https://grafana.com/docs/grafana/latest/datasources/prometheus/template-variables/
        """
        rate = max(self.step + self.scrape_seconds, 4 * self.scrape_seconds)
        return {
            "$__rate_interval": f"{rate}s",
            "$__interval": f"{self.step}s",
            "$__range": f"{self.end - self.start}s",
        }


def window(minutes: int, scrape_seconds: int, now: float) -> Window:
    """The window that ends now. Its step is whole scrapes: between two of them nothing is new."""
    step = max(1, math.ceil(minutes * 60 / POINTS / scrape_seconds)) * scrape_seconds
    return Window(int(now), step, minutes * 60 // step + 1, scrape_seconds)


def expanded(expression: str, variables: dict[str, str]) -> str:
    """The query with Grafana's variables filled in. One that is not known is an error, as Prometheus would call it."""

    def value(match: re.Match[str]) -> str:
        if match[0] not in variables:
            raise PlatformError(
                "a query has a variable that the page does not know",
                where=expression,
                found=match[0],
                expected=", ".join(sorted(variables)),
                fix="write the query without it (tools/dashboards/definitions.py)",
                reason="argument",
            )
        return variables[match[0]]

    # A dollar in a string, such as the end of a regular expression, is no variable.
    parts = re.split(r'("(?:[^"\\]|\\.)*")', expression)
    return "".join(part if number % 2 else _VARIABLE.sub(value, part) for number, part in enumerate(parts))


def legend(pattern: str, labels: dict[str, str]) -> str:
    """A series' name: ``{{label}}`` is the label's value."""
    return " ".join(_LABEL.sub(lambda match: labels.get(match[1], ""), pattern).split())


class Prometheus:
    """One server, asked from inside of its pod: its NetworkPolicy lets in nobody who is not named, the API server's
    proxy neither.
    """

    def __init__(self, cluster: Cluster, namespace: str, pod: str, container: str, port: int) -> None:
        self.cluster, self.namespace, self.pod, self.container, self.port = cluster, namespace, pod, container, port

    def ask(self, path: str, query: dict[str, Any] | None = None) -> Any:
        """What ``data`` of the answer has (https://prometheus.io/docs/prometheus/latest/querying/api/)."""
        target = f"/api/v1/{path}?{urlencode(query or {})}"
        command = ["sh", "-c", _GET, str(self.port), target]
        try:
            ran = run_in_pod(self.cluster, self.namespace, self.pod, command, container=self.container)
        except PlatformError as failure:
            raise self._silent(failure.found or failure.what, failure.reason) from failure
        try:
            answer = json.loads(ran.stdout.replace("\r\n", "\n").partition("\n\n")[2])
        except ValueError:
            # wget shows no body of an answer that is an error, but its status.
            answer = {"status": "error" if "HTTP/" in ran.stderr else "", "error": ran.stderr.strip()}
        if answer["status"] == "success":
            return answer["data"]
        if answer["status"] == "error" and query:
            raise PlatformError(
                "Prometheus cannot answer a query",
                where=query["query"],
                found=str(answer["error"]),
                expected="an answer within the time and the samples that Prometheus allows a query",
                fix="correct the query in tools/dashboards/definitions.py, or ask for fewer minutes",
                reason="answer",
            )
        raise self._silent(ran.stderr.strip() or ran.stdout.strip()[:300] or f"exit code {ran.code}", "answer")

    def answers(self) -> None:
        """Raises where it does not, so that not each query has to."""
        self.ask("status/buildinfo")

    def _silent(self, found: str, reason: str) -> PlatformError:
        return PlatformError(
            "Prometheus does not answer",
            where=f"Pod {self.namespace}/{self.pod}, container {self.container}",
            found=found,
            expected=f"Prometheus' API on port {self.port} of the pod, and the right to run a command there",
            fix="see that monitoring_enabled is true, that the pod runs (kubectl get pods -A | grep prometheus), and "
            "that you may create pods/exec in its namespace",
            reason=reason,
        )

    def series(self, panel: Panel, shown: Window) -> list[dict[str, Any]]:
        """Each line of a panel, sorted by name: ``name``, and ``values`` at the window's times, None where there is
        none."""
        found = []
        for query in panel.queries:
            data = self.ask(
                "query_range",
                {
                    "query": expanded(query.expression, shown.variables),
                    "start": shown.start,
                    "end": shown.end,
                    "step": shown.step,
                },
            )
            for one in data["result"]:
                values = placed(one["values"], shown)
                if any(value is not None for value in values):
                    found.append({"name": legend(query.legend, one["metric"]), "values": values})
        return sorted(found, key=lambda one: str(one["name"]))

    def all_series(self, panels: list[Panel], shown: Window) -> list[list[dict[str, Any]]]:
        """Those of each panel, asked for side by side."""
        self.answers()
        return all_or_error("panels cannot be drawn", concurrently(lambda panel: self.series(panel, shown), panels))


def placed(samples: list[list[Any]], shown: Window) -> list[float | None]:
    """Prometheus' samples (time, text) at the window's times; NaN and infinities are no value to draw."""
    values: list[float | None] = [None] * shown.points
    for at, text in samples:
        index = round((float(at) - shown.start) / shown.step)
        number = float(text)
        if 0 <= index < shown.points and math.isfinite(number):
            values[index] = float("%.5g" % number)
    return values


def embedded(value: Any) -> str:
    """JSON that can stand in a script element: no text of it ends the element."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")

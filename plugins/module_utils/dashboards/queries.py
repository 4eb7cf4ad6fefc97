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

from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import (
    all_or_error,
    concurrently,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.dashboards.panels import Panel
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.prometheus.prometheus import Prometheus

POINTS = 240
"""Of a line: about as many as a panel has pixels on a phone."""

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


def series_of(prometheus: Prometheus, panel: Panel, shown: Window) -> list[dict[str, Any]]:
    """A panel's lines, sorted by name: ``name``, and ``values`` at the window's times, None where there is none."""
    found = []
    for query in panel.queries:
        expression = expanded(query.expression, shown.variables)
        asked = {"query": expression, "start": shown.start, "end": shown.end, "step": shown.step}
        try:
            data = prometheus.ask("query_range", asked)
        except PlatformError as failure:
            if failure.reason != "answer":
                raise
            raise PlatformError(
                "Prometheus cannot answer a query",
                where=expression,
                found=failure.found,
                expected="an answer within the time and the samples that Prometheus allows a query",
                fix="correct the query in tools/dashboards/definitions.py, or ask for fewer minutes",
                reason="answer",
            ) from failure
        for one in data["result"]:
            values = placed(one["values"], shown)
            if any(value is not None for value in values):
                found.append({"name": legend(query.legend, one["metric"]), "values": values})
    return sorted(found, key=lambda one: str(one["name"]))


def all_series(prometheus: Prometheus, panels: list[Panel], shown: Window) -> list[list[dict[str, Any]]]:
    """Those of each panel, asked for side by side, once one question has shown that there is somebody to ask."""
    prometheus.ask("status/buildinfo")
    asked = concurrently(lambda panel: series_of(prometheus, panel, shown), panels)
    return all_or_error("panels cannot be drawn", asked)


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

# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Grafana's dashboards, as files have them, read for what a page draws."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError

LOOKS = {"timeseries": "lines", "stat": "number"}
"""Panel types that the page knows."""
SOURCES = {"prometheus": "prometheus", "postgresql": "grafana-postgresql-datasource"}
"""The data sources of the role's Grafana: uid and type."""


@dataclass(frozen=True)
class Query:
    """PromQL with Grafana's variables, and its legend with ``{{label}}`` for labels."""

    expression: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """``elsewhere`` is the kind of data source where that is not Prometheus. ``limits``: value and colour.
    ``colours``: of series that have one of their own, by name.
    """

    dashboard: str
    title: str
    says: str
    look: str
    unit: str
    least: float | None
    most: float | None
    limits: list[tuple[float | None, str]]
    colours: dict[str, str]
    queries: list[Query]
    elsewhere: str

    @property
    def name(self) -> str:
        """Dashboard and panel, as errors and tests name it."""
        return f"{self.dashboard}: {self.title}"


@dataclass(frozen=True)
class Dashboard:
    name: str
    title: str
    says: str
    panels: list[Panel] = field(default_factory=list)


def read(folder: str) -> list[Dashboard]:
    """The dashboards of a folder, the overview first and the others by their titles."""
    paths = sorted(Path(folder).glob("*.json"))
    if not paths:
        raise PlatformError(
            "there are no dashboards to draw",
            where=folder,
            found="no file NAME.json",
            expected="files of Grafana's dashboards",
            fix="name the folder that has them, or write them anew: tools/dashboards/generate",
            reason="missing",
        )
    found = [_dashboard(path) for path in paths]
    return sorted(found, key=lambda one: ("overview" not in one.name, one.title))


def _dashboard(path: Path) -> Dashboard:
    try:
        text = json.loads(path.read_text(encoding="utf-8"))
        title = text["title"]
        panels = [panel for entry in text["panels"] for panel in _panels(entry, title)]
    except (ValueError, KeyError, TypeError) as failure:
        raise PlatformError(
            "a dashboard cannot be read",
            where=str(path),
            found="%s: %s" % (type(failure).__name__, failure),
            expected="a dashboard as tools/dashboards/generate writes it, of panels timeseries and stat",
            fix="write it anew: tools/dashboards/generate",
            reason="argument",
        ) from failure
    return Dashboard(path.stem, title, text.get("description", ""), panels)


def _panels(entry: dict[str, Any], dashboard: str) -> Iterator[Panel]:
    if entry["type"] == "row":  # a heading
        return
    settings = entry["fieldConfig"]
    defaults = settings["defaults"]
    custom = defaults.get("custom", {})
    stacked = custom.get("stacking", {}).get("mode") == "normal"
    uid, source = entry["datasource"]["uid"], entry["datasource"]["type"]
    if SOURCES.get(uid) != source:
        raise PlatformError(
            "a panel asks a data source that there is not",
            where="%s: %s" % (dashboard, entry["title"]),
            found="%s (%s)" % (uid, source),
            expected=", ".join("%s (%s)" % one for one in SOURCES.items()),
            fix="correct the panel in tools/dashboards/definitions.py, then tools/dashboards/generate",
            reason="argument",
        )
    elsewhere = "" if uid == "prometheus" else source
    yield Panel(
        dashboard=dashboard,
        title=entry["title"],
        says=entry.get("description", ""),
        look="stack" if stacked else LOOKS[entry["type"]],
        unit=defaults.get("unit", "none"),
        least=defaults.get("min"),
        most=defaults.get("max"),
        limits=[(step["value"], step["color"]) for step in defaults["thresholds"]["steps"]],
        colours={
            override["matcher"]["options"]: entry["value"]["fixedColor"]
            for override in settings.get("overrides", [])
            if override["matcher"]["id"] == "byName"
            for entry in override["properties"]
            if entry["id"] == "color"
        },
        queries=[] if elsewhere else [Query(target["expr"], target["legendFormat"]) for target in entry["targets"]],
        elsewhere=elsewhere,
    )

# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The logic of the module ``dashboards``: all dashboards, drawn from a running Prometheus into one file."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.dashboards.panels import (
    Dashboard,
    Panel,
    read,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.dashboards.queries import (
    Window,
    all_series,
    embedded,
    window,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import (
    Cluster,
    auth_argument_spec,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.prometheus.prometheus import POD, Prometheus

ARGUMENT_SPEC: dict[str, Any] = {
    **auth_argument_spec(),
    "folder": {"type": "path", "required": True},
    "page": {"type": "path", "required": True},
    "library": {"type": "path", "required": True},
    "output": {"type": "path", "required": True},
    "prometheus": {
        "type": "dict",
        "required": True,
        "options": {
            "namespace": {"type": "str", "required": True},
            "pod": {"type": "str", "default": POD},
            "port": {"type": "int", "default": 9090},
        },
    },
    "minutes": {"type": "int", "default": 60},
    "scrape_seconds": {"type": "int", "default": 15},
}

_PARTS = {
    "/*STYLE*/": ("page", "page.css"),
    "/*LIBRARY_STYLE*/": ("library", "uPlot.min.css"),
    "/*LIBRARY*/": ("library", "uPlot.iife.min.js"),
    "/*SCRIPT*/": ("page", "page.js"),
}
"""What page.html has a place for, and where that is."""


def run(
    params: dict[str, Any],
    check_mode: bool,
    diff: bool,
    progress: Callable[[str], None],
    connect: Callable[[dict[str, Any]], Cluster] = Cluster,
) -> dict[str, Any]:
    """Ask for all panels and write the page."""
    if params["minutes"] < 1 or params["scrape_seconds"] < 1:
        raise PlatformError(
            "a time is too short to draw",
            where="minutes %s, scrape_seconds %s" % (params["minutes"], params["scrape_seconds"]),
            expected="1 or more",
            fix="give the minutes before now that the panels shall show, and Prometheus' interval of scrapes",
            reason="argument",
        )
    frame = page_frame(params)
    boards = read(params["folder"])
    panels = [panel for board in boards for panel in board.panels if not panel.elsewhere]
    shown = window(params["minutes"], params["scrape_seconds"], time.time())
    progress("%d panels of %d dashboards" % (len(panels), len(boards)))
    series = all_series(Prometheus(connect(params), **params["prometheus"]), panels, shown)
    series_of = dict(zip((panel.name for panel in panels), series, strict=True))
    empty = [name for name, found in series_of.items() if not found]
    if not check_mode:
        write(params["output"], filled(frame, boards, series_of, shown))
    return {
        "changed": True,
        "output": params["output"],
        "dashboards": len(boards),
        "panels": len(panels),
        "panels_without_data": empty,
        "panels_elsewhere": [panel.name for board in boards for panel in board.panels if panel.elsewhere],
    }


def page_frame(params: dict[str, Any]) -> str:
    """The page with its style and its programs, without data."""
    frame = _part(Path(params["page"]) / "page.html")
    for place, (argument, name) in _PARTS.items():
        # A text that ends the element that it stands in would be drawn.
        frame = frame.replace(place, _part(Path(params[argument]) / name).replace("</s", "<\\/s"))
    return frame


def _part(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as failure:
        raise PlatformError(
            "a part of the page is not there",
            where=str(path),
            found=failure.strerror or str(failure),
            expected="page.html, page.css and page.js of the role monitoring, and uPlot's uPlot.iife.min.js and "
            "uPlot.min.css",
            fix="tools/dashboards/library FOLDER installs uPlot; playbooks/dashboards.yml does so by itself",
            reason="missing",
        ) from failure


def filled(frame: str, boards: list[Dashboard], series_of: dict[str, list[dict[str, Any]]], shown: Window) -> str:
    """The page with its data."""
    data = {
        "start": shown.start,
        "step": shown.step,
        "points": shown.points,
        "dashboards": [
            {
                "name": board.name,
                "title": board.title,
                "says": board.says,
                "panels": [_drawn(panel, series_of.get(panel.name, [])) for panel in board.panels],
            }
            for board in boards
        ],
    }
    return frame.replace("/*DATA*/", embedded(data))


def _drawn(panel: Panel, series: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "title": panel.title,
        "says": panel.says,
        "look": panel.look,
        "unit": panel.unit,
        "least": panel.least,
        "most": panel.most,
        "limits": panel.limits,
        "colours": panel.colours,
        "elsewhere": panel.elsewhere,
        "series": series,
    }


def write(output: str, text: str) -> None:
    """All of it or nothing: a browser may read it meanwhile."""
    folder = os.path.dirname(output) or "."
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=folder, delete=False) as file:
            file.write(text)
        os.chmod(file.name, 0o644)
        os.replace(file.name, output)
    except OSError as failure:
        raise PlatformError(
            "the page cannot be written",
            where=output,
            found=failure.strerror or str(failure),
            expected="a folder that can be written to, with room for some megabytes",
            fix="give another file as output (dashboards_output)",
            reason="argument",
        ) from failure

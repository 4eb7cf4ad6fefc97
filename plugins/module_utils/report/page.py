# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module ``report`` has gathered as one HTML page, which needs nothing else: no script, no font, no network.

Its style is that of the dashboards (roles/monitoring/files/page/page.css), of capacity's page and a few lines of
its own (roles/platform/files/report/page.css).
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any, Union

from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.table import shown
from ansible_collections.lambda_microservice.platform.plugins.module_utils.report import state

GOOD, BAD, DOUBTFUL = "green", "red", "orange"
"""Classes of the style sheet, each with 4.5:1 in both themes. A word says the same beside the colour."""

Cell = Union[str, tuple[str, str]]  # noqa: UP007 - evaluated, and ansible-test's pylint assumes a Python without |
"""A text, or a text and its class."""


def drawn(report: dict[str, Any], style: str) -> str:
    """The page."""
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        "<title>Lambda microservice platform: report</title>",
        '<link rel="icon" href="data:,">',
        f"<style>{style}</style>\n</head>\n<body>",
        "<h1>The running platform</h1>",
        f'<p id="about">{escape(report["cluster"])}, {escape(report["made_at"])}</p>',
        "<main>",
        _figures(report),
        _alerts(report),
        _drift(report),
        _workloads(report),
        _versions(report),
        _section("endpoints", "Endpoints", _table(["endpoint", "kind", "address"], _rows_of(report["endpoints"]))),
        _certificates(report),
        _backups(report),
        _drills(report),
        _capacity(report),
        _recommendations(report),
        _notes(report["notes"]),
        "</main>\n</body>\n</html>\n",
    ]
    return "\n".join(part for part in parts if part)


RECOMMENDATIONS = (
    *("workload", "container", "CPU asked", "used now", "recommended", "it asks"),
    *("memory asked", "used now", "recommended", "it asks", "mode"),
)
"""The columns of a row of state.recommendations()."""


def _section(name: str, title: str, *parts: str) -> str:
    body = "".join(parts)
    return f'<section id="{name}"><h2>{escape(title)}</h2><article class="panel">{body}</article></section>'


def _table(head: Iterable[str], rows: Iterable[Iterable[Cell]]) -> str:
    titles = "".join(f'<th scope="col" class="text">{escape(title)}</th>' for title in head)
    body = []
    for row in rows:
        cells = []
        for cell in row:
            text, mark = cell if isinstance(cell, tuple) else (cell, "")
            cells.append(f'<td class="{f"text {mark}".strip()}">{escape(text)}</td>')
        body.append(f"<tr>{''.join(cells)}</tr>")
    if not body:
        return "<p>none</p>"
    whole = f"<table><thead><tr>{titles}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    return f'<div class="scroll" tabindex="0">{whole}</div>'


def _said(text: str) -> str:
    return f"<p>{escape(text)}</p>" if text else ""


def _rows_of(rows: list[dict[str, Any]]) -> list[list[Cell]]:
    return [[str(value) for value in row.values()] for row in rows]


def _figures(report: dict[str, Any]) -> str:
    pods = report["workloads"]
    ready, wanted = sum(one["ready"] for one in pods), sum(one["wanted"] for one in pods)
    ends = [one["days_left"] for one in report["certificates"]]
    figures: list[tuple[str, str, str]] = [
        ("Pods ready", f"{ready} of {wanted}", GOOD if ready == wanted else BAD),
        ("Nodes ready", "{ready} of {all}".format(**report["nodes_ready"]), ""),
        ("Alerts", _counted(report["alerts"]), _mark(report["alerts"])),
        ("Drift", _counted(report["drift"]), _mark(report["drift"])),
        ("Next certificate ends in", f"{min(ends)} days" if ends else "unknown", _by_days(min(ends)) if ends else ""),
        ("Kubernetes", report["kubernetes"], ""),
    ]
    panels = "".join(
        f'<article class="panel number"><h3>{escape(name)}</h3><div class="big {mark}">{escape(value)}</div></article>'
        for name, value, mark in figures
    )
    return f'<section class="panels" id="figures">{panels}</section>'


def _counted(rows: list[dict[str, Any]] | None) -> str:
    return "unknown" if rows is None else str(len(rows)) if rows else "none"


def _mark(rows: list[dict[str, Any]] | None) -> str:
    return DOUBTFUL if rows is None else BAD if rows else GOOD


def _by_days(days: int) -> str:
    return BAD if days < 3 else DOUBTFUL if days < 21 else GOOD


def _alerts(report: dict[str, Any]) -> str:
    if report["alerts"] is None:
        return _section("alerts", "Alerts", _said("unknown: " + report["alerts_unknown"]))
    rows: list[list[Cell]] = [
        [
            one["name"],
            (one["severity"], BAD if one["severity"] in ("P1", "P2") else DOUBTFUL),
            one["since"],
            one["said"],
        ]
        for one in report["alerts"]
    ]
    return _section("alerts", "Alerts", _table(["alert", "severity", "since", "what"], rows))


def _drift(report: dict[str, Any]) -> str:
    if report["drift"] is None:
        return _section("drift", "Drift", _said("unknown: " + report["drift_unknown"]))
    rows: list[list[Cell]] = [
        [
            one["object"],
            (one["kind"], DOUBTFUL if one["kind"] == "foreign" else BAD),
            one["component"] or "-",
            "; ".join(part for part in (", ".join(one["fields"][:6]), one["note"]) if part),
        ]
        for one in report["drift"]
    ]
    text = "" if rows else "What runs is what the inventory has."
    return _section("drift", "Drift", _said(text) if text else _table(["object", "what", "component", "fields"], rows))


def _workloads(report: dict[str, Any]) -> str:
    zones = report["zones"]
    rows: list[list[Cell]] = []
    for one in report["workloads"]:
        mark = GOOD if one["ready"] >= one["wanted"] else BAD
        cells: list[Cell] = [f"{one['namespace']}/{one['name']}", (f"{one['ready']} of {one['wanted']}", mark)]
        rows.append([*cells, *(str(one["by_zone"].get(zone, 0) or "-") for zone in zones), one["kind"]])
    head = ["workload", "ready", *(zone or "no zone" for zone in zones), "kind"]
    return _section("workloads", "Replicas by zone", _table(head, rows))


def _versions(report: dict[str, Any]) -> str:
    head = ["release", "chart", "version", "revision", "deployed", "component"]
    images = _table(["image", "digest", "pods"], _rows_of(report["images"]))
    return _section("versions", "Versions", _table(head, _rows_of(report["releases"])), "<h3>Images</h3>", images)


def _certificates(report: dict[str, Any]) -> str:
    rows: list[list[Cell]] = [
        [one["secret"], (f"{one['days_left']} days", _by_days(one["days_left"])), one["ends"], one["subject"]]
        for one in report["certificates"]
    ]
    return _section("certificates", "Certificates", _table(["Secret", "left", "ends", "subject"], rows))


def _backups(report: dict[str, Any]) -> str:
    rows: list[list[Cell]] = []
    for one in report["backups"]:
        hours = one["age_hours"]
        old = hours is None or hours > 26
        age = "never" if hours is None else f"{shown(hours)} h ago"
        rows.append([one["what"], (age, BAD if old else GOOD), one["last"] or "-", one["kind"]])
    return _section("backups", "Backups", _table(["backup", "age", "last success", "by"], rows))


def _drills(report: dict[str, Any]) -> str:
    drills = report["drills"]
    rows: list[list[Cell]] = [
        [one["drill"], (one["verdict"], GOOD if one["verdict"] == "held" else BAD), one["said"]]
        for one in drills["rows"]
    ]
    return _section(
        "drills", "Last drills", _said(drills["said"]), _table(["drill", "verdict", "measured"], rows) if rows else ""
    )


def _capacity(report: dict[str, Any]) -> str:
    rows = []
    for node in report["nodes"]:
        # A line of its own: beside the bars there is no room for it on a phone.
        name = f"{node['name']}, {node['zone'] or 'no zone'}"
        rows.append(f'<b style="grid-column:1/-1">{escape(name)}</b>')
        for key, unit, colour in (("cpu", "CPU", "--line-0"), ("memory_gib", "GiB", "--line-2")):
            whole, free = node[key], node[f"free_{key}"]
            used = 100 * (whole - free) / whole if whole else 100
            told = f"{shown(free)} of {shown(whole)} free"
            rows.append(
                f'<span>{unit}</span><span class="bar" role="img" aria-label="{escape(f"{name}: {unit}, {told}")}">'
                f'<i style="width:{min(100.0, used):.2f}%;background:var({colour})"></i></span>'
                f'<span class="figure">{escape(told)}</span>'
            )
    bars = f'<div class="bars chart">{"".join(rows)}</div>' if rows else "<p>unknown</p>"
    return _section("capacity", "Capacity left, by requests", bars)


def _recommendations(report: dict[str, Any]) -> str:
    found = report["recommendations"]
    if found is None:
        return _section(
            "recommendations", "Recommendations of VPA", _said("off: this cluster has no VerticalPodAutoscaler")
        )
    marks = {state.TOO_LITTLE: BAD, state.TOO_MUCH: DOUBTFUL, state.RIGHT: GOOD}
    rows: list[list[Cell]] = [
        [(value, marks.get(value, "")) if key.startswith("verdict_") else value for key, value in row.items()]
        for row in found
    ]
    return _section("recommendations", "Recommendations of VPA", _table(RECOMMENDATIONS, rows))


def _notes(notes: list[str]) -> str:
    if not notes:
        return ""
    told = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return _section("notes", "Not on this page", f'<ul class="said">{told}</ul>')

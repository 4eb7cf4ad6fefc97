# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of the module ``capacity`` as one HTML page, which needs nothing else: no script, no font, no network.

Its colours are those of the dashboards (roles/monitoring/files/page/page.css).
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.table import shown, span

_COLOURS = 8
"""As many as the style sheet has for lines."""


def drawn(report: dict[str, Any], style: str) -> str:
    """The page."""
    names = [part["name"] for part in report["components"]]
    colour = {name: f"var(--line-{number % _COLOURS})" for number, name in enumerate(names)}
    parts = [
        _headline(report),
        _bars(report, colour),
        _nodes(report, colour),
        _needed(report),
        _design(report["design"]),
        _workloads(report),
        _notes(report["notes"]),
    ]
    about = "Requests of what the roles would render, before there is a cluster.\nPale is what autoscalers may add."
    return document("capacity", "What this inventory needs", about, style, parts)


def document(subject: str, title: str, about: str, style: str, parts: Iterable[str]) -> str:
    """A whole page of these sections, which needs nothing else."""
    page = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>Lambda microservice platform: {escape(subject)}</title>",
        '<link rel="icon" href="data:,">',
        f"<style>{style}</style>\n</head>\n<body>",
        f"<h1>{escape(title)}</h1>",
        f'<p id="about">{escape(about)}</p>',
        "<main>",
        *(part for part in parts if part),
        "</main>\n</body>\n</html>\n",
    ]
    return "\n".join(page)


def _headline(report: dict[str, Any]) -> str:
    total = report["total"]
    figures = [
        ("CPU", span(total["least"]["cpu"], total["most"]["cpu"])),
        ("Memory, GiB", span(total["least"]["memory_gib"], total["most"]["memory_gib"])),
        ("Disk, GiB", span(total["least"]["disk_gib"], total["most"]["disk_gib"])),
        ("Pods", span(total["least"]["pods"], total["most"]["pods"])),
    ]
    for one in report["pools"] or []:
        month = one["month"]
        if month:
            figures.append((f"A month, {one['nodes']} nodes", f"{month['total']:,.0f} {month['currency']}"))
    panels = "".join(
        f'<article class="panel number"><h3>{escape(name)}</h3><div class="big">{escape(value)}</div></article>'
        for name, value in figures
    )
    return f'<section class="panels" id="figures">{panels}</section>'


def _bars(report: dict[str, Any], colour: dict[str, str]) -> str:
    panels = []
    for key, title in (("cpu", "CPU"), ("memory_gib", "Memory, GiB"), ("disk_gib", "Disk, GiB")):
        parts = [part for part in report["components"] if part["most"][key]]
        largest = max((part["most"][key] for part in parts), default=0) or 1
        rows = []
        for part in parts:
            least, most = part["least"][key], part["most"][key]
            told = f"{part['name']}: {span(least, most)}"
            rows.append(
                f"<span>{escape(part['name'])}</span>"
                f'<span class="bar" role="img" aria-label="{escape(told)}">'
                f'<i class="most" style="width:{100 * most / largest:.2f}%;background:{colour[part["name"]]}"></i>'
                f'<i style="width:{100 * least / largest:.2f}%;background:{colour[part["name"]]}"></i></span>'
                f'<span class="figure">{escape(span(least, most))}</span>'
            )
        panels.append(f'<article class="panel"><h3>{title}</h3><div class="bars chart">{"".join(rows)}</div></article>')
    return f'<section id="components"><h2>By component</h2><div class="panels">{"".join(panels)}</div></section>'


def _nodes(report: dict[str, Any], colour: dict[str, str]) -> str:
    sections = []
    for one in report["pools"]:
        state = "autoscalers at their most" if one["at"] == "most" else "at rest"
        zones: dict[str, list[dict[str, Any]]] = {}
        for node in one["placement"]:
            zones.setdefault(node["zone"], []).append(node)
        blocks = "".join(
            f'<div class="zone"><h3>{escape(zone)}</h3><div class="nodes">'
            + "".join(_node(node, colour) for node in nodes)
            + "</div></div>"
            for zone, nodes in sorted(zones.items())
        )
        told = "".join(f"<li>{escape(text)}</li>" for text in sentences(one))
        keys = "".join(
            f'<li><i style="background:{colour[part["name"]]}"></i>{escape(part["name"])}</li>'
            for part in report["components"]
            if part["most"]["pods"]
        )
        sections.append(
            f'<article class="panel wide"><h3>{one["nodes"]} nodes, {state}</h3><ul class="said">{told}</ul>'
            f'{blocks}<ul class="keys">{keys}</ul></article>'
        )
    if not sections:
        return ""
    return (
        f'<section id="nodes"><h2>Where the pods would go</h2><div class="panels">{"".join(sections)}</div></section>'
    )


def _node(node: dict[str, Any], colour: dict[str, str]) -> str:
    def stack(whole: float, key: str) -> str:
        return "".join(
            f'<i style="width:{100 * pod[key] / (whole or 1):.2f}%;background:{colour[pod["component"]]}" '
            f'title="{escape(pod["name"])} {shown(pod[key])}"></i>'
            for pod in node["pods"]
        )

    return (
        f'<div class="node"><b>{escape(node["name"])}</b>CPU, {shown(node["free_cpu"])} of {shown(node["cpu"])} free'
        f'<div class="stack">{stack(node["cpu"], "cpu")}</div>'
        f"GiB, {shown(node['free_memory_gib'])} of {shown(node['memory_gib'])} free"
        f'<div class="stack">{stack(node["memory_gib"], "memory_gib")}</div></div>'
    )


def sentences(pools: dict[str, Any]) -> list[str]:
    """What holds and what does not, of the nodes at one size."""

    def told(pending: list[dict[str, Any]]) -> str:
        return ", ".join(f"{one['workload']} {one['pods']}" for one in pending)

    found = ["Every pod has a place." if pools["fits"] else f"Without a place: {told(pools['pending'])}."]
    node, zone = pools["node_lost"], pools["zone_lost"]
    if node["node"]:
        found.append(
            f"When {node['node']} is lost, without a place: {told(node['pending'])}."
            if node["pending"]
            else "Each node can be lost: its pods have a place elsewhere."
        )
    if zone["zone"]:
        found.append(
            f"When {zone['zone']} is lost, without a place: {told(zone['pending'])}."
            if zone["pending"]
            else "Each zone can be lost: what may move has a place in the others."
        )
    if zone["waiting"]:
        found.append(f"Waiting for {zone['zone']}, where their volumes are: {told(zone['waiting'])}.")
    if pools["updates_without_room"]:
        found.append(f"An update waits for a node more: {', '.join(pools['updates_without_room'])}.")
    else:
        found.append("Every rolling update finds room.")
    return found


def table(head: Iterable[str], rows: Iterable[Iterable[str]], sums: int = 0, texts: tuple[int, ...] = ()) -> str:
    """A table that scrolls by itself where the screen is narrower. ``texts`` are the columns that are no numbers."""
    body = []
    everything = [list(row) for row in rows]
    for number, row in enumerate(everything):
        cells = "".join(
            f"<td{' class=text' if column in texts else ''}>{escape(cell)}</td>" for column, cell in enumerate(row)
        )
        body.append(f"<tr{' class=sum' if number >= len(everything) - sums else ''}>{cells}</tr>")
    titles = "".join(
        f"<th scope=col{' class=text' if column in texts else ''}>{escape(title)}</th>"
        for column, title in enumerate(head)
    )
    whole = f"<table><thead><tr>{titles}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    return f'<div class="scroll" tabindex="0">{whole}</div>'


def _needed(report: dict[str, Any]) -> str:
    rows = []
    for one in report["needed"]:
        for key, told in (("least", "at rest"), ("most", "at most")):
            counts, month = one[key], one[key].get("month")
            cells = [f"{one['type']}, {len(one['zones'])} zones, {told}"]
            cells += [
                "none is enough" if counts[name] is None else str(counts[name])
                for name in ("nodes", "nodes_node_lost", "nodes_zone_lost")
            ]
            for part in ("nodes", "volumes", "control_plane", "load_balancer", "total"):
                cells.append(f"{month[part]:,.0f}" if month else "unknown")
            rows.append(cells)
    months = [one[key]["month"] for one in report["needed"] for key in ("least", "most") if one[key].get("month")]
    said = ""
    if months:
        first = months[0]
        told = (
            f"{first['currency']} a month for the nodes that stand the loss of a zone, at list prices of "
            f"{first['region']} as of {first['as_of']}: {', '.join(first['sources'])}"
        )
        said = f"<p>{escape(told)}</p>"
    head = [
        "nodes needed",
        "all up",
        "a node lost",
        "a zone lost",
        "nodes",
        "volumes",
        "control plane",
        "balancer",
        "a month",
    ]
    costs = table(head, rows)
    return f'<section id="needed"><h2>Nodes and cost</h2><article class="panel">{costs}{said}</article></section>'


def _design(design: dict[str, Any]) -> str:
    def three(cpu: float, memory: float, disk: float) -> list[str]:
        return [shown(cpu), shown(memory), shown(disk)]

    rows = []
    for row in design["rows"]:
        asked = row["asked"]
        each = three(row["cpu"], row["memory_gb"], row["disk_gb"])
        mine = (
            ["", "", "", "not here"]
            if asked is None
            else [str(asked["replicas"]), *three(asked["cpu"], asked["memory_gib"], asked["disk_gib"])]
        )
        rows.append([row["name"], str(row["replicas"]), *each, *mine])
    beside, total = design["beside_sum"], design["sum"]
    rows.append(
        [
            "beside the table",
            "",
            "",
            "",
            "",
            str(beside["pods"]),
            *three(beside["cpu"], beside["memory_gib"], beside["disk_gib"]),
        ]
    )
    for label, key in (("sum, at rest", "least"), ("sum, at most", "most")):
        mine = design["asked_sum"][key]
        theirs = three(total["cpu"], total["memory_gb"], total["disk_gb"]) if key == "least" else ["", "", ""]
        rows.append([label, "", *theirs, str(mine["pods"]), *three(mine["cpu"], mine["memory_gib"], mine["disk_gib"])])
    head = ["section 8", "replicas", "CPU", "GB", "disk GB", "here", "CPU", "GiB", "disk GiB"]
    said = f"Its table leaves out: {', '.join(design['beside'])}; and what autoscalers add." if design["beside"] else ""
    return (
        '<section id="design"><h2>Beside the design document</h2><article class="panel">'
        f"{table(head, rows, sums=2)}<p>{escape(said)}</p></article></section>"
    )


def _workloads(report: dict[str, Any]) -> str:
    rows = []
    for one in report["workloads"]:
        count = "1 a node" if one["per_node"] else "now and then" if one["passing"] else span(one["least"], one["most"])
        rows.append(
            [
                one["component"],
                f"{one['namespace']}/{one['name']}",
                ", ".join(one["containers"]) or "volume",
                count,
                shown(one["cpu"]),
                shown(one["memory_gib"]),
                shown(one["disk_gib"]),
            ]
        )
    head = ["component", "workload", "containers", "pods", "CPU each", "GiB each", "disk GiB each"]
    return (
        '<section id="workloads"><h2>Workloads</h2><article class="panel">'
        f"{table(head, rows, texts=(1, 2))}</article></section>"
    )


def _notes(notes: list[str]) -> str:
    if not notes:
        return ""
    told = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return (
        '<section id="notes"><h2>Not in these figures, or to know</h2>'
        f'<article class="panel"><ul class="said">{told}</ul></article></section>'
    )

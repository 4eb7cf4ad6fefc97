# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of the module ``rehearse`` as one HTML page, made of the parts of capacity's."""

from __future__ import annotations

from html import escape
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.page import document, table
from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.table import shown
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rehearse.table import moved_to

_COLOURS = 8
_WORDS = {"holds": "holds", "fails": "does not hold", "accepted": "accepted"}
_PARTS = (
    ("zones", "A zone lost, at rest"),
    ("most", "A zone lost, autoscalers at their most"),
    ("nodes", "A node lost, at rest"),
    ("drains", "A node drained, at rest"),
)

Nodes = list[dict[str, Any]]


def drawn(report: dict[str, Any], style: str) -> str:
    """The page."""
    colour = _colours(report)
    broken = [one for one in report["promises"] if one["result"] == "fails"]
    accepted = [one for one in report["promises"] if one["result"] == "accepted"]
    kept = len(report["promises"]) - len(broken) - len(accepted)
    about = (
        f"{report['inventory']}, at full size on simulated nodes: scheduler, admission, quotas and disruption budgets "
        "are real ones. "
        f"{kept} of {len(report['promises'])} promises hold"
        + (f", {len(accepted)} are given up by the inventory" if accepted else "")
        + (f", {len(broken)} do not hold." if broken else ".")
    )
    parts = [
        _promises(report["promises"]),
        _states(report["states"], colour),
        *(_losses(title, name, report["losses"].get(name) or [], colour) for name, title in _PARTS),
        _not_rehearsed(report),
    ]
    return document("rehearsal", "What this inventory stands", about, style, parts)


def _colours(report: dict[str, Any]) -> dict[str, str]:
    names = sorted({pod["namespace"] for nodes in report["states"].values() for node in nodes for pod in node["pods"]})
    return {name: f"var(--line-{number % _COLOURS})" for number, name in enumerate(names)}


def _promises(promises: list[dict[str, Any]]) -> str:
    rows = []
    for one in promises:
        seen = "".join(f"<li>{escape(line)}</li>" for line in one["seen"])
        to_do = f"<p>To do: {escape(one['to_do'])}</p>" if one["to_do"] else ""
        rows.append(
            f'<li class="{one["result"]}"><b>{_WORDS[one["result"]]}</b><div>{escape(one["sentence"])}'
            + (f'<ul class="said">{seen}</ul>{to_do}' if seen else "")
            + f"</div><code>{escape(one['check'])}</code></li>"
        )
    return _section("promises", "Promises", f'<ul class="promises">{"".join(rows)}</ul>')


def _section(name: str, title: str, content: str) -> str:
    return (
        f'<section id="{name}"><h2>{escape(title)}</h2>'
        f'<div class="panels"><article class="panel wide">{content}</article></div></section>'
    )


def _states(states: dict[str, Nodes], colour: dict[str, str]) -> str:
    titles = {"rest": "at rest", "most": "autoscalers at their most"}
    keys = "".join(f'<li><i style="background:{tint}"></i>{escape(name)}</li>' for name, tint in colour.items())
    panels = "".join(
        f'<article class="panel wide"><h3>{len(nodes)} nodes, {titles[name]}</h3>{_zones(nodes, colour)}'
        f'<ul class="keys">{keys}</ul></article>'
        for name, nodes in states.items()
    )
    return (
        f'<section id="nodes"><h2>Where the pods are</h2><div class="panels">{panels}</div></section>' if panels else ""
    )


def _zones(nodes: Nodes, colour: dict[str, str]) -> str:
    zones: dict[str, Nodes] = {}
    for node in nodes:
        zones.setdefault(node["zone"], []).append(node)
    return "".join(
        f'<div class="zone"><h3>{escape(zone)}, {sum(len(node["pods"]) for node in here)} pods</h3>'
        f'<div class="nodes">{"".join(_node(node, colour) for node in here)}</div></div>'
        for zone, here in sorted(zones.items())
    )


def _node(node: dict[str, Any], colour: dict[str, str]) -> str:
    def stack(key: str) -> str:
        return "".join(
            f'<i style="width:{100 * pod[key] / (node[key] or 1):.1f}%;'
            f'background:{colour.get(pod["namespace"], "var(--quiet)")}" title="{escape(pod["name"])}"></i>'
            for pod in node["pods"]
            if pod[key]
        )

    free = {key: max(0.0, node[key] - sum(pod[key] for pod in node["pods"])) for key in ("cpu", "memory_gib")}
    return (
        f'<div class="node"><b>{escape(node["name"])}</b>{len(node["pods"])} pods; '
        f"{shown(free['cpu'])} of {shown(node['cpu'])} CPU free"
        f'<div class="stack">{stack("cpu")}</div>{shown(free["memory_gib"])} of {shown(node["memory_gib"])} GiB free'
        f'<div class="stack">{stack("memory_gib")}</div></div>'
    )


def _losses(title: str, name: str, losses: list[dict[str, Any]], colour: dict[str, str]) -> str:
    if not losses:
        return ""
    rows = [
        [
            one["what"],
            str(sum(bool(move["to"]) for move in one["moved"])),
            str(sum(entry["pods"] for entry in one["waiting"])),
            *([str(one["refusals"])] if name == "drains" else []),
            shown(one["seconds"]),
        ]
        for one in losses
    ]
    head = [
        title.lower(),
        "pods moved",
        "pods waiting",
        *(["evictions put off"] if name == "drains" else []),
        "s",
    ]
    details = "".join(_loss(one, colour) for one in losses)
    return _section(name, title, table(head, rows) + details)


def _loss(loss: dict[str, Any], colour: dict[str, str]) -> str:
    waiting = "".join(
        f"<li>{one['pods']} of {escape(one['workload'])} wait: {escape(one['why'])}</li>" for one in loss["waiting"]
    )
    moved = "".join(f"<li>{escape(line)}</li>" for line in moved_to(loss))
    unfinished = "".join(f"<li>{escape(line)}</li>" for line in loss["unfinished"])
    return (
        f"<details><summary>{escape(loss['what'])}: before and after</summary>"
        f'<ul class="said">{unfinished}{waiting}</ul>'
        f"<h3>Before</h3>{_zones(loss['before'], colour)}<h3>After</h3>{_zones(loss['after'], colour)}"
        f'<h3>What moved</h3><ul class="said">{moved or "<li>nothing</li>"}</ul></details>'
    )


def _not_rehearsed(report: dict[str, Any]) -> str:
    told = "".join(f"<li>{escape(text)}</li>" for text in report["not_rehearsed"])
    seconds = table(["part", "s"], [[name, shown(value)] for name, value in report["seconds"].items()])
    return _section("not-rehearsed", "Not rehearsed", f'<ul class="said">{told}</ul>') + _section(
        "seconds", "How long it took", seconds
    )

# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of the module ``capacity`` for a terminal."""

from __future__ import annotations

from typing import Any


def aligned(head: list[str], rows: list[list[str]], left: int = 1) -> list[str]:
    """Lines of an aligned table. The first ``left`` columns are texts; the others are numbers, to the right."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    rule = ["-" * width for width in widths]
    return [
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [head, rule, *rows]
    ]


def shown(value: float) -> str:
    """A number as people read it: two digits behind the point, one from ten on, none from a hundred on."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if digits else text


def span(least: float, most: float) -> str:
    """Two figures, or one where they are the same."""
    return shown(least) if least == most else f"{shown(least)} - {shown(most)}"


def lines(report: dict[str, Any]) -> list[str]:
    """The whole report."""
    return [
        *_workloads(report),
        "",
        *_components(report),
        "",
        *_nodes(report),
        *_pools(report),
        "",
        *_design(report["design"]),
        *(["", "Not in these figures, or to know:"] if report["notes"] else []),
        *[f"- {note}" for note in report["notes"]],
    ]


def _workloads(report: dict[str, Any]) -> list[str]:
    rows = []
    for one in report["workloads"]:
        count = "1 a node" if one["per_node"] else "now and then" if one["passing"] else span(one["least"], one["most"])
        if not one["containers"]:
            count = "volume"
        rows.append(
            [
                one["component"],
                f"{one['namespace']}/{one['name']}",
                "+".join(one["containers"]),
                count,
                shown(one["cpu"]),
                shown(one["memory_gib"]),
                shown(one["disk_gib"]),
            ]
        )
    head = ["component", "workload", "containers", "pods", "CPU each", "GiB each", "disk GiB each"]
    return aligned(head, rows, 3)


def _components(report: dict[str, Any]) -> list[str]:
    def row(name: str, part: dict[str, Any]) -> list[str]:
        least, most = part["least"], part["most"]
        return [name, *(span(least[key], most[key]) for key in ("pods", "cpu", "memory_gib", "disk_gib"))]

    rows = [
        row(part["name"], part) for part in report["components"] if part["most"]["pods"] or part["most"]["disk_gib"]
    ]
    rows.append(row("total", report["total"]))
    each = report["per_node"]["least"]
    if each["cpu"]:
        rows.append(["and on each node", "1 each", shown(each["cpu"]), shown(each["memory_gib"]), ""])
    return aligned(["requests, at rest - at the autoscalers' most", "pods", "CPU", "memory GiB", "disk GiB"], rows)


def _nodes(report: dict[str, Any]) -> list[str]:
    rows = []
    for one in report["needed"]:
        for key, told in (("least", "at rest"), ("most", "at most")):
            counts = one[key]
            month = counts.get("month")
            rows.append(
                [
                    f"{one['type']} over {len(one['zones'])} zones, {told}",
                    *(_count(counts[name]) for name in ("nodes", "nodes_node_lost", "nodes_zone_lost")),
                    f"{month['total']:,.0f} {month['currency']}" if month else "unknown",
                ]
            )
    head = ["nodes needed", "all up", "one node lost", "one zone lost", "a month, zone lost"]
    return aligned(head, rows)


def _count(count: int | None) -> str:
    return "none is enough" if count is None else str(count)


def _pools(report: dict[str, Any]) -> list[str]:
    if not report["pools"]:
        return []
    rows = []
    for one in report["pools"]:
        month = one["month"]
        rows.append(
            [
                f"{one['nodes']} nodes, " + ("autoscalers at their most" if one["at"] == "most" else "at rest"),
                _pending(one["pending"]),
                _pending(one["node_lost"]["pending"]),
                f"{one['zone_lost']['zone']}: {_pending(one['zone_lost']['pending'])}",
                str(len(one["updates_without_room"])) if one["updates_without_room"] else "room",
                f"{month['total']:,.0f} {month['currency']}" if month else "unknown",
            ]
        )
    head = ["platform_node_pools", "without a place", "a node lost", "a zone lost", "updates without room", "a month"]
    told = []
    for one in report["pools"]:
        for label, pending in (
            ("without a place", one["pending"]),
            (f"without a place when {one['node_lost']['node']} is lost", one["node_lost"]["pending"]),
            (f"without a place when {one['zone_lost']['zone']} is lost", one["zone_lost"]["pending"]),
            (f"waiting for {one['zone_lost']['zone']}, where their volumes are", one["zone_lost"]["waiting"]),
        ):
            if pending:
                names = ", ".join(f"{each['workload']} {each['pods']}" for each in pending)
                told.append(f"{one['nodes']} nodes, {label}: {names}")
        if one["updates_without_room"]:
            told.append(
                f"{one['nodes']} nodes, an update waits for a node more: {', '.join(one['updates_without_room'])}"
            )
    return ["", *aligned(head, rows), *[f"- {line}" for line in told]]


def _pending(pending: list[dict[str, Any]]) -> str:
    return str(sum(one["pods"] for one in pending)) if pending else "none"


def _three(part: dict[str, Any]) -> str:
    return " / ".join(shown(part[key]) for key in ("cpu", "memory_gib", "disk_gib"))


def _design(design: dict[str, Any]) -> list[str]:
    rows = []
    for row in design["rows"]:
        asked = row["asked"]
        told = "not in this inventory" if asked is None else f"{asked['replicas']} x {_three(asked)}"
        rows.append([row["name"], f"{row['replicas']} x {row['cpu']} / {row['memory_gb']} / {row['disk_gb']}", told])
    total, asked, beside = design["sum"], design["asked_sum"], design["beside_sum"]
    rows.append(
        [
            "beside the table",
            "",
            f"{beside['pods']} pods, {_three(beside)}",
        ]
    )
    for label, key in (("sum, at rest", "least"), ("sum, at the autoscalers' most", "most")):
        mine = asked[key]
        rows.append(
            [
                label,
                f"{total['cpu']} / {total['memory_gb']} / {total['disk_gb']}" if key == "least" else "not in the table",
                _three(mine),
            ]
        )
    return aligned(["CPU / GB / GB of disk", "design document, section 8", "this inventory"], rows, 3)

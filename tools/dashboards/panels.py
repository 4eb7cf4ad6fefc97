"""A table of panels as Grafana's JSON, of which the page of playbooks/dashboards.yml draws everything, too."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_model
from grafana_foundation_sdk.models import dashboard as model

PROMETHEUS = model.DataSourceRef(type_val="prometheus", uid="prometheus")
POSTGRESQL = model.DataSourceRef(type_val="grafana-postgresql-datasource", uid="postgresql")
STATUS_COLOURS = {"2xx": "green", "3xx": "blue", "4xx": "orange", "5xx": "red"}
COLOURS = {
    "below": ["green", "orange", "red"],
    "above": ["red", "orange", "green"],
    "between": ["red", "green", "red"],
}


@dataclass(frozen=True)
class Panel:
    """``queries`` are PromQL by their legend, with ``{{label}}`` for a label; with ``sql``, SQL.

    ``limits``: one, from which on something is wrong, or two, from the first of which on it is worth a look. ``good``
    is below them, above them, or between the two.
    With ``statuses``, the series are classes of HTTP's.
    ``look``: lines, stack (lines on each other) or number (the newest value).
    """

    title: str
    unit: str
    queries: dict[str, str]
    says: str = ""
    limits: tuple[float, ...] = ()
    look: str = "lines"
    good: str = "below"
    most: float | None = None
    statuses: bool = False
    sql: bool = False


@dataclass(frozen=True)
class Dashboard:
    """``name`` is its file and, after ``lambda-``, its address in Grafana."""

    name: str
    title: str
    says: str
    panels: tuple[Panel, ...]


class Sql:
    """A query of the PostgreSQL data source, which the SDK does not know. Gives time, metric (the legend) and value."""

    def __init__(self, text: str) -> None:
        self.text = text

    def build(self) -> Sql:
        return self

    def to_json(self) -> dict[str, Any]:
        source = {"type": POSTGRESQL.type_val, "uid": POSTGRESQL.uid}
        return {"refId": "A", "datasource": source, "format": "time_series", "rawQuery": True, "rawSql": self.text}


def steps(panel: Panel) -> list[model.Threshold]:
    first, second, third = COLOURS[panel.good]
    colours = [first, second, third] if len(panel.limits) == 2 else [first, third]
    # Without limits only the first is left.
    return [
        model.Threshold(value=value, color=colour)
        for value, colour in zip([None, *panel.limits], colours, strict=False)
    ]


def targets(panel: Panel) -> list[Any]:
    if panel.sql:
        return [Sql(text) for text in panel.queries.values()]
    return [
        prometheus.Dataquery().expr(query).legend_format(legend).ref_id(chr(ord("A") + number)).range()
        for number, (legend, query) in enumerate(panel.queries.items())
    ]


def lines(panel: Panel) -> timeseries.Panel:
    built = timeseries.Panel().span(12).height(8).line_width(1.5).show_points(common_model.VisibilityMode.NEVER)
    built.legend(
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(common_model.LegendDisplayMode.LIST)
        .placement(common_model.LegendPlacement.BOTTOM)
    ).tooltip(common.VizTooltipOptions().mode(common_model.TooltipDisplayMode.MULTI))
    if panel.look == "stack":
        built.stacking(common.StackingConfig().mode(common_model.StackingMode.NORMAL)).fill_opacity(25)
    if panel.limits:
        dashed = common_model.GraphTresholdsStyleMode.DASHED
        built.thresholds_style(common.GraphThresholdsStyleConfig().mode(dashed))
    return built


def number(panel: Panel) -> stat.Panel:
    newest = common.ReduceDataOptions().calcs(["lastNotNull"])
    graph, colour = common_model.BigValueGraphMode.AREA, common_model.BigValueColorMode.VALUE
    return stat.Panel().span(6).height(4).reduce_options(newest).graph_mode(graph).color_mode(colour)


def drawn(panel: Panel, identity: int) -> Any:
    built = number(panel) if panel.look == "number" else lines(panel)
    built.id(identity).title(panel.title).unit(panel.unit).targets(targets(panel)).no_value("no data")
    built.datasource(POSTGRESQL if panel.sql else PROMETHEUS)
    built.thresholds(dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps(panel)))
    if panel.says:
        built.description(panel.says)
    built.min(0)
    if panel.most is not None:
        built.max(panel.most)
    for name, colour in STATUS_COLOURS.items() if panel.statuses else ():
        fixed = {"mode": "fixed", "fixedColor": colour}
        built.override_by_name(name, [model.DynamicConfigValue(id_val="color", value=fixed)])
    return built


def text(board: Dashboard) -> str:
    """The file's content."""
    built = (
        dashboard.Dashboard(board.title)
        .uid(f"lambda-{board.name}")
        .description(board.says)
        .tags(["lambda-microservice-platform"])
        .readonly()
        .time("now-1h", "now")
        .refresh("30s")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
    )
    for identity, panel in enumerate(board.panels, 1):
        built.with_panel(drawn(panel, identity))
    return json.dumps(built.build(), cls=JSONEncoder, indent=2, ensure_ascii=False, sort_keys=True) + "\n"

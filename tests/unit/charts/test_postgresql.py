"""The chart postgresql: what its objects say."""

from __future__ import annotations

import configparser

from .conftest import CHARTS, Render

(CHART,) = (chart for chart in CHARTS if chart.name == "postgresql")


def test_the_role_that_asks_for_verifiers_has_fewer_sessions_than_postgresql_allows_it(render: Render) -> None:
    """Two for each PgBouncer and two more, for one more PgBouncer in an update (templates/roles.sql.j2): one login too
    many is refused, and PgBouncer lets nobody in for a second then."""
    rendered = render(CHART, {"pgbouncer": {"pools": {"controller": 15}}})
    text = rendered.one("ConfigMap", "pgbouncer-configuration")["data"]["pgbouncer.ini"]
    configuration = configparser.ConfigParser(delimiters=("=",))
    configuration.read_string(text)
    assert dict(configuration["users"]) == {"pgbouncer": "pool_size=2", "controller": "pool_size=15"}

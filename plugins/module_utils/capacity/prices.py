# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A table of prices, and what nodes and volumes cost a month by it."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.workloads import GIB, Workload
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError

_ZONE_OF_REGION = re.compile(r"^(?P<region>[a-z]+-[a-z]+\d+|[a-z]+(?:-[a-z]+)+-\d+)-?[a-z]$")
"""``europe-west3-b`` is of ``europe-west3``, ``us-east-1a`` of ``us-east-1``."""


class Prices:
    """The table, as the file capacity_prices has it."""

    def __init__(self, table: Any, where: str) -> None:
        self.where = where
        if not isinstance(table, dict) or not isinstance(table.get("clouds"), dict):
            raise self._wrong("the table of prices cannot be used", "no clouds in it", "as_of, currency and clouds")
        self.table = table
        self.currency = str(table.get("currency", "USD"))
        self.as_of = str(table.get("as_of", ""))
        self.hours = self._positive(table.get("hours_a_month", 730), "hours_a_month")

    def _wrong(self, what: str, found: str, expected: str) -> PlatformError:
        return PlatformError(
            what,
            where=self.where,
            found=found,
            expected=expected,
            fix="complete the table, or name another one in capacity_prices",
            reason="argument",
        )

    def _positive(self, value: Any, name: str) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
            raise self._wrong("a price is no number", "%s %r" % (name, value), "a number of 0 or more")
        return float(value)

    def month(
        self, cloud: str, zones: list[str], node_type: str, nodes: int, workloads: list[Workload], at_most: bool
    ) -> dict[str, Any]:
        """What so many nodes and the workloads' volumes cost, by part, and of which regions the prices are."""
        table = self.table["clouds"].get(cloud)
        if not isinstance(table, dict):
            known = ", ".join(sorted(self.table["clouds"]))
            raise self._wrong("prices are missing: the cloud %s" % cloud, "only %s" % known, "a cloud %s" % cloud)
        region = region_of(zones)
        node, node_region = self._of(table, "nodes_hour", region, node_type, cloud)
        gibibytes: dict[str, float] = {}
        for workload in workloads:
            for volume in workload.volumes:
                count = 1 if workload.per_node else workload.most if at_most else workload.least
                name = volume.storage_class or "default"
                gibibytes[name] = gibibytes.get(name, 0) + count * volume.size / GIB
        volumes = {}
        for name, size in sorted(gibibytes.items()):
            price, _region = self._of(table, "volumes_gibibyte_month", region, name, cloud, "default")
            volumes[name] = round(size * price, 2)
        parts = {
            "nodes": round(nodes * node * self.hours, 2),
            "volumes": round(sum(volumes.values()), 2),
            "control_plane": round(self._positive(table.get("cluster_hour", 0), "cluster_hour") * self.hours, 2),
            "load_balancer": round(
                self._positive(table.get("load_balancer_hour", 0), "load_balancer_hour") * self.hours, 2
            ),
        }
        return {
            **parts,
            "total": round(sum(parts.values()), 2),
            "currency": self.currency,
            "as_of": self.as_of,
            "region": node_region,
            "asked_region": region,
            "sources": list(table.get("sources") or []),
        }

    def _of(
        self, table: dict[str, Any], kind: str, region: str, name: str, cloud: str, otherwise: str = ""
    ) -> tuple[float, str]:
        regions = table.get(kind) or {}
        for place in (region, str(table.get("region", ""))):
            prices = regions.get(place) or {}
            for key in (name, otherwise):
                if key and key in prices:
                    return self._positive(prices[key], "%s.%s.%s.%s" % (cloud, kind, place, key)), place
        raise self._wrong(
            "prices are missing: %s of %s" % (name, cloud),
            "%s has none of it for %s, nor for the cloud's own region %s" % (kind, region, table.get("region")),
            "clouds.%s.%s.%s.%s" % (cloud, kind, region, name),
        )


def region_of(zones: list[str]) -> str:
    """The region that a zone's name begins with, or the name itself."""
    found = _ZONE_OF_REGION.match(zones[0]) if zones else None
    return found["region"] if found else (zones[0] if zones else "")

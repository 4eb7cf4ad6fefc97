"""What it costs, by a table that a user may replace."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.prices import Prices, region_of
from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.workloads import (
    GIB,
    Volume,
    Workload,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError

DATA = Path(__file__).resolve().parents[4] / "roles/platform/files/capacity"
TABLE = yaml.safe_load((DATA / "prices.yml").read_text())
TYPES = yaml.safe_load((DATA / "node_types.yml").read_text())
EAST = ["us-east-1a", "us-east-1b"]


def with_volume(size: int, storage_class: str, least: int = 3, most: int = 3) -> Workload:
    volume = Volume("data", size * GIB, storage_class)
    return Workload("part", "one", "StatefulSet", "db", least, most, 0, 0, ("db",), (volume,))


def test_a_month_is_nodes_volumes_and_what_is_there_once() -> None:
    month = Prices(TABLE, "prices.yml").month("eks", EAST, "m5.2xlarge", 6, [with_volume(100, "gp3")], False)
    assert month["nodes"] == pytest.approx(6 * 0.384 * 730)
    assert month["volumes"] == pytest.approx(300 * 0.08)
    assert (month["control_plane"], month["load_balancer"]) == (73, pytest.approx(16.42, abs=0.01))
    assert month["total"] == pytest.approx(
        sum(month[part] for part in ("nodes", "volumes", "control_plane", "load_balancer"))
    )
    assert (month["region"], month["as_of"]) == ("us-east-1", TABLE["as_of"])


def test_a_region_without_prices_is_counted_at_another_and_says_so() -> None:
    month = Prices(TABLE, "prices.yml").month("gke", ["europe-west3-a"], "e2-standard-8", 1, [], False)
    assert (month["asked_region"], month["region"]) == ("europe-west3", "us-central1")


def test_every_type_of_node_has_a_price_and_every_cloud_its_sources() -> None:
    for name, kind in TYPES.items():
        cloud = TABLE["clouds"][kind["cloud"]]
        assert cloud["sources"] and TABLE["as_of"]
        assert cloud["nodes_hour"][cloud["region"]][name] > 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda table: table["clouds"].pop("eks"), "prices are missing: the cloud eks"),
        (
            lambda table: table["clouds"]["eks"]["nodes_hour"]["us-east-1"].clear(),
            "prices are missing: m5.2xlarge of eks",
        ),
        (lambda table: table["clouds"]["eks"].pop("volumes_gibibyte_month"), "prices are missing: gp3 of eks"),
        (
            lambda table: table["clouds"]["eks"]["nodes_hour"]["us-east-1"].update({"m5.2xlarge": "much"}),
            "a price is no number",
        ),
        (lambda table: table.pop("clouds"), "cannot be used"),
    ],
)
def test_what_is_missing_is_named(change: Any, told: str) -> None:
    table = copy.deepcopy(TABLE)
    change(table)
    with pytest.raises(PlatformError, match=told) as failure:
        Prices(table, "mine.yml").month("eks", EAST, "m5.2xlarge", 1, [with_volume(1, "gp3")], False)
    assert failure.value.where == "mine.yml" and "capacity_prices" in failure.value.fix


@pytest.mark.parametrize(
    ("zone", "region"),
    [
        ("us-east-1a", "us-east-1"),
        ("europe-west3-b", "europe-west3"),
        ("ap-southeast-2c", "ap-southeast-2"),
        ("local", "local"),
    ],
)
def test_a_zone_is_of_a_region(zone: str, region: str) -> None:
    assert region_of([zone]) == region

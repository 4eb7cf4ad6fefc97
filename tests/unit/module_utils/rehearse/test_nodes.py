"""Simulated nodes: as many as the pools say, over their zones, with what a real one would tell of itself."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.quantities import quantity
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rehearse import cloud as clouds
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rehearse.nodes import (
    Names,
    grown,
    objects,
    region,
    wanted,
)

FILES = Path(__file__).resolve().parents[4] / "roles/platform/files"
TYPES = yaml.safe_load((FILES / "capacity/node_types.yml").read_text(encoding="utf-8"))
POOL = {
    "name": "general",
    "type": "m5.2xlarge",
    "zones": ["us-east-1a", "us-east-1b", "us-east-1c"],
    "min_count": 4,
    "max_count": 7,
    "labels": {"team": 7},
    "taints": [{"key": "dedicated", "value": "lambda", "effect": "NoSchedule"}],
}


def cloud(name: str) -> dict:
    return yaml.safe_load((FILES / f"rehearsal/{name}.yml").read_text(encoding="utf-8"))


def test_nodes_are_over_the_zones_in_turn_and_grow_to_the_most():
    names = Names()
    least = wanted([POOL], names, at_most=False)
    assert Counter(node.zone for node in least) == {"us-east-1a": 2, "us-east-1b": 1, "us-east-1c": 1}
    more = grown(least, [POOL], names)
    assert Counter(node.zone for node in [*least, *more]) == {"us-east-1a": 3, "us-east-1b": 2, "us-east-1c": 2}
    assert len({node.name for node in [*least, *more]}) == 7


def test_a_name_is_never_given_twice():
    names = Names()
    assert names.node("general", "a").name != names.node("general", "a").name


def test_a_node_has_what_its_type_leaves_and_what_the_inventory_labels():
    (node, *_others) = wanted([POOL], Names(), at_most=False)
    made, csi = objects(node, [POOL], TYPES, cloud("eks"), "v1.37.2")
    assert made["status"]["allocatable"]["cpu"] == "7910m"
    assert made["status"]["capacity"]["cpu"] == "8"
    assert made["metadata"]["labels"]["topology.kubernetes.io/zone"] == "us-east-1a"
    assert made["metadata"]["labels"]["team"] == "7"
    assert made["spec"]["taints"] == [{"key": "dedicated", "value": "lambda", "effect": "NoSchedule"}]
    assert made["spec"]["providerID"].startswith("aws:///us-east-1a/")
    assert csi["spec"]["drivers"][0]["name"] == "ebs.csi.aws.com"
    assert csi["spec"]["drivers"][0]["allocatable"]["count"] > 0


@pytest.mark.parametrize(("zone", "expected"), [("us-east-1a", "us-east-1"), ("us-central1-f", "us-central1")])
def test_a_zone_s_region(zone, expected):
    assert region(zone) == expected


@pytest.mark.parametrize("name", ["eks", "gke"])
def test_the_cloud_s_daemon_sets_ask_for_what_the_node_types_say(name):
    """Two tables say it; capacity counts by the one and the scheduler by the other."""
    agents = cloud(name)["daemon_sets"].values()
    for kind in (kind for kind in TYPES.values() if kind["cloud"] == name):
        for resource in ("cpu", "memory"):
            asked = sum((quantity(agent.get(resource, 0)) or Decimal(0) for agent in agents), Decimal(0))
            assert asked == quantity(kind["system"][resource]), resource
        assert len(agents) == kind["system"]["pods"]


@pytest.mark.parametrize("name", ["eks", "gke"])
def test_the_cloud_s_objects_are_whole(name):
    made = [*clouds.definitions(cloud(name)), *clouds.objects(cloud(name))]
    assert all(obj["metadata"]["name"] and obj["apiVersion"] for obj in made)
    defaults = [
        obj
        for obj in made
        if obj["kind"] == "StorageClass" and obj["metadata"]["annotations"].get(clouds.DEFAULT_CLASS) == "true"
    ]
    # EKS has none since 1.30: who names no class has to be found out.
    assert len(defaults) == {"eks": 0, "gke": 1}[name]

# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Simulated nodes: the objects that a kubelet of such a node would have registered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.workloads import HOST, ZONE
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object

SIMULATED = ("kwok.x-k8s.io/node", "fake")
"""The annotation by which kwok knows its nodes."""
NODE_NAMESPACE = "kube-node-lease"


@dataclass(frozen=True)
class Simulated:
    """A node, as far as it has to be told: its pool, its zone and a name that no other node had before."""

    name: str
    zone: str
    pool: str


@dataclass
class Names:
    """Gives nodes their names. None is given twice: the lease of a node that is gone would speak for the new one, which
    then stays NotReady.
    """

    given: Counter[tuple[str, str]] = field(default_factory=Counter)

    def node(self, pool: str, zone: str) -> Simulated:
        """A node of the pool in the zone."""
        self.given[pool, zone] += 1
        return Simulated(f"{pool}-{zone}-{self.given[pool, zone]}", zone, pool)


def wanted(pools: Iterable[dict[str, Any]], names: Names, at_most: bool) -> list[Simulated]:
    """The nodes of all pools at their least or most, over their zones in turn as the clouds balance them."""
    return [
        names.node(pool["name"], pool["zones"][number % len(pool["zones"])])
        for pool in pools
        for number in range(pool["max_count" if at_most else "min_count"])
    ]


def grown(there: Iterable[Simulated], pools: Iterable[dict[str, Any]], names: Names) -> list[Simulated]:
    """What has to come so that each pool has its most."""
    have = Counter((one.pool, one.zone) for one in there)
    found = []
    for pool in pools:
        zones = pool["zones"]
        wanted_by_zone = Counter(zones[number % len(zones)] for number in range(pool["max_count"]))
        for zone, count in wanted_by_zone.items():
            found += [names.node(pool["name"], zone) for _more in range(count - have[pool["name"], zone])]
    return found


def objects(
    node: Simulated, pools: Iterable[dict[str, Any]], types: dict[str, Any], cloud: dict[str, Any], version: str
) -> list[Object]:
    """The Node, and its CSINode where the cloud has CSI drivers. ``version`` is the kubelet's."""
    pool = next(one for one in pools if one["name"] == node.pool)
    kind = types[pool["type"]]
    about = cloud["node"]
    allocatable = {name: str(value) for name, value in kind["allocatable"].items()}
    # Disk that pods use without a volume: what is left of a node's usual 100 GiB.
    allocatable.setdefault("ephemeral-storage", "80Gi")
    capacity = {**allocatable, "cpu": str(kind["cpu"]), "memory": str(kind["memory"])}
    provider_id = str(about["provider_id"]).format(zone=node.zone, name=node.name)
    made: list[Object] = [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": node.name,
                "annotations": {SIMULATED[0]: SIMULATED[1]},
                "labels": {
                    "kubernetes.io/arch": "amd64",
                    "kubernetes.io/os": "linux",
                    HOST: node.name,
                    ZONE: node.zone,
                    "topology.kubernetes.io/region": region(node.zone),
                    "node.kubernetes.io/instance-type": pool["type"],
                    about["pool_label"]: pool["name"],
                    **{key: str(value) for key, value in (pool.get("labels") or {}).items()},
                },
            },
            "spec": {
                "providerID": provider_id,
                "taints": [
                    {"key": one["key"], "value": str(one.get("value") or ""), "effect": one.get("effect", "NoSchedule")}
                    for one in pool.get("taints") or []
                ],
            },
            "status": {
                "allocatable": allocatable,
                "capacity": capacity,
                "nodeInfo": {
                    "architecture": "amd64",
                    "bootID": "",
                    "containerRuntimeVersion": "simulated",
                    "kernelVersion": about["kernel"],
                    "kubeProxyVersion": "",
                    "kubeletVersion": version,
                    "machineID": "",
                    "operatingSystem": "linux",
                    "osImage": about["image"],
                    "systemUUID": "",
                },
            },
        }
    ]
    drivers = [
        {
            "name": name,
            "nodeID": provider_id,
            "topologyKeys": [ZONE],
            "allocatable": {"count": driver["volumes"]},
        }
        for name, driver in cloud["csi_drivers"].items()
    ]
    if drivers:
        made.append(
            {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "CSINode",
                "metadata": {"name": node.name},
                "spec": {"drivers": drivers},
            }
        )
    return made


def region(zone: str) -> str:
    """The region of a zone, as both clouds name them: us-east-1a, us-central1-a."""
    return zone.rpartition("-")[0] if zone[-2:-1] == "-" else zone[:-1]

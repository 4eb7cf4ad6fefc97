# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where everything is at one moment, in plain numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.workloads import (
    GIB,
    ZONE,
    number,
    pod_requests,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.workloads import (
    condition_of,
    is_ready,
)

CLOUD = "kube-system"
"""The namespace of what is the cloud's, and none of the platform's promises."""


@dataclass(frozen=True)
class Pod:
    """A pod that is there and does not end. CPU in thousandths of one, memory in bytes."""

    namespace: str
    name: str
    kind: str
    workload: str
    node: str
    zone: str
    ready: bool
    cpu: int
    memory: int
    why: str = ""
    """Why it has no node, as the scheduler says it."""
    home: str = ""
    """The zone in which its volume is."""
    apart: bool = False
    """Whether it rather waits for its zone than be where another of its workload is."""

    @property
    def of(self) -> str:
        """Its workload, as a report names it."""
        return f"{self.kind} {self.namespace}/{self.workload}"


@dataclass(frozen=True)
class Room:
    """A node: what pods may ask of it."""

    name: str
    zone: str
    pool: str
    cpu: int
    memory: int


@dataclass
class Snapshot:
    """All nodes and pods, how many pods each workload should have, and what a quota refused."""

    nodes: list[Room] = field(default_factory=list)
    pods: list[Pod] = field(default_factory=list)
    wanted: dict[str, int] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def ours(self) -> list[Pod]:
        """The platform's pods."""
        return [pod for pod in self.pods if pod.namespace != CLOUD]

    @property
    def pending(self) -> list[Pod]:
        """Those of the platform that have no node."""
        return [pod for pod in self.ours if not pod.node]

    def zones(self) -> list[str]:
        """The zones of the nodes."""
        return sorted({node.zone for node in self.nodes})

    def by_zone(self) -> dict[str, Counter[str]]:
        """For each workload of the platform the number of pods in each zone; DaemonSets and Jobs are left out."""
        found: dict[str, Counter[str]] = {}
        for pod in self.ours:
            if pod.node and pod.kind not in ("DaemonSet", "Job", ""):
                found.setdefault(pod.of, Counter())[pod.zone] += 1
        return found

    def missing(self) -> dict[str, int]:
        """The pods that workloads should have and have not, pending ones not among them."""
        have = Counter(pod.of for pod in self.pods)
        return {of: count - have[of] for of, count in self.wanted.items() if count > have[of]}


def taken(
    nodes: Iterable[Object], pods: Iterable[Object], workloads: Iterable[Object], volumes: Iterable[Object] = ()
) -> Snapshot:
    """The snapshot of live objects. ``workloads`` are Deployments and StatefulSets."""
    found = Snapshot()
    for node in nodes:
        metadata, allocatable = node["metadata"], (node.get("status") or {}).get("allocatable") or {}
        labels, where = metadata.get("labels") or {}, f"Node {metadata['name']}"
        found.nodes.append(
            Room(
                metadata["name"],
                labels.get(ZONE, ""),
                metadata["name"].removesuffix(f"-{labels.get(ZONE, '')}-{metadata['name'].rpartition('-')[2]}"),
                int(number(allocatable.get("cpu", 0), where) * 1000),
                int(number(allocatable.get("memory", 0), where)),
            )
        )
    workloads = list(workloads)
    found.nodes.sort(key=lambda one: (one.zone, one.name))
    zones = {node.name: node.zone for node in found.nodes}
    homes = dict(_homes(volumes))
    for pod in pods:
        if lasts(pod):
            found.pods.append(_pod(pod, zones, homes))
    found.pods.sort(key=lambda one: (one.namespace, one.workload, one.name))
    for workload in workloads:
        metadata = workload["metadata"]
        of = f"{workload['kind']} {metadata['namespace']}/{metadata['name']}"
        replicas = workload["spec"].get("replicas")
        found.wanted[of] = 1 if replicas is None else int(replicas)
    found.refused = refused(workloads)
    return found


def refused(workloads: Iterable[Object]) -> dict[str, str]:
    """Why pods of a Deployment are not made: a quota, or admission."""
    found = {}
    for workload in workloads:
        failure = condition_of(workload, "ReplicaFailure")
        if failure and failure.get("status") == "True":
            metadata = workload["metadata"]
            found[f"{workload['kind']} {metadata['namespace']}/{metadata['name']}"] = short(str(failure.get("message")))
    return found


def lasts(pod: Object) -> bool:
    """Whether the pod is there, and neither ends nor has ended."""
    over = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    return not over and not pod["metadata"].get("deletionTimestamp")


def _homes(volumes: Iterable[Object]) -> Iterator[tuple[tuple[str, str], str]]:
    """The zone of each volume, by the claim that it belongs to."""
    for volume in volumes:
        claim, affinity = volume["spec"].get("claimRef") or {}, volume["spec"].get("nodeAffinity") or {}
        for term in (affinity.get("required") or {}).get("nodeSelectorTerms") or []:
            for rule in term.get("matchExpressions") or []:
                if rule["key"] == ZONE:
                    yield (claim.get("namespace", ""), claim.get("name", "")), rule["values"][0]


def _pod(pod: Object, zones: dict[str, str], homes: dict[tuple[str, str], str]) -> Pod:
    metadata, spec = pod["metadata"], pod["spec"]
    kind, workload = owner(pod)
    node = spec.get("nodeName") or ""
    where = f"Pod {metadata['namespace']}/{metadata['name']}"
    return Pod(
        metadata["namespace"],
        metadata["name"],
        kind,
        workload,
        node,
        zones.get(node, ""),
        is_ready(pod),
        int(pod_requests(spec, "cpu", {}, where) * 1000),
        int(pod_requests(spec, "memory", {}, where)),
        "" if node else why(pod),
        next(
            (
                homes[metadata["namespace"], volume["persistentVolumeClaim"]["claimName"]]
                for volume in spec.get("volumes") or []
                if "persistentVolumeClaim" in volume
                and (metadata["namespace"], volume["persistentVolumeClaim"]["claimName"]) in homes
            ),
            "",
        ),
        _apart(spec),
    )


def _apart(spec: Object) -> bool:
    """Of a spread over zones without minDomains, a zone that is lost is none: it keeps nobody."""
    anti = (spec.get("affinity") or {}).get("podAntiAffinity") or {}
    return bool(anti.get("requiredDuringSchedulingIgnoredDuringExecution")) or any(
        rule.get("whenUnsatisfiable") == "DoNotSchedule" and rule.get("minDomains")
        for rule in spec.get("topologySpreadConstraints") or []
    )


def owner(pod: Object) -> tuple[str, str]:
    """Kind and name of the workload that a pod belongs to."""
    metadata = pod["metadata"]
    for reference in metadata.get("ownerReferences") or []:
        if reference.get("controller"):
            kind, name = reference["kind"], reference["name"]
            template = (metadata.get("labels") or {}).get("pod-template-hash")
            if kind == "ReplicaSet" and template:
                return "Deployment", name.removesuffix(f"-{template}")
            return kind, name
    return "", metadata["name"]


def why(pod: Object) -> str:
    """What the scheduler says of a pod that has no node; empty where it has not looked yet."""
    condition = condition_of(pod, "PodScheduled") or {}
    if condition.get("status") != "False":
        return ""
    return short(str(condition.get("message") or condition.get("reason") or "no word of the scheduler"))


def short(message: str) -> str:
    """A message without what nobody needs twice."""
    message = re.sub(r"preemption: .*$", "", message).strip()
    return message if len(message) <= 300 else message[:297] + "..."


def told(pods: Iterable[Pod]) -> list[dict[str, Any]]:
    """Pods without a node by workload, each with the scheduler's reason, for the report."""
    found: dict[str, dict[str, Any]] = {}
    for pod in pods:
        entry = found.setdefault(pod.of, {"workload": pod.of, "pods": 0, "why": pod.why})
        entry["pods"] += 1
    return list(found.values())


def drawn(snapshot: Snapshot) -> list[dict[str, Any]]:
    """The nodes with their pods, for the report."""
    pods: dict[str, list[dict[str, Any]]] = {}
    for pod in snapshot.pods:
        if pod.node:
            pods.setdefault(pod.node, []).append(
                {
                    "name": pod.name,
                    "namespace": pod.namespace,
                    "cpu": pod.cpu / 1000,
                    "memory_gib": round(pod.memory / GIB, 3),
                }
            )
    return [
        {
            "name": node.name,
            "zone": node.zone,
            "cpu": node.cpu / 1000,
            "memory_gib": round(node.memory / GIB, 2),
            "pods": sorted(pods.get(node.name, []), key=lambda pod: (pod["namespace"], pod["name"])),
        }
        for node in snapshot.nodes
    ]

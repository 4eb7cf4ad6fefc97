# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done to the simulated cluster: nodes and zones are lost and come back, nodes are drained, everything is
scaled and updated. The scheduler, the quotas and the disruption budgets are real ones, and answer.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import (
    all_or_error,
    concurrently,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.workloads import (
    READY,
    status_of,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rehearse import snapshot as snapshots
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rehearse.live import Live
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rehearse.nodes import Simulated
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rehearse.promises import Loss, moves
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rehearse.snapshot import Snapshot, lasts
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rehearse.standins import FIELD_MANAGER

QUIET_SECONDS = 1.0
"""Nothing has to have moved for so long before a state is taken for the last one."""
SETTLE_SECONDS = 60
DRAIN_SECONDS = 90
DRAIN_GRACE_SECONDS = 2
"""What a pod that is evicted gets to end: budgets, scheduler and volumes answer alike, and drains take minutes."""
UPDATE_SECONDS = 240
_EVICT_AGAIN_SECONDS = 0.7


class Trials:
    """On one cluster. ``nodes`` are those that are there; ``come`` makes nodes' objects, ``another`` names one in a
    node's place. ``impatient`` is the same cluster for requests whose refusal is an answer, and is not tried again.
    """

    def __init__(
        self,
        cluster: Cluster,
        impatient: Cluster,
        live: Live,
        nodes: list[Simulated],
        come: Callable[[list[Simulated]], None],
        another: Callable[[Simulated], Simulated],
    ) -> None:
        self.cluster = cluster
        self.impatient = impatient
        self.live = live
        self.nodes = nodes
        self.come = come
        self.another = another
        self.refused: dict[str, str] = {}
        """What a quota has refused at any time, by workload."""

    # --- looking -----------------------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """As it is now."""
        live = self.live
        workloads = live.of("Deployment") + live.of("StatefulSet")
        return snapshots.taken(live.of("Node"), live.of("Pod"), workloads, live.of("PersistentVolume"))

    def settled(self, ready: bool = False, seconds: float = SETTLE_SECONDS) -> Snapshot:
        """Wait until the scheduler has answered for every pod and nothing moves any more; with ``ready`` until all of
        those that have a node are ready too.
        """
        seen: dict[str, Any] = {}

        def quiet() -> bool:
            self._hurry()
            state = self._state(ready)
            if state is None or state != seen.get("state"):
                seen.update(state=state, at=time.monotonic())
                return False
            return time.monotonic() - seen["at"] >= QUIET_SECONDS

        self.live.wait(quiet, seconds)
        return self.snapshot()

    def _hurry(self) -> None:
        """Pods that the scheduler ends for others end at once: who goes where is the same, a minute sooner."""
        preempted = [
            pod
            for pod in self.live.of("Pod")
            if pod["metadata"].get("deletionTimestamp")
            and (snapshots.condition_of(pod, "DisruptionTarget") or {}).get("reason") == "PreemptionByScheduler"
        ]
        all_or_error("pods cannot be removed", concurrently(self._end_at_once, preempted))

    def whole(self, seconds: float = SETTLE_SECONDS) -> Snapshot:
        """Wait until nobody waits any more and all are ready, as far as that comes; how it is then."""
        self.live.wait(lambda: all(pod["spec"].get("nodeName") for pod in self.live.of("Pod")), seconds)
        return self.settled(ready=True, seconds=seconds)

    def _state(self, ready: bool) -> frozenset[tuple[str, str, str]] | None:
        """Every pod with its node, or None where controllers or the scheduler have still something to do, or with
        ``ready`` pods have.
        """
        live = self.live
        pods = [pod for pod in live.of("Pod") if lasts(pod)]
        nodes = {node["metadata"]["name"] for node in live.of("Node")}
        have: Counter[str] = Counter()
        stuck: set[str] = set()
        state = set()
        for pod in pods:
            kind, workload = snapshots.owner(pod)
            of = f"{kind} {pod['metadata']['namespace']}/{workload}"
            have[of] += 1
            node, why = pod["spec"].get("nodeName") or "", ""
            if not node:
                why = snapshots.why(pod)
                # Who has been promised a node takes it as soon as those of lower priority have ended there.
                if not why or (pod.get("status") or {}).get("nominatedNodeName"):
                    return None
                stuck.add(of)
            elif node not in nodes:
                return None  # it was bound while its node went: the control plane takes it away
            elif ready and kind != "Job" and not snapshots.is_ready(pod):
                return None
            state.add((pod["metadata"]["uid"], node, why))
        for owner in live.of("Deployment") + live.of("StatefulSet"):
            metadata, spec = owner["metadata"], owner["spec"]
            of = f"{owner['kind']} {metadata['namespace']}/{metadata['name']}"
            if (owner.get("status") or {}).get("observedGeneration", 0) < metadata.get("generation", 0):
                return None
            wanted = 1 if spec.get("replicas") is None else spec["replicas"]
            failure = snapshots.condition_of(owner, "ReplicaFailure")
            refused = bool(failure and failure.get("status") == "True")
            # A StatefulSet makes a pod once the one before it is ready.
            in_order = owner["kind"] == "StatefulSet" and of in stuck
            if have[of] < wanted and not refused and not in_order:
                return None
        return frozenset(state)

    # --- nodes -------------------------------------------------------------------------------------------------------

    def lose(self, what: str, gone: Iterable[Simulated]) -> Loss:
        """The nodes are gone at once, with their pods, and nodes with other names come in their places afterwards."""
        lost = list(gone)
        names = {node.name for node in lost}
        before = self.snapshot()
        began = time.monotonic()
        self._remove(names)
        after = self.settled()
        loss = self._loss(what, before, after, names, began)
        new = [self.another(node) for node in lost]
        self.nodes = [node for node in self.nodes if node.name not in names]
        self.grow(new)
        return loss

    def _remove(self, names: set[str]) -> None:
        all_or_error(
            "nodes cannot be removed",
            concurrently(self.cluster.delete, [{"apiVersion": "v1", "kind": "Node", "name": name} for name in names]),
        )
        # The control plane would leave the pods of a node that is gone for about a minute.
        pods = [pod for pod in self.live.of("Pod") if (pod["spec"].get("nodeName") or "") in names]
        all_or_error("pods cannot be removed", concurrently(self._end_at_once, pods))
        # Watches come a moment later: what is looked at next must not be what was there before.
        self.live.wait(lambda: not self._seen(names), SETTLE_SECONDS)

    def _seen(self, names: set[str]) -> bool:
        """Whether a node of these names, or a pod on it, is still seen."""
        nodes = {node["metadata"]["name"] for node in self.live.of("Node")}
        return bool(names & nodes) or any(
            (pod["spec"].get("nodeName") or "") in names and lasts(pod) for pod in self.live.of("Pod")
        )

    def _end_at_once(self, pod: Object) -> None:
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
        body["preconditions"] = {"uid": pod["metadata"]["uid"]}
        try:
            self.cluster.request("DELETE", self.cluster.path(pod), body=body, about=pod)
        except PlatformError as failure:
            if failure.details.get("status") not in (404, 409):
                raise

    def _loss(self, what: str, before: Snapshot, after: Snapshot, names: set[str], began: float) -> Loss:
        return Loss(
            what,
            moves(before.ours, after.ours, lambda pod: pod.node in names),
            after.pending,
            Counter(pod.of for pod in after.ours if pod.node),
            frozenset(after.zones()),
            seconds=round(time.monotonic() - began, 1),
            before=snapshots.drawn(before),
            after=snapshots.drawn(after),
        )

    def drain(self, node: Simulated) -> Loss:
        """The node is cordoned and its pods are evicted as budgets allow; afterwards it takes pods again."""
        before = self.snapshot()
        began = time.monotonic()
        reference = {"apiVersion": "v1", "kind": "Node", "name": node.name}
        self.cluster.patch(reference, {"spec": {"unschedulable": True}}, FIELD_MANAGER)
        refusals, left = self._evict_all(node.name, began)
        # What the last budgets wait for is whole again before anybody drains the next node.
        after = self.settled(ready=True)
        loss = self._loss(f"{node.name} drained", before, after, {node.name}, began)
        loss.refusals = refusals
        loss.unfinished = tuple(
            f"after {DRAIN_SECONDS} s {pod['metadata']['namespace']}/{pod['metadata']['name']} is still there: {said}"
            for pod, said in left
        )
        self.cluster.patch(reference, {"spec": {"unschedulable": None}}, FIELD_MANAGER)
        return loss

    def _evict_all(self, node: str, began: float) -> tuple[int, list[tuple[Object, str]]]:
        asked: set[str] = set()
        said: dict[str, str] = {}
        refusals = 0
        again = 0.0

        def evictable() -> list[Object]:
            return [
                pod
                for pod in self.live.of("Pod")
                if pod["spec"].get("nodeName") == node
                and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
                and snapshots.owner(pod)[0] not in ("DaemonSet", "Job", "Node")
            ]

        while (left := evictable()) and time.monotonic() - began < DRAIN_SECONDS:
            if time.monotonic() >= again:
                waiting = [pod for pod in left if pod["metadata"]["uid"] not in asked]
                answers = all_or_error("evictions failed", concurrently(self._evict, waiting))
                for pod, answer in zip(waiting, answers, strict=True):
                    if answer:
                        refusals += 1
                        said[pod["metadata"]["uid"]] = answer
                    else:
                        asked.add(pod["metadata"]["uid"])
                again = time.monotonic() + _EVICT_AGAIN_SECONDS
            self.live.wait(lambda: len(evictable()) < len(left), min(_EVICT_AGAIN_SECONDS, 1.0))
        return refusals, [(pod, said.get(pod["metadata"]["uid"], "it ends")) for pod in left]

    def _evict(self, pod: Object) -> str:
        """Why a budget does not allow it now; empty where it does."""
        metadata = pod["metadata"]
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
            "deleteOptions": {
                "preconditions": {"uid": metadata["uid"]},
                "gracePeriodSeconds": DRAIN_GRACE_SECONDS,
            },
        }
        path = self.cluster.path(pod) + "/eviction"
        try:
            self.impatient.request("POST", path, body=eviction, about=pod, timeout_seconds=10)
        except PlatformError as failure:
            if failure.details.get("status") == 429:
                return failure.found or str(failure)
            if failure.details.get("status") not in (404, 409):
                raise
        return ""

    def grow(self, nodes: list[Simulated]) -> None:
        """More nodes, all at once."""
        self.come(nodes)
        self.nodes = [*self.nodes, *nodes]
        names = {node.name for node in nodes}
        self.live.wait(lambda: self._ready(names), SETTLE_SECONDS)

    def _ready(self, names: set[str]) -> bool:
        return names <= {node["metadata"]["name"] for node in self.live.of("Node") if snapshots.is_ready(node)}

    # --- workloads ---------------------------------------------------------------------------------------------------

    def scale(self, at_most: bool) -> None:
        """Every target of an autoscaler to its most, or its least. Autoscalers have no figures here and leave it so."""

        def one(scaler: Object) -> Object:
            spec, metadata = scaler["spec"], scaler["metadata"]
            target = spec["scaleTargetRef"]
            replicas = spec["maxReplicas"] if at_most else spec.get("minReplicas") or 1
            reference = {
                "apiVersion": target["apiVersion"],
                "kind": target["kind"],
                "name": target["name"],
                "namespace": metadata["namespace"],
            }
            return self.cluster.patch(reference, {"spec": {"replicas": replicas}}, FIELD_MANAGER)

        scalers = self.live.of("HorizontalPodAutoscaler")
        scaled = all_or_error("workloads cannot be scaled", concurrently(one, scalers))
        wanted = {obj["metadata"]["uid"]: obj["metadata"]["generation"] for obj in scaled}

        def arrived() -> bool:
            seen = {obj["metadata"]["uid"]: obj["metadata"]["generation"] for obj in self._workloads()}
            return all(seen.get(uid, generation) >= generation for uid, generation in wanted.items())

        self.live.wait(arrived, SETTLE_SECONDS)

    def update(self) -> tuple[list[str], float]:
        """A rolling update of everything at once: what has not come to its end, with the reason, and the seconds."""
        began = time.monotonic()
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
        body = {"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": stamp}}}}}
        ours = [workload for workload in self._workloads() if workload["metadata"]["namespace"] != snapshots.CLOUD]
        updated = all_or_error(
            "workloads cannot be updated",
            concurrently(lambda workload: self.cluster.patch(workload, body, FIELD_MANAGER), ours),
        )
        generations = {obj["metadata"]["uid"]: obj["metadata"]["generation"] for obj in updated}

        def unfinished() -> list[Object]:
            # What a quota refuses now may be given a moment later, and is told only where the update does not end.
            self.refused.update(snapshots.refused(self.live.of("Deployment")))
            return [
                workload
                for workload in self._workloads()
                if workload["metadata"]["uid"] in generations
                and (
                    workload["metadata"]["generation"] < generations[workload["metadata"]["uid"]]
                    or status_of(workload).state != READY
                )
            ]

        self.live.wait(lambda: not unfinished(), UPDATE_SECONDS)
        pending = self.snapshot().pending
        found = []
        for workload in unfinished():
            metadata = workload["metadata"]
            of = f"{workload['kind']} {metadata['namespace']}/{metadata['name']}"
            reasons = {pod.why for pod in pending if pod.of == of} | {self.refused.get(of, "")}
            found.append(
                f"{of}: {status_of(workload).message}; {'; '.join(sorted(reasons - {''})) or 'no reason is seen'}"
            )
        return found, round(time.monotonic() - began, 1)

    def _workloads(self) -> list[Object]:
        live = self.live
        return live.of("Deployment") + live.of("StatefulSet") + live.of("DaemonSet")

    def scaled(self, seconds: float) -> list[str]:
        """Wait until autoscalers have brought their targets to their least; those that they have not."""

        def short() -> list[str]:
            replicas = {
                (obj["kind"], obj["metadata"]["namespace"], obj["metadata"]["name"]): obj["spec"].get("replicas", 1)
                for obj in self._workloads()
            }
            found = []
            for scaler in self.live.of("HorizontalPodAutoscaler"):
                target, namespace = scaler["spec"]["scaleTargetRef"], scaler["metadata"]["namespace"]
                least, has = (
                    scaler["spec"].get("minReplicas") or 1,
                    replicas.get((target["kind"], namespace, target["name"]), 0),
                )
                if has < least:
                    found.append(f"{target['kind']} {namespace}/{target['name']} has {has} of at least {least}")
            return found

        self.live.wait(lambda: not short(), seconds)
        return short()

# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rehearsal promises, each judged by what was seen. Nothing here speaks to a cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rehearse.snapshot import (
    CLOUD,
    Pod,
    Snapshot,
    lasts,
    owner,
)

HOLDS, FAILS, ACCEPTED = "holds", "fails", "accepted"

CHECKS = (
    "site", "scheduled", "share", "apart", "node_lost", "zone_lost", "drain", "update", "maxima", "maxima_zone_lost",
    "maxima_update", "balance", "scale_in",
)  # fmt: skip
"""All that a promise may be called, in the report's order."""

NEVER_ACCEPTED = ("site", "scheduled")

LOCAL_VOLUMES = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"
SAFE_TO_EVICT = "cluster-autoscaler.kubernetes.io/safe-to-evict"


@dataclass(frozen=True)
class Promise:
    """A sentence, whether it holds, and what was seen where it does not."""

    check: str
    result: str
    sentence: str
    seen: tuple[str, ...] = ()
    to_do: str = ""

    def as_dict(self) -> dict[str, Any]:
        """In JSON's types."""
        return {
            "check": self.check,
            "result": self.result,
            "sentence": self.sentence,
            "seen": list(self.seen),
            "to_do": self.to_do,
        }


@dataclass
class Loss:
    """A node or zone that was lost, or a node that was drained: who had to go, where to, and who found no place."""

    what: str
    moved: list[dict[str, str]] = field(default_factory=list)
    """Pods by workload, from which node to which."""
    waiting: list[Pod] = field(default_factory=list)
    running: Counter[str] = field(default_factory=Counter)
    """The pods of each workload that have a node afterwards."""
    zones: frozenset[str] = frozenset()
    """Those that have nodes afterwards."""
    seconds: float = 0.0
    unfinished: tuple[str, ...] = ()
    refusals: int = 0
    before: list[dict[str, Any]] = field(default_factory=list)
    after: list[dict[str, Any]] = field(default_factory=list)


def verdict(check: str, wrong: Iterable[str], good: str, bad: str, to_do: str) -> Promise:
    """It holds where nothing is wrong."""
    seen = tuple(wrong)
    return Promise(check, FAILS if seen else HOLDS, bad if seen else good, seen, to_do if seen else "")


def accepted(promise: Promise, accept: Iterable[str]) -> Promise:
    """As the inventory's choice, where it says so."""
    if promise.result == FAILS and promise.check in set(accept) and promise.check not in NEVER_ACCEPTED:
        return Promise(promise.check, ACCEPTED, promise.sentence, promise.seen, promise.to_do)
    return promise


# --- a moment ---------------------------------------------------------------------------------------------------------


def waiting_lines(pods: Iterable[Pod], prefix: str = "") -> list[str]:
    """One line a workload whose pods have no node."""
    found: dict[tuple[str, str], int] = {}
    for pod in pods:
        found[pod.of, pod.why] = found.get((pod.of, pod.why), 0) + 1
    return [f"{prefix}{count} of {of}: {why or 'nobody has looked yet'}" for (of, why), count in found.items()]


def lacking_lines(snapshot: Snapshot) -> list[str]:
    """What is not there at all, with the reason where it is known."""
    return [
        f"{count} of {of} are not made: {snapshot.refused.get(of, 'its controller waits for others of it')}"
        for of, count in snapshot.missing().items()
        # Of those that wait for one another, the one that is pending is told already.
        if of in snapshot.refused or not any(pod.of == of for pod in snapshot.pending)
    ]


def scheduled(check: str, snapshot: Snapshot, where: str, to_do: str, further: Iterable[str] = ()) -> Promise:
    """Every pod has a node, and every workload all its pods."""
    wrong = [*waiting_lines(snapshot.pending), *lacking_lines(snapshot), *further]
    count = len(snapshot.ours)
    return verdict(
        check,
        wrong,
        f"{where}: all {count} pods have a node",
        f"{where}: not every pod has a node",
        to_do,
    )


def uneven(snapshot: Snapshot, slack: int = 0) -> list[str]:
    """Workloads of which a zone has more than its share, which is their number over the zones, rounded up."""
    zones, found = snapshot.zones(), []
    for of, counts in sorted(snapshot.by_zone().items()):
        total = sum(counts.values())
        share = -(-total // len(zones)) + slack
        if total > 1 and max(counts.values()) > share:
            shown = ", ".join(f"{counts[zone]} in {zone}" for zone in zones)
            found.append(f"{of}: {shown}; a zone's share of {total} is {share}")
    return found


def empty(snapshot: Snapshot) -> list[str]:
    """Workloads with as many pods as zones or more of which a zone has none."""
    zones, found = snapshot.zones(), []
    for of, counts in sorted(snapshot.by_zone().items()):
        none = [zone for zone in zones if not counts[zone]]
        if none and sum(counts.values()) >= len(zones):
            found.append(f"{of}: none of {sum(counts.values())} in {', '.join(none)}")
    return found


def apart(snapshot: Snapshot, members: str) -> list[str]:
    """Zones or nodes that hold two members of a StatefulSet of which each may be the primary."""
    pods = [pod for pod in snapshot.ours if pod.of == members]
    zones = Counter(pod.zone for pod in pods if pod.node)
    nodes = Counter(pod.node for pod in pods if pod.node)
    if len(pods) < 2:
        return []
    return [f"{count} of {members} are in {place}" for place, count in [*zones.items(), *nodes.items()] if count > 1]


# --- losses -----------------------------------------------------------------------------------------------------------

_BOUND = ("volume node affinity conflict", "didn't match PersistentVolume's node affinity")
_SPREAD = ("topology spread constraints", "anti-affinity rules")


def lost(check: str, losses: list[Loss], good: str, bad: str, to_do: str, whole_zone: bool) -> Promise:
    """Whoever may move has found a place. Of a zone, those wait that their volume or their spread keeps there; of them
    the majority has to be elsewhere.
    """
    wrong = []
    for loss in losses:
        free = []
        for pod in loss.waiting:
            # The scheduler names only the first reason of each node: where its volume is counts too.
            away = bool(pod.home) and bool(loss.zones) and pod.home not in loss.zones
            kept = away or any(text in pod.why for text in (*_BOUND, *(_SPREAD if pod.apart else ())))
            if not whole_zone or not kept:
                free.append(pod)
        wrong += waiting_lines(free, f"{loss.what}: ")
        if whole_zone:
            for of, count in Counter(pod.of for pod in loss.waiting if pod not in free).items():
                running = loss.running[of]
                # One that is alone waits for its zone, which its volume says; who has others needs most of them.
                if running + count > 1 and running <= (running + count) // 2:
                    wrong.append(f"{loss.what}: {running} of {running + count} of {of} are left, and no majority")
        wrong += [f"{loss.what}: {line}" for line in loss.unfinished]
    return verdict(check, wrong, good, bad, to_do)


def kept_back(losses: list[Loss]) -> dict[str, list[str]]:
    """By loss, the pods that wait for the zone in which their volume or their share is."""
    return {loss.what: sorted({pod.of for pod in loss.waiting}) for loss in losses if loss.waiting}


def moves(before: Iterable[Pod], after: Iterable[Pod], gone: Callable[[Pod], bool]) -> list[dict[str, str]]:
    """Of the pods that had to go, by workload: from where, and where the new ones of their workload are."""
    olds = [pod for pod in before if gone(pod) and pod.kind not in ("DaemonSet", "Job", "")]
    known = {(pod.namespace, pod.name, pod.node) for pod in before}
    news: dict[str, list[Pod]] = {}
    for pod in after:
        if (pod.namespace, pod.name, pod.node) not in known:
            news.setdefault(pod.of, []).append(pod)
    found = []
    for pod in olds:
        new = news[pod.of].pop(0) if news.get(pod.of) else None
        found.append({"workload": pod.of, "from": pod.node, "to": new.node if new else ""})
    return found


# --- scale in ---------------------------------------------------------------------------------------------------------


def blockers(pods: Iterable[Object], budgets: Iterable[Object]) -> dict[str, str]:
    """The workloads for whose pods cluster-autoscaler leaves a node alone, and why.

    https://github.com/kubernetes/autoscaler/blob/master/cluster-autoscaler/FAQ.md#what-types-of-pods-can-prevent-ca-from-removing-a-node
    """
    known = [
        (
            budget["metadata"]["namespace"],
            (budget["spec"].get("selector") or {}).get("matchLabels") or {},
            (budget.get("status") or {}).get("disruptionsAllowed", 0),
            budget["metadata"]["name"],
        )
        for budget in budgets
    ]
    found: dict[str, str] = {}
    for pod in pods:
        kind, workload = owner(pod)
        if not lasts(pod) or kind == "DaemonSet":
            continue
        of = f"{kind} {pod['metadata']['namespace']}/{workload}"
        reason = _blocks(pod, kind, known)
        if reason:
            found[of] = reason
    return found


def _blocks(pod: Object, kind: str, budgets: list[tuple[str, dict[str, str], int, str]]) -> str:
    metadata, spec = pod["metadata"], pod["spec"]
    annotations, labels = metadata.get("annotations") or {}, metadata.get("labels") or {}
    if annotations.get(SAFE_TO_EVICT) == "true":
        return ""
    if annotations.get(SAFE_TO_EVICT) == "false":
        return f"its annotation {SAFE_TO_EVICT} is false"
    mine = [one for one in budgets if one[0] == metadata["namespace"] and one[1] and one[1].items() <= labels.items()]
    if not kind:
        return "it has no controller that would make it again"
    if metadata["namespace"] == CLOUD and not mine:
        return "it is in kube-system and has no PodDisruptionBudget"
    for _namespace, _labels, allowed, name in mine:
        if not allowed:
            return f"the PodDisruptionBudget {name} allows no disruption"
    fine = {name.strip() for name in annotations.get(LOCAL_VOLUMES, "").split(",")}
    local = [
        volume["name"]
        for volume in spec.get("volumes") or []
        if ("hostPath" in volume or ("emptyDir" in volume and (volume["emptyDir"] or {}).get("medium") != "Memory"))
        and volume["name"] not in fine
    ]
    return f"it has volumes on the node's disk: {', '.join(local)}" if local else ""

# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where pods would go, and how many nodes they need.

It follows the default scheduler where numbers decide: requests against what nodes have, taints and selectors, spread
over zones and nodes, the emptiest node first, preemption. Pods come as site.yml brings them and stay where they are:
what is lost finds a place among those that stay, as it would, and not in the best of all orders. As months of updates
and losses bring them into any order, what has to hold holds in several. What it does not know: images, ports, limits of
volumes, budgets, quotas. A rehearsal asks a real one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any
from zlib import crc32

from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.workloads import (
    HOST,
    ZONE,
    Workload,
)

ENOUGH = 4
"""Where so many times the nodes that the sums ask for are not enough, no number is."""

ORDERS = 8
"""In so many orders components come, and one of equal nodes is taken: first that of site.yml."""

ANOTHER = "'"
"""What the name of a node has that comes in a lost one's place: no real one has it."""

ENDING_ROUNDS = 12
"""How many pods come one after the other while one ends: 45 s of grace, ready after 4."""


@dataclass
class Node:
    """A node, and what is still free of it: CPU in thousandths of one, memory in bytes, pods."""

    name: str
    zone: str
    cpu: int
    memory: int
    pods: int = 110
    labels: dict[str, str] = field(default_factory=dict)
    taints: tuple[tuple[str, str, str], ...] = ()
    pool: str = ""
    whole: tuple[int, int] = (0, 0)
    """CPU and memory when it was empty."""

    def __post_init__(self) -> None:
        if self.whole == (0, 0):
            self.whole = (self.cpu, self.memory)

    def copy(self) -> Node:
        """One whose free room changes alone."""
        return replace(self)

    def label(self, key: str) -> str:
        """A label's value, those among it that every node has."""
        return {ZONE: self.zone, HOST: self.name}.get(key) or self.labels.get(key, "")

    def takes(self, workload: Workload) -> bool:
        """Whether taints, selectors and affinity let it be here."""
        if any(self.label(key) != value for key, value in workload.selector):
            return False
        if not all(_tolerated(taint, workload) for taint in self.taints):
            return False
        terms = (workload.affinity or {}).get("nodeSelectorTerms") or []
        return not terms or any(self._matches(term) for term in terms)

    def _matches(self, term: Mapping[str, Any]) -> bool:
        return all(_holds(rule, self.label(rule["key"])) for rule in term.get("matchExpressions") or [])

    def has_room(self, workload: Workload) -> bool:
        """For one pod more."""
        return self.cpu >= workload.cpu and self.memory >= workload.memory and self.pods >= 1

    def add(self, workload: Workload, count: int = 1) -> None:
        """One pod more; with a count of -1 one less."""
        self.cpu -= count * workload.cpu
        self.memory -= count * workload.memory
        self.pods -= count

    def score(self, workload: Workload) -> float:
        """NodeResourcesFit (LeastAllocated) and NodeResourcesBalancedAllocation with this pod more, 0 to 200."""
        cpu = (self.cpu - workload.cpu) / (self.whole[0] or 1)
        memory = (self.memory - workload.memory) / (self.whole[1] or 1)
        return 50 * (cpu + memory) + 100 * (1 - abs(cpu - memory) / 2)


def _tolerated(taint: tuple[str, str, str], workload: Workload) -> bool:
    key, value, effect = taint
    if effect == "PreferNoSchedule":
        return True
    return any(
        (not of_effect or of_effect == effect)
        and ((operator == "Exists" and of_key in ("", key)) or (of_key == key and of_value == value))
        for of_key, operator, of_value, of_effect in workload.tolerations
    )


def _holds(rule: Mapping[str, Any], found: str) -> bool:
    operator, values = rule.get("operator"), rule.get("values") or []
    if operator in ("Exists", "DoesNotExist"):
        return bool(found) == (operator == "Exists")
    return (found in values) == (operator != "NotIn")


@dataclass(eq=False)
class Pod:
    """One of a workload: where it is, in which zone its volume is, and whether it ends."""

    workload: Workload
    number: int
    revision: int = 0
    node: Node | None = None
    home: str = ""
    ready: bool = False
    ends: int = 0
    """Rounds until it is gone; 0 where it stays."""


@dataclass
class Placement:
    """Who is where: ``placed`` in the order in which they were, each a workload, its number and its node."""

    nodes: list[Node]
    placed: list[tuple[Workload, int, Node]] = field(default_factory=list)
    pending: Counter[Workload] = field(default_factory=Counter)
    waiting: Counter[Workload] = field(default_factory=Counter)
    """Those whose volume or whose spread keeps them in a zone that is not there: no node elsewhere could take them."""

    @property
    def fits(self) -> bool:
        """Whether everybody has a place who could have one."""
        return not self.pending


class Packing:
    """Nodes and pods, as they come and go. Whoever has a node stays there until it is lost, drained or updated."""

    def __init__(
        self,
        workloads: Iterable[Workload],
        nodes: Iterable[Node],
        at_most: bool,
        priorities: Mapping[str, int] | None = None,
        order: int = 0,
    ) -> None:
        everything = list(workloads)
        self.order = order
        self.priorities = priorities or {}
        self.daemons = [one for one in everything if one.per_node]
        self.pods: list[Pod] = []
        self.nodes: list[Node] = []
        self.closed: set[str] = set()
        self._given: dict[str, Node] = {}
        self._on: dict[str, list[Pod]] = {}
        self._here: dict[tuple[Workload, int, str], Counter[str]] = {}
        self._come(nodes)
        lasting = [one for one in everything if not one.per_node and not one.passing and one.containers]
        components = list(dict.fromkeys(one.component for one in lasting))
        if order:
            Random(order).shuffle(components)  # noqa: S311 (no secret)
        for component in components:
            for one in lasting:
                if one.component == component:
                    self.pods += [Pod(one, number) for number in range(one.most if at_most else one.least)]
            self.schedule()

    def _come(self, nodes: Iterable[Node]) -> None:
        for given in nodes:
            self._given[given.name] = given
            node = given.copy()
            for daemon in self.daemons:
                if node.takes(daemon):
                    node.add(daemon)
            self.nodes.append(node)
            self._on[node.name] = []

    def now(self) -> Placement:
        """Who is where, and who waits."""
        found = Placement(self.nodes)
        for pod in self.pods:
            if pod.node is not None:
                found.placed.append((pod.workload, pod.number, pod.node))
            elif self._kept(pod):
                found.waiting[pod.workload] += 1
            else:
                found.pending[pod.workload] += 1
        return found

    def _kept(self, pod: Pod) -> bool:
        """Whether it has to be where no node is: its volume is there, or its share of the zones."""
        zones = {node.zone for node in self.nodes if node.name not in self.closed}
        return bool(pod.home and pod.home not in zones) or len(zones) < pod.workload.domains

    # --- the scheduler ----------------------------------------------------------------------------------------------

    def _priority(self, workload: Workload) -> int:
        return self.priorities.get(workload.priority, 0)

    def _counts(self, pod: Pod, key: str) -> Counter[str]:
        """The pods that a spread of this one counts, by the label's value. Of a Deployment its own revision's."""
        revision = pod.revision if pod.workload.kind == "Deployment" else 0
        return self._here.setdefault((pod.workload, revision, key), Counter())

    def _put(self, pod: Pod, node: Node) -> None:
        pod.node = node
        node.add(pod.workload)
        self._on[node.name].append(pod)
        if pod.workload.storage:
            pod.home = pod.home or node.zone
        for key in (ZONE, HOST):
            self._counts(pod, key)[node.label(key)] += 1

    def _take(self, pod: Pod) -> None:
        """Away from its node at once."""
        self._end(pod)
        self._gone(pod)
        pod.node, pod.ready, pod.ends = None, False, 0

    def _end(self, pod: Pod) -> None:
        """From now on no spread counts it; its room is kept."""
        pod.ends = ENDING_ROUNDS
        for key in (ZONE, HOST):
            self._counts(pod, key)[pod.node.label(key) if pod.node else ""] -= 1

    def _gone(self, pod: Pod) -> None:
        if pod.node is not None:
            pod.node.add(pod.workload, -1)
            self._on[pod.node.name].remove(pod)

    def schedule(self) -> bool:
        """A node for everybody who has none, where there is one; whether anybody has found one."""
        found = progress = False
        while True:
            queue = [pod for pod in self.pods if pod.node is None]
            queue.sort(key=lambda pod: -self._priority(pod.workload))
            progress = False
            for pod in queue:
                if pod.node is None and self._schedule(pod):
                    progress = found = True
            # Who was preempted, and whom the spread kept until others had come.
            if not progress:
                return found

    def _schedule(self, pod: Pod) -> bool:
        allowed = self._allowed(pod)
        free = [node for node in allowed if node.has_room(pod.workload)]
        if free:
            self._put(pod, self._best(pod, free))
            return True
        chosen: tuple[tuple[int, int, str], Node, list[Pod]] | None = None
        for node in allowed:
            victims = self._victims(pod, node)
            if victims:
                worst = max(self._priority(victim.workload) for victim in victims)
                rank = (worst, len(victims), node.name)
                if chosen is None or rank < chosen[0]:
                    chosen = rank, node, victims
        if chosen is None:
            return False
        for victim in chosen[2]:
            self._take(victim)
        self._put(pod, chosen[1])
        return True

    def _allowed(self, pod: Pod) -> list[Node]:
        """The nodes on which it may be, whoever is there."""
        workload = pod.workload
        able = [node for node in self.nodes if node.name not in self.closed and node.takes(workload)]
        free = [node for node in able if not pod.home or node.zone == pod.home]
        for key, skew in workload.apart:
            if key not in (ZONE, HOST):
                continue
            counts = self._counts(pod, key)
            domains = {node.label(key) for node in able}
            fewest = min((counts[value] for value in domains), default=0)
            if key == ZONE and len(domains) < workload.domains:
                fewest = 0
            free = [node for node in free if counts[node.label(key)] < (skew + fewest if skew else 1)]
        return free

    def _best(self, pod: Pod, free: list[Node]) -> Node:
        """By the default plugins' weights: spread over zones and nodes twice, nodes with another of it twice, room."""
        counts = {key: self._counts(pod, key) for key in (ZONE, HOST)}
        soft = [key for key in pod.workload.spread if key in counts]
        size = {key: math.log(len({node.label(key) for node in free}) + 2) for key in soft}
        apart = {node.name: sum(counts[key][node.label(key)] * size[key] for key in soft) for node in free}
        most, least = max(apart.values()), min(apart.values())
        hosts = {node.name: counts[HOST][node.name] for node in free}
        crowd = max(hosts.values())

        def rank(node: Node) -> tuple[float, int, str]:
            spread = 100 * (most + least - apart[node.name]) / most if most else 100
            alone = 100 * (crowd - hosts[node.name]) / crowd if crowd else 100
            tie = crc32(f"{self.order}/{node.name}".encode()) if self.order else 0
            return -(2 * spread + 2 * alone + node.score(pod.workload)), tie, node.name

        return min(free, key=rank)

    def _victims(self, pod: Pod, node: Node) -> list[Pod]:
        """Those of lower priority that would have to go, the least first; nothing where that is not enough."""
        mine = self._priority(pod.workload)
        lower = [one for one in self._on[node.name] if not one.ends and self._priority(one.workload) < mine]
        lower.sort(key=lambda one: (self._priority(one.workload), one.workload.cpu))
        cpu, memory, pods, victims = node.cpu, node.memory, node.pods, []
        for one in lower:
            cpu, memory, pods = cpu + one.workload.cpu, memory + one.workload.memory, pods + 1
            victims.append(one)
            if cpu >= pod.workload.cpu and memory >= pod.workload.memory and pods >= 1:
                return victims
        return []

    # --- what happens to nodes --------------------------------------------------------------------------------------

    def lose(self, gone: Iterable[Node]) -> Placement:
        """How it is without these nodes. Others come in their places afterwards."""
        lost = list(gone)
        names = {node.name for node in lost}
        self._evict(names)
        self.nodes = [node for node in self.nodes if node.name not in names]
        self.schedule()
        found = self.now()
        self._come(replace(self._given[node.name], name=node.name + ANOTHER) for node in lost)
        self.schedule()
        return found

    def drain(self, node: Node) -> Placement:
        """How it is while this node takes no pod."""
        self.closed = {node.name}
        self._evict(self.closed)
        self.schedule()
        found = self.now()
        self.closed = set()
        self.schedule()
        return found

    def _evict(self, names: Iterable[str]) -> None:
        for name in names:
            for pod in list(self._on[name]):
                self._take(pod)

    # --- updates ----------------------------------------------------------------------------------------------------

    def update(self) -> list[Workload]:
        """A rolling update of everything at once; the workloads that do not come to its end. A Deployment's pod that is
        replaced keeps its room until it has ended.
        """
        before = max((pod.revision for pod in self.pods), default=0)
        wanted = Counter(pod.workload for pod in self.pods)
        ending: list[Pod] = []
        for pod in self.pods:
            pod.ready = pod.node is not None
        while True:
            moved = False
            for pod in ending:
                pod.ends -= 1
                if not pod.ends:
                    self._gone(pod)
            ending = [pod for pod in ending if pod.ends]
            for workload, replicas in wanted.items():
                moved = self._step(workload, replicas, before + 1, ending) or moved
            moved = self.schedule() or moved
            for pod in self.pods:
                pod.ready = pod.node is not None
            if not moved and not ending:
                left = {pod.workload for pod in self.pods if pod.node is None or pod.revision <= before}
                return [workload for workload in wanted if workload in left]

    def _step(self, workload: Workload, replicas: int, revision: int, ending: list[Pod]) -> bool:
        """What its controller does in one round."""
        mine = [pod for pod in self.pods if pod.workload is workload]
        # Those that are not ready first.
        old = sorted((pod for pod in mine if pod.revision < revision), key=lambda pod: pod.ready)
        if not old:
            return False
        if not workload.surge:
            # In their places, one after the other.
            if any(not pod.ready for pod in mine if pod is not old[0]):
                return False
            if old[0].node is not None:
                self._take(old[0])
            old[0].revision = revision
            return True
        ready = sum(pod.ready for pod in mine)
        spare = [pod for pod in old if not pod.ready] + [pod for pod in old if pod.ready][: max(0, ready - replicas)]
        for pod in spare:
            self.pods.remove(pod)
            if pod.node is not None:
                self._end(pod)
                ending.append(pod)
        left = len(mine) - len(spare)
        more = min(replicas + workload.surge - left, replicas - (len(mine) - len(old)))
        self.pods += [Pod(workload, left + number, revision) for number in range(more)]
        return bool(spare) or more > 0


def place(
    workloads: Iterable[Workload], nodes: Iterable[Node], at_most: bool, priorities: Mapping[str, int] | None = None
) -> Placement:
    """Every pod on a node, at the workloads' least or most, component by component."""
    return Packing(workloads, nodes, at_most, priorities).now()


@dataclass(frozen=True)
class Losses:
    """The worst of what happens when one is lost: pods without a place, by workload, and which zone or node it was."""

    zone: str = ""
    of_zone: tuple[tuple[Workload, int], ...] = ()
    waiting: tuple[tuple[Workload, int], ...] = ()
    node: str = ""
    of_node: tuple[tuple[Workload, int], ...] = ()


def lose(
    workloads: list[Workload], nodes: list[Node], at_most: bool, priorities: Mapping[str, int] | None = None
) -> Losses:
    """Lose each node and each zone in turn, and drain each node, one after the other as a rehearsal does."""
    of_nodes: list[tuple[str, Placement]] = []
    of_zones: list[tuple[str, Placement]] = []
    for order in range(ORDERS):
        packing = Packing(workloads, nodes, at_most, priorities, order)
        of_nodes.append(_worst(_nodes_lost(packing)))
        of_zones.append(_worst(_zones_lost(packing)))
        of_nodes.append(_worst(_drained(packing)))
    (node, of_node), (zone, of_zone) = _worst(of_nodes), _worst(of_zones)
    return Losses(
        zone,
        tuple(of_zone.pending.items()),
        tuple(of_zone.waiting.items()),
        node.rstrip(ANOTHER),
        tuple(of_node.pending.items()),
    )


def _worst(losses: Iterable[tuple[str, Placement]]) -> tuple[str, Placement]:
    """The first of those with the most pods without a place."""
    worst: tuple[str, Placement] | None = None
    for name, after in losses:
        if worst is None or after.pending.total() > worst[1].pending.total():
            worst = name, after
    return worst or ("", Placement([]))


def _nodes_lost(packing: Packing) -> Iterator[tuple[str, Placement]]:
    for node in list(packing.nodes) if len(packing.nodes) > 1 else []:
        yield node.name, packing.lose([node])


def _zones_lost(packing: Packing) -> Iterator[tuple[str, Placement]]:
    zones = sorted({node.zone for node in packing.nodes})
    for zone in zones if len(zones) > 1 else []:
        yield zone, packing.lose([node for node in packing.nodes if node.zone == zone])


def _drained(packing: Packing) -> Iterator[tuple[str, Placement]]:
    for node in list(packing.nodes) if len(packing.nodes) > 1 else []:
        yield node.name, packing.drain(node)


def updates_without_room(
    workloads: list[Workload], nodes: list[Node], at_most: bool, priorities: Mapping[str, int] | None = None
) -> list[Workload]:
    """The workloads whose rolling update does not end, when all are updated at once."""
    stuck: set[Workload] = set()
    for order in range(ORDERS):
        stuck |= set(Packing(workloads, nodes, at_most, priorities, order).update())
    return [one for one in workloads if one in stuck]


def nodes_needed(
    workloads: list[Workload],
    like: Node,
    zones: list[str],
    at_most: bool,
    priorities: Mapping[str, int] | None = None,
    lost: str = "",
) -> int | None:
    """The least number of nodes like this one, over the zones in turn, that takes all pods; with ``lost`` (``node``)
    also when any of these is lost or drained, and (``zone``) when any zone is, and when all is updated at once. None
    where no number does.
    """
    least = max(len(zones), _least(workloads, like, at_most))
    for count in range(least, ENOUGH * (least + len(zones))):
        nodes = spread_nodes(like, zones, count)
        if all(_enough(Packing(workloads, nodes, at_most, priorities, order), lost) for order in range(ORDERS)):
            return count
        if _never(place(workloads, nodes, at_most, priorities), like):
            return None
    return None


def _enough(packing: Packing, lost: str) -> bool:
    """Whether all have a place, also when something is lost."""
    if not packing.now().fits:
        return False
    if lost and not all(after.fits for _name, after in _nodes_lost(packing)):
        return False
    if lost == "zone" and not all(after.fits for _name, after in _zones_lost(packing)):
        return False
    if lost and not all(after.fits for _name, after in _drained(packing)):
        return False
    return lost != "zone" or not packing.update()


def _least(workloads: Iterable[Workload], like: Node, at_most: bool) -> int:
    """Below this number of nodes nobody has to look: all requests are more than they have."""
    lasting = [one for one in workloads if not one.per_node and not one.passing and one.containers]
    counts = [(one, one.most if at_most else one.least) for one in lasting]
    cpu, memory = sum(count * one.cpu for one, count in counts), sum(count * one.memory for one, count in counts)
    alone = max((count for one, count in counts if (HOST, 0) in one.apart), default=0)
    return max(1, alone, -(-cpu // max(1, like.cpu)), -(-memory // max(1, like.memory)))


def _never(placement: Placement, like: Node) -> bool:
    """Whether a pod that has no place would not fit on an empty node either."""
    empty = like.copy()
    return any(not empty.takes(one) or not empty.has_room(one) for one in placement.pending)


def spread_nodes(like: Node, zones: list[str], count: int, pool: str = "") -> list[Node]:
    """So many nodes like this one, over the zones in turn."""
    return [
        Node(
            f"{pool or like.pool or 'node'}-{number + 1}",
            zones[number % len(zones)],
            like.cpu,
            like.memory,
            like.pods,
            like.labels,
            like.taints,
            pool or like.pool,
        )
        for number in range(count)
    ]

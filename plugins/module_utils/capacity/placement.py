# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where pods would go, and how many nodes they need.

It follows the default scheduler where numbers decide: requests against what nodes have, taints and selectors, spread
over zones and nodes, the emptiest node first; who has the higher priority gets its place first, as preemption would
have it in the end. What it does not know: images, ports, limits of volumes, pods of others. A rehearsal asks a real
one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.workloads import (
    HOST,
    ZONE,
    Workload,
)

MOST_NODES = 600
"""Of which the search for a number of nodes ends."""


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

    def copy(self) -> Node:
        """One whose free room changes alone."""
        return Node(self.name, self.zone, self.cpu, self.memory, self.pods, self.labels, self.taints, self.pool)

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

    def add(self, workload: Workload) -> None:
        """One pod more."""
        self.cpu -= workload.cpu
        self.memory -= workload.memory
        self.pods -= 1


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


@dataclass
class Placement:
    """Who is where: ``placed`` in the order in which they were, each a workload, its number and its node."""

    nodes: list[Node]
    placed: list[tuple[Workload, int, Node]] = field(default_factory=list)
    pending: Counter[Workload] = field(default_factory=Counter)
    waiting: Counter[Workload] = field(default_factory=Counter)
    """Those whose volume is in a zone that is not there: no node elsewhere could take them."""

    @property
    def fits(self) -> bool:
        """Whether everybody has a place who could have one."""
        return not self.pending


def place(
    workloads: Iterable[Workload],
    nodes: Iterable[Node],
    at_most: bool,
    priorities: Mapping[str, int] | None = None,
    bound: Mapping[tuple[Workload, int], str] | None = None,
) -> Placement:
    """Put every pod on a node, at the workloads' least or most. ``bound`` are pods whose volume is in a zone."""
    everything = list(workloads)
    found = Placement([node.copy() for node in nodes])
    for daemon in everything:
        if daemon.per_node:
            for node in found.nodes:
                if node.takes(daemon):
                    node.add(daemon)
    known = priorities or {}
    wanted = sorted(
        (one for one in everything if not one.per_node and not one.passing and one.containers),
        key=lambda one: (-known.get(one.priority, 0), -max(one.cpu / 1000, one.memory / 4 / 1024**3), str(one)),
    )
    for workload in wanted:
        here: dict[str, Counter[str]] = {ZONE: Counter(), HOST: Counter()}
        for number in range(workload.most if at_most else workload.least):
            zone = (bound or {}).get((workload, number))
            if zone is not None and all(node.zone != zone for node in found.nodes):
                found.waiting[workload] += 1
                continue
            chosen = _choose(workload, found.nodes, here, zone)
            if chosen is None:
                found.pending[workload] += 1
                continue
            chosen.add(workload)
            here[ZONE][chosen.zone] += 1
            here[HOST][chosen.name] += 1
            found.placed.append((workload, number, chosen))
    return found


def _choose(workload: Workload, nodes: list[Node], here: dict[str, Counter[str]], zone: str | None) -> Node | None:
    able = [node for node in nodes if node.takes(workload)]
    domains = {ZONE: {node.zone for node in able}, HOST: {node.name for node in able}}
    free = [node for node in able if node.has_room(workload) and (zone is None or node.zone == zone)]
    for key, skew in workload.apart:
        if key not in domains:
            continue
        fewest = min((here[key][value] for value in domains[key]), default=0)
        if zone is None or key != ZONE:
            free = [node for node in free if here[key][node.label(key)] < (skew + fewest if skew else 1)]
    if not free:
        return None
    # Zones weigh first, as in the charts' constraints; the emptiest node is the one with the most CPU left.
    return min(
        free, key=lambda node: (here[ZONE][node.zone], here[HOST][node.name], -node.cpu, -node.memory, node.name)
    )


def without(
    placement: Placement, nodes: Iterable[Node], zone: str = "", node: str = ""
) -> tuple[list[Node], dict[Any, str]]:
    """What is left of the nodes when a zone or a node is lost, and the pods that their volumes keep in their zones."""
    left = [one for one in nodes if one.zone != zone and one.name != node]
    bound = {(workload, number): at.zone for workload, number, at in placement.placed if workload.storage}
    return left, bound


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
    """Lose each zone and each node in turn."""
    whole = place(workloads, nodes, at_most, priorities)
    zones = sorted({node.zone for node in nodes})
    worst_zone: tuple[str, Placement] | None = None
    for zone in zones if len(zones) > 1 else []:
        left, bound = without(whole, nodes, zone=zone)
        after = place(workloads, left, at_most, priorities, bound)
        if worst_zone is None or after.pending.total() > worst_zone[1].pending.total():
            worst_zone = zone, after
    worst_node: tuple[str, Placement] | None = None
    for node in nodes if len(nodes) > 1 else []:
        left, bound = without(whole, nodes, node=node.name)
        after = place(workloads, left, at_most, priorities, bound)
        if worst_node is None or after.pending.total() > worst_node[1].pending.total():
            worst_node = node.name, after
            if worst_node[1].pending.total() > 0:
                break
    return Losses(
        worst_zone[0] if worst_zone else "",
        tuple(worst_zone[1].pending.items()) if worst_zone else (),
        tuple(worst_zone[1].waiting.items()) if worst_zone else (),
        worst_node[0] if worst_node else "",
        tuple(worst_node[1].pending.items()) if worst_node else (),
    )


def nodes_needed(
    workloads: list[Workload],
    like: Node,
    zones: list[str],
    at_most: bool,
    priorities: Mapping[str, int] | None = None,
    lost: str = "",
) -> int | None:
    """The least number of nodes like this one, over the zones in turn, that takes all pods; with ``lost`` (``zone`` or
    ``node``) also when any of these is gone. None where no number does.
    """
    count = len(zones) - 1
    while count < MOST_NODES:
        count += 1
        nodes = spread_nodes(like, zones, count)
        whole = place(workloads, nodes, at_most, priorities)
        if not whole.fits:
            if _never(whole, like):
                return None
            continue
        if not lost:
            return count
        losses = lose(workloads, nodes, at_most, priorities)
        if not (losses.of_zone if lost == "zone" else losses.of_node):
            return count
    return None


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

# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of flows as the mesh sees it: who has a proxy, what goes through it, and what has to go past it.

A proxy knows its peers by their certificates. Who has none (Prometheus, the world, the API server; Redis and
PostgreSQL, which have TLS of their own) is talked to past the proxy, by ports: what the NetworkPolicies say of them
stays all that is said. So no port can lead both to somebody with an identity and to somebody without.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.flows import Endpoint, Flow


class Proxy(NamedTuple):
    """The proxy beside each pod of a workload.

    ``callers``: who may come through it, each with the ports. ``called``: the namespaces whose Services it has to know.
    ``past_in``, ``past_out``: ports (of the workload, and of whom it calls) that it does not see.
    """

    callers: dict[Endpoint, set[int]]
    called: set[str]
    past_in: set[int]
    past_out: set[int]


class Conflict(NamedTuple):
    """A port of a workload, or of whom it calls, with one peer that has an identity and one that has none."""

    workload: Endpoint
    port: int
    known: Endpoint
    unknown: Endpoint


def proxies(flows: list[Flow], namespaces: Collection[str]) -> tuple[dict[Endpoint, Proxy], list[Conflict]]:
    """Those of the workloads in ``namespaces`` that call one another; what calls nobody there and is not called from
    there, such as a Job that knows the database alone, needs none.
    """

    def meshed(end: Endpoint) -> bool:
        # Another label is a vendor's chart, which puts no proxy beside its pods.
        return end.namespace in namespaces and "=" not in end.app

    inside = [flow for flow in flows if meshed(flow.sender) and meshed(flow.receiver)]
    ends = {end for flow in inside for end in (flow.sender, flow.receiver) if end.app != "*"}
    found: dict[Endpoint, Proxy] = {}
    conflicts: list[Conflict] = []
    for workload in sorted(ends):
        everyone = (workload, workload._replace(app="*"))
        proxy = Proxy({}, set(), set(), set())
        received = [(flow.sender, flow.ports) for flow in flows if flow.receiver in everyone]
        for sender, ports in received:
            if meshed(sender):
                proxy.callers.setdefault(sender, set()).update(ports)
            else:
                proxy.past_in.update(ports)
        sent = [(flow.receiver, flow.ports) for flow in flows if flow.sender in everyone]
        through = {port for receiver, ports in sent if meshed(receiver) for port in ports}
        for receiver, ports in sent:
            if meshed(receiver) or (receiver.namespace and through & set(ports)):
                # A Service without proxies is known to be one, and gets plain text.
                proxy.called.add(receiver.namespace)
            proxy.past_out.update(set() if meshed(receiver) else set(ports) - through)
        found[workload] = proxy
        conflicts += _conflicts(workload, received, meshed, lambda end: not meshed(end))
        conflicts += _conflicts(workload, sent, meshed, lambda end: not end.namespace)
    return found, conflicts


def _conflicts(
    workload: Endpoint,
    peers: list[tuple[Endpoint, tuple[int, ...]]],
    known: Callable[[Endpoint], bool],
    unknown: Callable[[Endpoint], bool],
) -> Iterator[Conflict]:
    taken = {port: end for end, ports in peers if known(end) for port in ports}
    for end, ports in peers:
        for port in ports:
            if unknown(end) and port in taken:
                yield Conflict(workload, port, taken[port], end)

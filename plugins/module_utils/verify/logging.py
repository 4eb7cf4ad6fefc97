# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether logs arrive in their store, and none is lost on the way."""

from __future__ import annotations

from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import wait_until
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
from ansible_collections.lambda_microservice.platform.plugins.module_utils.logs.logs import STORES
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.checks import Doubtful, Found, Passed

LOGGING_SPEC: dict[str, Any] = {
    "type": "dict",
    "options": {
        "backend": {"type": "str", "choices": sorted(STORES), "default": "victorialogs"},
        "namespace": {"type": "str", "default": "monitoring"},
        "agents_namespace": {"type": "str", "default": "node-agents"},
        "sources": {"type": "list", "elements": "str", "required": True},
        "minutes": {"type": "int", "default": 10},
    },
}


def logs_arrive(cluster: Cluster, options: Object, wait_seconds: float) -> Found:
    """The store has new lines of every namespace that must have some, and no agent has dropped any."""
    store, minutes = STORES[options["backend"]], options["minutes"]
    sources = set(options["sources"])
    # Agents look at a quiet pod every 10 s, and the edge's first lines may be those of this run.
    counts = wait_until(
        lambda: store.counts(cluster, options["namespace"], minutes),
        wait_seconds,
        pause_seconds=2,
        done=lambda found: sources <= found.keys(),
    )
    silent = sorted(sources - counts.keys())
    if silent:
        raise PlatformError(
            "logs do not arrive",
            where=f"the logs' store in namespace {options['namespace']}",
            found=f"no line of the last {minutes} minutes from {', '.join(silent)}",
            expected=f"lines from {', '.join(sorted(sources))}",
            fix=f"see the agents: kubectl -n {options['agents_namespace']} get pods, and their logs",
            reason="missing",
        )
    detail = f"{sum(counts.values())} lines of {minutes} minutes from {len(counts)} namespaces"
    losers = {pod: count for pod, count in store.dropped(cluster, options["agents_namespace"]).items() if count}
    if not losers:
        return Passed(f"{detail}, none dropped")
    told = ", ".join(f"{pod} {count}" for pod, count in sorted(losers.items()))
    return Doubtful(
        f"{detail}, some dropped",
        f"Agents have dropped lines, or blocks of them, since they began: {told}. Their logs say why: the store was "
        "away for longer than logging_agent_buffer holds, it refused them, or lines were too long.",
    )

# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A line of the logs, whatever store it is kept in, and what can be asked of a store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster

LIMIT = 1000
"""How many lines of one request are shown at the most."""


@dataclass(frozen=True)
class Line:
    """``time`` is RFC 3339 in UTC, ``fields`` what the component's own JSON has beside message and time."""

    time: str
    namespace: str
    pod: str
    container: str
    message: str
    fields: dict[str, str] = field(default_factory=dict)


class Store(Protocol):
    """Where logs are kept. A question raises a PlatformError where what is asked does not answer."""

    def of_request(self, cluster: Cluster, namespace: str, request_id: str, trace_id: str) -> list[Line]:
        """The lines that have the request's id or that of its trace, the latest LIMIT, in no order."""

    def counts(self, cluster: Cluster, namespace: str, minutes: int) -> dict[str, int]:
        """How many lines the store has of the last minutes, by the namespace of the pods that wrote them."""

    def dropped(self, cluster: Cluster, agents_namespace: str) -> dict[str, int]:
        """How many lines, and blocks of lines, each agent has dropped since it began, by its pod."""

# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What preflight reads of a cluster: each list once, all of them at the same time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import side_by_side
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object

_LISTS = {
    "nodes": ("v1", "Node", None),
    "pods": ("v1", "Pod", None),
    "namespaces": ("v1", "Namespace", None),
    "services": ("v1", "Service", None),
    "storage_classes": ("storage.k8s.io/v1", "StorageClass", None),
    "daemon_sets": ("apps/v1", "DaemonSet", None),
    "deployments": ("apps/v1", "Deployment", None),
    "stateful_sets": ("apps/v1", "StatefulSet", None),
    "leases": ("coordination.k8s.io/v1", "Lease", "kube-node-lease"),
    "api_services": ("apiregistration.k8s.io/v1", "APIService", None),
}


class State:
    """The lists by name. One that could not be read raises why, where it is asked for."""

    def __init__(self, lists: dict[str, list[Object] | PlatformError], version: Object, clock_offset: float | None):
        self._lists = lists
        self.version = version
        self.clock_offset = clock_offset
        """Seconds by which this machine's clock is ahead of the API server's."""

    def __getitem__(self, name: str) -> list[Object]:
        found = self._lists[name]
        if isinstance(found, PlatformError):
            raise found
        return found


def read(cluster: Cluster) -> State:
    """All lists. An API server that does not answer, or not to these credentials, is an error."""
    response = cluster.open("GET", "/version")
    try:
        served = parsedate_to_datetime(response.headers.get("Date", ""))
        offset: float | None = (datetime.now(UTC) - served).total_seconds()
    except (TypeError, ValueError):
        offset = None
    version = cluster.version()
    with side_by_side() as begin:
        futures = {name: begin(_list(cluster, *where)) for name, where in _LISTS.items()}
    return State({name: _result(future) for name, future in futures.items()}, version, offset)


def _list(cluster: Cluster, api_version: str, kind: str, namespace: str | None) -> Callable[[], Any]:
    def call() -> list[Object] | PlatformError:
        try:
            return cluster.list(api_version, kind, namespace)
        except PlatformError as failure:
            return failure

    return call


def _result(future: Future[Any]) -> Any:
    return future.result()

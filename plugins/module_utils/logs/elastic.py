# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Elasticsearch as a store. Its fields are those of the role logging's template; a program's own JSON is below json."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.elasticsearch.requests import (
    Elasticsearch,
    Request,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.logs.line import LIMIT, Line

NAME = "logs"
USER_SECRET = "elasticsearch-logs-reader"  # noqa: S105
SEARCH = "/logs-platform-*/_search"
_NAMESPACES = 100


class Elastic:
    """See Store."""

    def of_request(self, cluster: Cluster, namespace: str, request_id: str, trace_id: str) -> list[Line]:
        found = search(cluster, namespace, request_query(request_id, trace_id))
        return [line_of(hit["_source"]) for hit in found["hits"]["hits"]]

    def counts(self, cluster: Cluster, namespace: str, minutes: int) -> dict[str, int]:
        found = search(cluster, namespace, counts_query(minutes))
        return {bucket["key"]: bucket["doc_count"] for bucket in found["aggregations"]["namespaces"]["buckets"]}

    def dropped(self, cluster: Cluster, agents_namespace: str) -> dict[str, int]:
        """Filebeat's counters are open to nobody, so nothing is known."""
        del cluster, agents_namespace
        return {}


def request_query(request_id: str, trace_id: str) -> dict[str, Any]:
    """The latest lines that have one of the ids."""
    ids = [{"term": {"request_id": request_id}}, {"term": {"trace_id": trace_id}}]
    return {
        "size": LIMIT,
        "sort": [{"@timestamp": "desc"}],
        "query": {"bool": {"filter": [{"bool": {"should": ids, "minimum_should_match": 1}}]}},
    }


def counts_query(minutes: int) -> dict[str, Any]:
    """How many lines there are of each namespace."""
    return {
        "size": 0,
        "query": {"range": {"@timestamp": {"gte": f"now-{minutes}m"}}},
        "aggs": {"namespaces": {"terms": {"field": "kubernetes.namespace", "size": _NAMESPACES}}},
    }


def search(cluster: Cluster, namespace: str, query: dict[str, Any]) -> dict[str, Any]:
    """The answer to a search, as the user who may only read."""
    server = Elasticsearch(cluster, namespace, NAME, USER_SECRET)
    (answer,) = server.ask([Request("POST", SEARCH, query)])
    if not answer.ok:
        raise PlatformError(
            "Elasticsearch refuses a search",
            where=server.described(),
            found=f"{answer.status}: {answer.reason()}",
            expected="an answer with success",
            fix="site.yml --tags logging makes the user and the data stream",
            reason="answer",
        )
    return dict(answer.body)


def line_of(source: dict[str, Any]) -> Line:
    """A document of the data stream."""
    pod = source.get("kubernetes") or {}
    own = dict(_flat(source.get("json") or {}))
    message = own.pop("message", str(source.get("message", "")))
    return Line(
        time=source["@timestamp"],
        namespace=pod.get("namespace", ""),
        pod=pod.get("pod", ""),
        container=pod.get("container", ""),
        message=message,
        fields=own,
    )


def _flat(value: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, entry in value.items():
        if isinstance(entry, dict):
            yield from _flat(entry, f"{prefix}{name}.")
        elif entry is not None:
            yield prefix + name, str(entry)

"""The check of the logs: lines of whom there must be some, and what was dropped."""

from __future__ import annotations

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.logs.logs import STORES
from ansible_collections.lambda_microservice.platform.plugins.module_utils.logs.victorialogs import VictoriaLogs
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.checks import Doubtful, Passed
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.logging import logs_arrive

from ..stand_in import stands_in_for

CLUSTER = object.__new__(Cluster)
OPTIONS = {
    "backend": "victorialogs",
    "namespace": "monitoring",
    "agents_namespace": "node-agents",
    "sources": ["ingress", "controller"],
    "minutes": 10,
}


@stands_in_for(VictoriaLogs)
class Store:
    def __init__(self, counts, dropped):
        self._counts, self._dropped = counts, dropped

    def counts(self, _cluster, namespace, minutes):
        assert (namespace, minutes) == ("monitoring", 10)
        return self._counts

    def dropped(self, _cluster, agents_namespace):
        assert agents_namespace == "node-agents"
        return self._dropped


def look(monkeypatch, counts, dropped):
    monkeypatch.setitem(STORES, "victorialogs", Store(counts, dropped))
    return logs_arrive(CLUSTER, OPTIONS, wait_seconds=0)


def test_lines_of_all_and_none_dropped(monkeypatch):
    found = look(monkeypatch, {"ingress": 3, "controller": 2, "kube-system": 1}, {"vlagent-1": 0})
    assert found == Passed("6 lines of 10 minutes from 3 namespaces, none dropped")


def test_a_namespace_without_lines_is_a_failure(monkeypatch):
    with pytest.raises(PlatformError, match="logs do not arrive") as failure:
        look(monkeypatch, {"ingress": 3}, {})
    assert "from controller" in failure.value.found


def test_dropped_lines_are_a_warning(monkeypatch):
    found = look(monkeypatch, {"ingress": 3, "controller": 2}, {"vlagent-1": 0, "vlagent-2": 7})
    assert isinstance(found, Doubtful) and "vlagent-2 7" in found.warning

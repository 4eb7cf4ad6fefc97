"""The lines of a request: which ids there are, what is asked of the store, and how its answer is told."""

from __future__ import annotations

import json

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.logs import logs, victorialogs

from ..stand_in import stands_in_for

REQUEST = "5e3d9a52-71c4-4c1b-9f0e-6a1b2c3d4e5f"
TRACE = "5e3d9a5271c44c1b9f0e6a1b2c3d4e5f"


def row(time: str, namespace: str, pod: str, container: str, **own: str) -> dict[str, str]:
    """A line as VictoriaLogs answers."""
    return {
        "_time": f"2026-11-30T01:02:{time}Z",
        "_stream": "{}",
        "_msg": own.pop("_msg", ""),
        "kubernetes.pod_namespace": namespace,
        "kubernetes.pod_name": pod,
        "kubernetes.container_name": container,
        "kubernetes.pod_node_name": "worker",
        "request_id": REQUEST,
        "trace_id": TRACE,
        **own,
    }


ROWS = [
    row("03.345", "controller", "controller-1", "controller", _msg="request", status="200", duration_ms="41.2"),
    row("03.310", "ingress", "envoy-1", "envoy", method="POST", status="200", flags="-"),
    row("03.344", "openfaas-fn", "python-runtime-1", "python-runtime", _msg="executed", outcome="OK"),
]


@stands_in_for(Cluster)
class Pods:
    def __init__(self, ready: bool = True) -> None:
        status = {"conditions": [{"type": "Ready", "status": "True" if ready else "False"}]}
        self.pods = [{"metadata": {"name": "store-0"}, "status": status}]

    def list(self, api_version, kind, namespace=None, label_selector=None):
        assert (api_version, kind, namespace) == ("v1", "Pod", "monitoring")
        return self.pods


@pytest.fixture
def asked(monkeypatch):
    """What the store was asked; it answers with ROWS."""
    questions = []

    def get(_cluster, _namespace, pod, port, path, query):
        questions.append((pod, port, path, query))
        return "\n".join(map(json.dumps, ROWS)).encode()

    monkeypatch.setattr(victorialogs, "get_from_pod", get)
    return questions


def run(request=REQUEST, cluster=None, said=None, **params):
    given = {"request": request, "namespace": "monitoring", "backend": "victorialogs", "enabled": True, **params}
    progress = said.append if said is not None else None
    return logs.run({**given, "retention_days": 7}, False, False, progress, lambda _auth: cluster or Pods())


def test_the_lines_are_in_order_and_aligned(asked):
    said = []
    result = run(said=said)
    assert [line["pod"] for line in result["lines"]] == ["envoy-1", "python-runtime-1", "controller-1"]
    assert (
        result["table"]
        == said
        == [
            "2026-11-30 (UTC)",
            "01:02:03.310  envoy envoy-1                    method=POST status=200",
            "01:02:03.344  python-runtime python-runtime-1  executed outcome=OK",
            "01:02:03.345  controller controller-1          request status=200 duration_ms=41.2",
        ]
    )
    assert result["msg"] == "3 lines of 3 pods"
    query = {"query": f'request_id:="{REQUEST}" or trace_id:="{TRACE}"', "limit": 1000}
    assert asked == [("store-0", 9428, "/select/logsql/query", query)]


@pytest.mark.parametrize("given", [REQUEST, TRACE, f" {REQUEST.upper()}\n"])
def test_both_ids_lead_to_both(given):
    assert logs.ids_of(given) == (REQUEST, TRACE)


@pytest.mark.parametrize("given", ["", "x", REQUEST[:-1], f'{REQUEST}" or *', TRACE + "0"])
def test_what_is_no_id_is_said_and_not_asked(given, asked):
    with pytest.raises(PlatformError, match="no id of a request") as refused:
        run(given)
    assert refused.value.reason == "argument"
    assert asked == []


def test_no_line_no_logs_and_no_store_are_said(asked, monkeypatch):
    monkeypatch.setitem(globals(), "ROWS", [])
    with pytest.raises(PlatformError, match="no line of this request") as missing:
        run()
    assert "last 7 days" in missing.value.where
    with pytest.raises(PlatformError, match="no logs are collected"):
        run(enabled=False)
    with pytest.raises(PlatformError, match="store is not ready"):
        run(cluster=Pods(ready=False))


def test_what_agents_dropped_is_the_sum_of_their_counters(monkeypatch):
    metrics = b"""
vl_rows_dropped_total{reason="too_many_fields"} 1
vl_rows_ingested_total{type="kubernetes_logs"} 100
vl_too_long_lines_skipped_total 2
vlagent_remotewrite_packets_dropped_total{url="1:secret-url"} 3
vm_persistentqueue_blocks_dropped_total{path="/var/lib/vlagent/x"} 4
vm_persistentqueue_bytes_dropped_total{path="/var/lib/vlagent/x"} 5000
"""
    monkeypatch.setattr(victorialogs, "get_from_pod", lambda *_where: metrics)
    assert victorialogs.VictoriaLogs().dropped(Pods(), "monitoring") == {"store-0": 10}

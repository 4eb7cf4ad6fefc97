"""kube-state-exporter: the series, labels and values of kube-state-metrics, from objects as the API lists them."""

from __future__ import annotations

import importlib.util
import json
import socket
import ssl
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import jinja2
import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = ROOT / "images/kube-state-exporter/kube_state_exporter.py"

# https://github.com/kubernetes/kube-state-metrics/tree/v2.20.0/docs/metrics: each series that is used, with all of its labels.
OF_A_POD = {"namespace", "pod", "uid"}
OF_A_CONTAINER = OF_A_POD | {"container"}
DOCUMENTED = {
    "kube_cronjob_spec_suspend": {"namespace", "cronjob"},
    "kube_cronjob_status_last_successful_time": {"namespace", "cronjob"},
    "kube_daemonset_status_desired_number_scheduled": {"namespace", "daemonset"},
    "kube_daemonset_status_number_ready": {"namespace", "daemonset"},
    "kube_deployment_metadata_generation": {"namespace", "deployment"},
    "kube_deployment_spec_replicas": {"namespace", "deployment"},
    "kube_deployment_status_observed_generation": {"namespace", "deployment"},
    "kube_deployment_status_replicas_available": {"namespace", "deployment"},
    "kube_deployment_status_replicas_updated": {"namespace", "deployment"},
    "kube_horizontalpodautoscaler_spec_max_replicas": {"namespace", "horizontalpodautoscaler"},
    "kube_horizontalpodautoscaler_spec_min_replicas": {"namespace", "horizontalpodautoscaler"},
    "kube_horizontalpodautoscaler_status_current_replicas": {"namespace", "horizontalpodautoscaler"},
    "kube_horizontalpodautoscaler_status_desired_replicas": {"namespace", "horizontalpodautoscaler"},
    "kube_job_status_failed": {"namespace", "job_name", "reason"},
    "kube_job_status_succeeded": {"namespace", "job_name"},
    "kube_namespace_created": {"namespace"},
    "kube_node_spec_unschedulable": {"node"},
    "kube_node_status_allocatable": {"node", "resource", "unit"},
    "kube_node_status_condition": {"node", "condition", "status"},
    "kube_persistentvolumeclaim_resource_requests_storage_bytes": {"namespace", "persistentvolumeclaim"},
    "kube_persistentvolumeclaim_status_phase": {"namespace", "persistentvolumeclaim", "phase"},
    "kube_pod_container_resource_limits": OF_A_CONTAINER | {"node", "resource", "unit"},
    "kube_pod_container_resource_requests": OF_A_CONTAINER | {"node", "resource", "unit"},
    "kube_pod_container_status_restarts_total": OF_A_CONTAINER,
    "kube_pod_container_status_waiting_reason": OF_A_CONTAINER | {"reason"},
    "kube_pod_info": OF_A_POD
    | {"host_ip", "pod_ip", "node", "created_by_kind", "created_by_name", "priority_class", "host_network"},
    "kube_pod_status_phase": OF_A_POD | {"phase"},
    "kube_pod_status_ready": OF_A_POD | {"condition"},
    "kube_poddisruptionbudget_status_current_healthy": {"namespace", "poddisruptionbudget"},
    "kube_poddisruptionbudget_status_desired_healthy": {"namespace", "poddisruptionbudget"},
    "kube_poddisruptionbudget_status_pod_disruptions_allowed": {"namespace", "poddisruptionbudget"},
    "kube_resourcequota": {"namespace", "resourcequota", "resource", "type"},
    "kube_statefulset_replicas": {"namespace", "statefulset"},
    "kube_statefulset_status_replicas_ready": {"namespace", "statefulset"},
}
OURS = {
    "platform_certificate_expiry_seconds": {"namespace", "secret"},
    "platform_restore_rehearsed_seconds": {"namespace"},
}
REHEARSED = ROOT / "playbooks/tasks/restore-rehearsed.yml"
COUNTERS = {"kube_pod_container_status_restarts_total"}


def metadata(name: str, namespace: str = "data-services", **further: Any) -> dict[str, Any]:
    return {"name": name, "namespace": namespace, "uid": f"uid-{name}", "generation": 3, **further}


# As the API server answers: a status field that is 0 or false is mostly left out.
OBJECTS: dict[str, list[dict[str, Any]]] = {
    "api/v1/configmaps?fieldSelector=metadata.name%3Dcertificates": [
        {"metadata": metadata("certificates"), "data": {"pgbouncer-tls": "2027-11-30T01:02:03Z", "unknown-tls": ""}},
        {"metadata": metadata("certificates", "ingress")},
    ],
    "api/v1/pods": [
        {
            "metadata": metadata(
                "pgbouncer-5d",
                ownerReferences=[{"kind": "ReplicaSet", "name": "pgbouncer", "controller": True}],
            ),
            "spec": {
                "nodeName": "worker",
                "priorityClassName": "platform-data",
                "volumes": [{"name": "tmp"}, {"name": "certificate", "secret": {"secretName": "pgbouncer-tls"}}],
                "containers": [
                    {
                        "name": "pgbouncer",
                        "resources": {
                            "requests": {"cpu": "250m", "memory": "64Mi"},
                            "limits": {"memory": "256Mi", "ephemeral-storage": "1G"},
                        },
                    },
                    {"name": "exporter", "resources": {}},
                ],
            },
            "status": {
                "phase": "Running",
                "hostIP": "172.18.0.3",
                "podIP": "10.244.1.7",
                "conditions": [{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": "False"}],
                "containerStatuses": [
                    {"name": "pgbouncer", "restartCount": 4, "state": {"running": {}}},
                    {"name": "exporter", "restartCount": 0, "state": {"waiting": {"reason": "CrashLoopBackOff"}}},
                ],
            },
        },
        # That no node has taken yet.
        {"metadata": metadata("new"), "spec": {"containers": [{"name": "new"}]}, "status": {"phase": "Pending"}},
    ],
    "apis/apps/v1/deployments": [
        {
            "metadata": metadata("pgbouncer"),
            "spec": {"replicas": 2},
            "status": {"availableReplicas": 1, "updatedReplicas": 2, "observedGeneration": 2},
        },
        {"metadata": metadata("none"), "spec": {"replicas": 0}, "status": {}},
    ],
    "apis/apps/v1/statefulsets": [{"metadata": metadata("redis"), "spec": {"replicas": 3}, "status": {"replicas": 3}}],
    "apis/apps/v1/daemonsets": [
        {"metadata": metadata("node-exporter"), "status": {"desiredNumberScheduled": 4, "numberReady": 3}}
    ],
    "apis/autoscaling/v2/horizontalpodautoscalers": [
        {"metadata": metadata("controller"), "spec": {"maxReplicas": 10}, "status": {"desiredReplicas": 4}}
    ],
    "api/v1/resourcequotas": [
        {
            "metadata": metadata("platform"),
            "status": {"hard": {"requests.cpu": "28", "pods": "60"}, "used": {"requests.cpu": "6500m", "pods": "15"}},
        }
    ],
    "api/v1/namespaces": [
        {
            "metadata": {
                "name": "data-services",
                "creationTimestamp": "2026-10-01T00:00:00Z",
                "annotations": {"lambda-microservice.platform/restore-rehearsed": "2026-11-30T02:17:09Z"},
            }
        },
        {"metadata": {"name": "controller", "creationTimestamp": "2026-10-01T00:00:00Z"}},
    ],
    "api/v1/nodes": [
        {
            "metadata": {"name": "worker", "uid": "uid-worker"},
            "spec": {"unschedulable": True},
            "status": {
                "allocatable": {"cpu": "1930m", "memory": "16Gi", "pods": "110", "nvidia.com/gpu": "1"},
                "conditions": [{"type": "Ready", "status": "Unknown"}],
            },
        }
    ],
    "apis/batch/v1/jobs": [
        {"metadata": metadata("migrations"), "status": {"succeeded": 1}},
        {
            "metadata": metadata("backup-1"),
            "status": {"failed": 3, "conditions": [{"type": "Failed", "reason": "DeadlineExceeded"}]},
        },
        {"metadata": metadata("backup-2"), "status": {"failed": 1}},
    ],
    "apis/batch/v1/cronjobs": [
        {
            "metadata": metadata("redis-backup"),
            "spec": {"suspend": False},
            "status": {"lastSuccessfulTime": "2026-11-30T02:17:09Z"},
        },
        {"metadata": metadata("never"), "spec": {"suspend": True}, "status": {}},
    ],
    "apis/policy/v1/poddisruptionbudgets": [
        {"metadata": metadata("redis"), "status": {"currentHealthy": 3, "desiredHealthy": 2, "disruptionsAllowed": 1}}
    ],
    "api/v1/persistentvolumeclaims": [
        {
            "metadata": metadata("data-redis-0"),
            "spec": {"resources": {"requests": {"storage": "20Gi"}}},
            "status": {"phase": "Bound"},
        }
    ],
}


@pytest.fixture(scope="module")
def exporter() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kube_state_exporter", PROGRAM)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Recorded:
    """The API server's place."""

    def connection(self) -> Recorded:
        return self

    def close(self) -> None:
        pass

    def objects(self, path: str, connection: Recorded) -> list[dict[str, Any]]:
        return OBJECTS[path]


Series = dict[str, dict[frozenset[tuple[str, str]], float]]


def parsed(text: str) -> Series:
    found: Series = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert family.type == ("counter" if sample.name in COUNTERS else "gauge"), sample.name
            found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found


@pytest.fixture(scope="module")
def series(exporter: ModuleType) -> Series:
    registry = CollectorRegistry()
    registry.register(exporter.State(Recorded(), exporter.kinds()))
    return parsed(generate_latest(registry).decode())


def value(series: Series, name: str, **labels: str) -> float:
    matching = [number for found, number in series[name].items() if labels.items() <= dict(found).items()]
    assert len(matching) == 1, (name, labels, matching)
    return matching[0]


def test_every_series_has_upstreams_name_and_labels(series: Series) -> None:
    assert {name: {label for found in each for label, _ in found} for name, each in series.items()} == DOCUMENTED | OURS
    for name, each in series.items():
        for found in each:
            assert dict(found).keys() == (DOCUMENTED | OURS)[name], name


def test_upstream_is_asked_for_the_same_series() -> None:
    values = yaml.safe_load((ROOT / "roles/monitoring/files/charts/state/values.yaml").read_text(encoding="utf-8"))
    assert values["series"] == sorted(DOCUMENTED)


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("kube_pod_status_phase", {"pod": "pgbouncer-5d", "phase": "Running"}, 1),
        ("kube_pod_status_phase", {"pod": "pgbouncer-5d", "phase": "Pending"}, 0),
        ("kube_pod_status_ready", {"pod": "pgbouncer-5d", "condition": "false"}, 1),
        ("kube_pod_status_ready", {"pod": "pgbouncer-5d", "condition": "true"}, 0),
        ("kube_pod_container_status_restarts_total", {"container": "pgbouncer"}, 4),
        ("kube_pod_container_status_waiting_reason", {"reason": "CrashLoopBackOff", "container": "exporter"}, 1),
        ("kube_pod_container_resource_requests", {"resource": "cpu", "unit": "core", "node": "worker"}, 0.25),
        ("kube_pod_container_resource_limits", {"resource": "memory", "unit": "byte"}, 256 * 1024**2),
        ("kube_pod_container_resource_limits", {"resource": "ephemeral_storage", "unit": "byte"}, 1e9),
        ("kube_pod_info", {"created_by_kind": "ReplicaSet", "priority_class": "platform-data", "pod_ip": "10.244.1.7"}, 1),
        ("kube_pod_info", {"pod": "new", "node": "", "host_network": "false"}, 1),
        # date -d 2027-11-30T01:02:03Z +%s
        ("platform_certificate_expiry_seconds", {"secret": "pgbouncer-tls", "namespace": "data-services"}, 1827536523),
        ("kube_deployment_status_replicas_available", {"deployment": "pgbouncer"}, 1),
        ("kube_deployment_status_replicas_available", {"deployment": "none"}, 0),
        ("kube_deployment_metadata_generation", {"deployment": "pgbouncer"}, 3),
        ("kube_deployment_status_observed_generation", {"deployment": "pgbouncer"}, 2),
        ("kube_statefulset_status_replicas_ready", {"statefulset": "redis"}, 0),
        ("kube_daemonset_status_number_ready", {"daemonset": "node-exporter"}, 3),
        ("kube_horizontalpodautoscaler_spec_min_replicas", {"horizontalpodautoscaler": "controller"}, 1),
        ("kube_horizontalpodautoscaler_status_desired_replicas", {"horizontalpodautoscaler": "controller"}, 4),
        ("kube_resourcequota", {"resource": "requests.cpu", "type": "used"}, 6.5),
        ("kube_resourcequota", {"resource": "pods", "type": "hard"}, 60),
        ("kube_node_spec_unschedulable", {"node": "worker"}, 1),
        ("kube_node_status_allocatable", {"resource": "cpu", "unit": "core"}, 1.93),
        ("kube_node_status_allocatable", {"resource": "pods", "unit": "integer"}, 110),
        ("kube_node_status_allocatable", {"resource": "nvidia_com_gpu", "unit": "integer"}, 1),
        ("kube_node_status_condition", {"condition": "Ready", "status": "unknown"}, 1),
        ("kube_node_status_condition", {"condition": "Ready", "status": "true"}, 0),
        ("kube_job_status_succeeded", {"job_name": "migrations"}, 1),
        ("kube_job_status_failed", {"job_name": "migrations"}, 0),
        ("kube_job_status_failed", {"job_name": "backup-1", "reason": "DeadlineExceeded"}, 1),
        ("kube_job_status_failed", {"job_name": "backup-1", "reason": "Evicted"}, 0),
        ("kube_job_status_failed", {"job_name": "backup-2", "reason": ""}, 1),
        ("kube_cronjob_status_last_successful_time", {}, 1796005029),
        ("kube_cronjob_spec_suspend", {"cronjob": "never"}, 1),
        ("kube_cronjob_spec_suspend", {"cronjob": "redis-backup"}, 0),
        # date -d 2026-10-01T00:00:00Z +%s
        ("kube_namespace_created", {"namespace": "controller"}, 1790812800),
        ("platform_restore_rehearsed_seconds", {}, 1796005029),
        ("kube_poddisruptionbudget_status_pod_disruptions_allowed", {}, 1),
        ("kube_persistentvolumeclaim_status_phase", {"phase": "Bound"}, 1),
        ("kube_persistentvolumeclaim_status_phase", {"phase": "Lost"}, 0),
        ("kube_persistentvolumeclaim_resource_requests_storage_bytes", {}, 20 * 1024**3),
    ],
)
def test_the_values(series: Series, name: str, labels: dict[str, str], expected: float) -> None:
    assert value(series, name, **labels) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1", 1), ("100m", 0.1), ("1Ki", 1024), ("1k", 1000), ("1.5Gi", 1.5 * 1024**3), ("2e3", 2000), ("3E", 3e18), ("5n", 5e-9)],
)
def test_quantities(exporter: ModuleType, text: str, expected: float) -> None:
    assert exporter.quantity(text) == pytest.approx(expected)


def test_what_is_no_quantity_is_said(exporter: ModuleType) -> None:
    with pytest.raises(ValueError, match="'12 Gi' is no quantity"):
        exporter.quantity("12 Gi")


def test_beside_upstreams_only_what_that_has_not_is_asked_for(exporter: ModuleType) -> None:
    kinds = exporter.kinds("platform_")
    assert {name for _, series in kinds.values() for name in series} == set(OURS)
    assert set(kinds) == {"api/v1/configmaps?fieldSelector=metadata.name%3Dcertificates", "api/v1/namespaces"}


def test_the_playbooks_note_a_rehearsal_as_it_is_read(exporter: ModuleType) -> None:
    (task,) = yaml.safe_load(REHEARSED.read_text(encoding="utf-8"))
    (noted,) = task["kubernetes.core.k8s"]["definition"]["metadata"]["annotations"].items()
    template = jinja2.Environment(autoescape=True).from_string(noted[1])
    told = template.render(now=lambda utc: datetime(2026, 11, 30, 2, 17, 9, tzinfo=UTC if utc else None))
    namespace = {"metadata": {"name": "data-services", "annotations": {noted[0]: told}}}
    assert list(exporter._rehearsed(namespace)) == [((), 1796005029)]


def opened(exporter: ModuleType, target: str) -> dict[str, float]:
    """What is told of a target before and after a look."""
    forbidden = exporter.Forbidden(target)
    assert not next(forbidden.collect()).samples
    forbidden.look()
    return {sample.labels["target"]: sample.value for sample in next(forbidden.collect()).samples}


def test_a_connection_that_should_not_be_is_told(exporter: ModuleType) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        target = f"127.0.0.1:{server.getsockname()[1]}"
        assert opened(exporter, target) == {target: 1}
    assert opened(exporter, target) == {target: 0}


def test_a_connection_that_is_silent_is_none(exporter: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "TIMEOUT_SECONDS", 0.2)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        # Whoever comes after those that wait for an accept gets no answer.
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(server.getsockname())
        target = f"127.0.0.1:{server.getsockname()[1]}"
        assert opened(exporter, target) == {target: 0}
        for each in waiting:
            each.close()


def test_a_broken_kind_is_no_part_of_the_truth(exporter: ModuleType) -> None:
    class Refused(Recorded):
        def objects(self, path: str, connection: Recorded) -> list[dict[str, Any]]:
            if "nodes" in path:
                raise OSError("GET /api/v1/nodes: 403")
            return OBJECTS[path]

    registry = CollectorRegistry()
    registry.register(exporter.State(Refused(), exporter.kinds()))
    server, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    try:
        with pytest.raises(urllib.error.HTTPError, match="500"):
            urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=10)  # noqa: S310
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def api_server(tmp_path: Path) -> Iterator[tuple[int, list[dict[str, str]]]]:
    """An API server with TLS that lists OBJECTS, and what it was asked with."""
    key = tmp_path / "tls.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        + ["-keyout", str(key), "-out", str(tmp_path / "ca.crt"), "-days", "2", "-subj", "/CN=kubernetes"]
        + ["-addext", "subjectAltName=IP:127.0.0.1"],
        check=True,
        capture_output=True,
    )
    asked: list[dict[str, str]] = []

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked.append({"path": self.path, "authorization": self.headers["Authorization"]})
            body = json.dumps({"items": OBJECTS[self.path[1:].removesuffix("resourceVersion=0")[:-1]]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(tmp_path / "ca.crt", key)
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port, asked
        server.shutdown()
        thread.join()


def test_it_asks_the_api_server_with_the_token_of_now(
    exporter: ModuleType, api_server: tuple[int, list[dict[str, str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, asked = api_server
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(port))
    monkeypatch.setattr(exporter, "ACCOUNT", tmp_path)
    (tmp_path / "token").write_text("first")
    registry = CollectorRegistry()
    registry.register(exporter.State(exporter.Cluster(), exporter.kinds()))
    assert asked == []
    generate_latest(registry)
    (tmp_path / "token").write_text("second")
    found = parsed(generate_latest(registry).decode())
    assert value(found, "kube_pod_container_status_restarts_total", container="pgbouncer") == 4
    assert [entry["authorization"] for entry in asked] == [f"Bearer {token}" for token in ("first", "second") for _ in OBJECTS]
    assert {entry["path"] for entry in asked} == {
        f"/{path}{'&' if '?' in path else '?'}resourceVersion=0" for path in OBJECTS
    }

"""What rendered objects ask of a cluster."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.workloads import (
    GIB,
    MIB,
    Workload,
    defaults_of,
    pod_requests,
    workloads_of,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from hypothesis import given
from hypothesis import strategies as st


def container(name: str, cpu: str | None = None, memory: str | None = None, **more: Any) -> dict[str, Any]:
    requests = {key: value for key, value in (("cpu", cpu), ("memory", memory)) if value}
    return {"name": name, "resources": {"requests": requests}, **more}


def deployment(name: str, spec: dict[str, Any] | None = None, **pod: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "one"},
        "spec": {"template": {"spec": {"containers": [container(name, "500m", "1Gi")], **pod}}, **(spec or {})},
    }


def one(objects: list[dict[str, Any]], **options: Any) -> Workload:
    (found,) = workloads_of("part", objects, **options)
    return found


def test_an_autoscaler_gives_the_bounds() -> None:
    target = {"kind": "Deployment", "name": "web"}
    scaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "namespace": "one"},
        "spec": {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 20},
    }
    found = one([deployment("web"), scaler])
    assert (found.least, found.most, found.cpu, found.memory, found.surge) == (2, 20, 500, GIB, 5)
    # One of another namespace is another's.
    scaler["metadata"]["namespace"] = "two"
    assert (one([deployment("web"), scaler]).most, one([deployment("web", {"replicas": 0})]).most) == (1, 0)


def test_a_pod_counts_with_its_sidecars_or_its_largest_beginning() -> None:
    pod = {
        "containers": [container("main", "1", "1Gi")],
        "initContainers": [
            container("first", "3"),
            container("mesh", "100m", "128Mi", restartPolicy="Always"),
            container("late", "2", "2Gi"),
        ],
    }
    # first alone: 3; late beside mesh: 2.1; all that stays: 1.1
    assert pod_requests(pod, "cpu", {}, "here") == Decimal(3)
    assert pod_requests(pod, "memory", {}, "here") == Decimal(2 * GIB + 128 * MIB)
    assert pod_requests({**pod, "overhead": {"cpu": "250m"}}, "cpu", {}, "here") == Decimal("3.25")


@given(st.lists(st.integers(0, 4000), max_size=4), st.lists(st.tuples(st.integers(0, 4000), st.booleans()), max_size=4))
def test_no_request_is_below_what_runs_at_once(main: list[int], before: list[tuple[int, bool]]) -> None:
    pod = {
        "containers": [container("c", f"{cpu}m") for cpu in main],
        "initContainers": [
            container("i", f"{cpu}m", **({"restartPolicy": "Always"} if stays else {})) for cpu, stays in before
        ],
    }
    found = pod_requests(pod, "cpu", {}, "here") * 1000
    assert found >= sum(main) + sum(cpu for cpu, stays in before if stays)
    assert found >= max([cpu for cpu, _stays in before], default=0)
    assert found <= sum(main) + sum(cpu for cpu, _stays in before)


def test_a_pod_counts_with_the_proxy_that_the_mesh_puts_beside_it() -> None:
    meshed = deployment("web")
    meshed["spec"]["template"]["metadata"] = {
        "labels": {"sidecar.istio.io/inject": "true"},
        "annotations": {
            "sidecar.istio.io/proxyCPU": "100m",
            "sidecar.istio.io/proxyMemory": "128Mi",
            "sidecar.istio.io/proxyCPULimit": "2",
            "sidecar.istio.io/proxyMemoryLimit": "512Mi",
        },
    }
    found = one([meshed])
    assert (found.cpu, found.memory, found.containers) == (600, GIB + 128 * MIB, ("web", "istio-proxy"))
    del meshed["spec"]["template"]["metadata"]["labels"]
    assert one([meshed]).cpu == 500


def test_who_says_nothing_gets_the_namespaces_default() -> None:
    limits = [{"type": "Pod"}, {"type": "Container", "defaultRequest": {"cpu": "50m", "memory": "64Mi"}}]
    ranges = {"kind": "LimitRange", "metadata": {"namespace": "one"}, "spec": {"limits": limits}}
    bare = deployment("web", containers=[{"name": "web"}, {"name": "limited", "resources": {"limits": {"cpu": "2"}}}])
    found = one([bare], defaults=defaults_of([ranges]))
    # A limit without a request is its request.
    assert (found.cpu, found.memory) == (2050, 128 * MIB)
    assert one([bare]).memory == 0


def test_volumes_are_of_each_replica() -> None:
    claim = {
        "metadata": {"name": "data"},
        "spec": {"resources": {"requests": {"storage": "20Gi"}}, "storageClassName": "gp3"},
    }
    found = one([{**deployment("db", {"replicas": 3, "volumeClaimTemplates": [claim]}), "kind": "StatefulSet"}])
    assert (found.least, found.storage, found.volumes[0].storage_class) == (3, 20 * GIB, "gp3")
    # Its pods end before others take their places.
    assert found.surge == 0


@pytest.mark.parametrize(
    ("kind", "spec", "name", "count", "cpu", "containers"),
    [
        (
            "monitoring.coreos.com/v1 Prometheus",
            {"replicas": 1, "resources": {"requests": {"cpu": "2"}}},
            "prometheus-logs",
            1,
            2010,
            ("prometheus", "config-reloader"),
        ),
        (
            "monitoring.coreos.com/v1 Alertmanager",
            {"replicas": 3, "resources": {"requests": {"cpu": "100m"}}},
            "alertmanager-logs",
            3,
            110,
            ("alertmanager", "config-reloader"),
        ),
        (
            "elasticsearch.k8s.elastic.co/v1 Elasticsearch",
            {
                "nodeSets": [
                    {
                        "name": "default",
                        "count": 3,
                        "resources": {"requests": {"cpu": "4"}},
                        "podTemplate": {"spec": {"containers": [{"name": "elasticsearch", "resources": {}}]}},
                    }
                ]
            },
            "logs-es-default",
            3,
            4000,
            ("elasticsearch",),
        ),
        (
            "kibana.k8s.elastic.co/v1 Kibana",
            {"count": 1, "resources": {"requests": {"cpu": "1"}}},
            "logs-kb",
            1,
            1000,
            ("kibana",),
        ),
        (
            "logstash.k8s.elastic.co/v1alpha1 Logstash",
            {"count": 2, "resources": {"requests": {"cpu": "1"}}},
            "logs-ls",
            2,
            1000,
            ("logstash",),
        ),
    ],
)
def test_what_operators_make_of_their_kinds(
    kind: str, spec: dict[str, Any], name: str, count: int, cpu: int, containers: tuple[str, ...]
) -> None:
    version, _space, kind = kind.partition(" ")
    found = one([{"apiVersion": version, "kind": kind, "metadata": {"name": "logs", "namespace": "one"}, "spec": spec}])
    assert (found.name, found.least, found.cpu, found.containers) == (name, count, cpu, containers)


def test_daemons_and_jobs_are_told_apart() -> None:
    template = deployment("web")["spec"]["template"]
    metadata = {"name": "one", "namespace": "one"}
    daemon = {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata, "spec": {"template": template}}
    beat = {
        "apiVersion": "beat.k8s.elastic.co/v1beta1",
        "kind": "Beat",
        "metadata": metadata,
        "spec": {"type": "filebeat", "daemonSet": {}, "resources": {"requests": {"cpu": "50m"}}},
    }
    job = {"spec": {"template": template}}
    cron = {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": metadata, "spec": {"jobTemplate": job}}
    found = workloads_of("part", [daemon, beat, cron])
    assert [(each.per_node, each.passing, each.cpu) for each in found] == [
        (True, False, 500),
        (True, False, 50),
        (False, True, 500),
    ]


def test_a_request_that_is_no_quantity_is_named() -> None:
    with pytest.raises(PlatformError, match="4gb") as failure:
        workloads_of("part", [deployment("web", containers=[container("web", memory="4gb")])])
    assert "Deployment one/web, container web" in failure.value.where

"""The series of kube-state-metrics that the platform's rules and dashboards use, under the same names and labels.

For clusters that cannot pull kube-state-metrics; beside upstream's it tells what that cannot (platform_...). Each scrape lists the
objects anew, one kind after the other, from the API server's cache: nothing is kept in memory between scrapes, and what is shown is
never older than the scrape. What the series mean is described at
https://github.com/kubernetes/kube-state-metrics/tree/main/docs/metrics; a quantity is in its base unit (cores, bytes).
"""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from prometheus_client import start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

Object = dict[str, Any]
Sample = tuple[tuple[str, ...], float]

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TIMEOUT_SECONDS = 10
LOOK_AGAIN_SECONDS = 30
REHEARSED_ANNOTATION = "lambda-microservice.platform/restore-rehearsed"

_FACTORS = {
    "": Decimal(1),
    **{unit: Decimal(10) ** exponent for unit, exponent in zip("numkMGTPE", (-9, -6, -3, 3, 6, 9, 12, 15, 18), strict=True)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)},
}
_QUANTITY = re.compile(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([numkMGTPE]?|[KMGTPE]i)")
_UNITS = {"cpu": "core", "memory": "byte", "storage": "byte", "ephemeral-storage": "byte", "pods": "integer"}


def quantity(text: str | float) -> float:
    """A Kubernetes quantity (``500m``, ``8Gi``, ``1e3``) in its base unit."""
    matched = _QUANTITY.fullmatch(str(text))
    if matched is None:
        raise ValueError(f"{text!r} is no quantity of Kubernetes")
    return float(Decimal(matched[1]) * _FACTORS[matched[2]])


def seconds(time: str) -> float:
    """Unix time of an RFC 3339 time."""
    return datetime.fromisoformat(time).timestamp()


def _unit(resource: str) -> str:
    return "byte" if resource.startswith("hugepages-") else _UNITS.get(resource, "integer")


def _resource(name: str) -> str:
    """A resource as a label's value, as upstream writes it: ``ephemeral_storage``, ``nvidia_com_gpu``."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", name)


def _at(*path: str, default: float | None = None) -> Callable[[Object], Iterator[Sample]]:
    """One number of an object; no sample where there is none, and no default."""

    def found(obj: Object) -> Iterator[Sample]:
        value: Any = obj
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if value is None:
            value = default
        if value is not None:
            yield (), float(value)

    return found


def _statuses(status: str, values: tuple[str, ...]) -> Iterator[tuple[str, float]]:
    """A sample for each possible value, 1 for that which is."""
    for value in values:
        yield value, float(status == value)


_CONDITIONS = ("true", "false", "unknown")
_PHASES = ("Pending", "Succeeded", "Failed", "Unknown", "Running")
_CLAIM_PHASES = ("Lost", "Bound", "Pending")
_JOB_REASONS = ("BackoffLimitExceeded", "DeadlineExceeded", "Evicted")


def _pod_info(pod: Object) -> Iterator[Sample]:
    spec, status = pod["spec"], pod["status"]
    owner = next((owner for owner in pod["metadata"].get("ownerReferences", ()) if owner.get("controller")), {})
    address = status.get("hostIP", ""), status.get("podIP", "")
    created_by = owner.get("kind", ""), owner.get("name", "")
    host_network = str(bool(spec.get("hostNetwork"))).lower()
    yield (*address, spec.get("nodeName", ""), *created_by, spec.get("priorityClassName", ""), host_network), 1.0


def _pod_phase(pod: Object) -> Iterator[Sample]:
    if phase := pod["status"].get("phase"):
        for value, number in _statuses(phase, _PHASES):
            yield (value,), number


def _pod_ready(pod: Object) -> Iterator[Sample]:
    for condition in pod["status"].get("conditions", ()):
        if condition["type"] == "Ready":
            for value, number in _statuses(condition["status"].lower(), _CONDITIONS):
                yield (value,), number


def _restarts(pod: Object) -> Iterator[Sample]:
    for container in pod["status"].get("containerStatuses", ()):
        yield (container["name"],), float(container["restartCount"])


def _waiting(pod: Object) -> Iterator[Sample]:
    for container in pod["status"].get("containerStatuses", ()):
        if waiting := container["state"].get("waiting"):
            yield (container["name"], waiting.get("reason", "")), 1.0


def _container_resources(which: str) -> Callable[[Object], Iterator[Sample]]:
    def found(pod: Object) -> Iterator[Sample]:
        for container in pod["spec"]["containers"]:
            for resource, amount in container.get("resources", {}).get(which, {}).items():
                labels = container["name"], pod["spec"].get("nodeName", ""), _resource(resource), _unit(resource)
                yield labels, quantity(amount)

    return found


def _certificates(ends: Object) -> Iterator[Sample]:
    """When each certificate ends, as who renews them writes it down: no Secret has to be read for it."""
    for secret, time in (ends.get("data") or {}).items():
        if time:
            yield (secret,), seconds(time)


def _rehearsed(namespace: Object) -> Iterator[Sample]:
    """When the last restore succeeded that was made to try it, as playbooks/tasks/restore-rehearsed.yml notes it."""
    if noted := namespace["metadata"].get("annotations", {}).get(REHEARSED_ANNOTATION):
        yield (), seconds(noted)


def _created(obj: Object) -> Iterator[Sample]:
    yield (), seconds(obj["metadata"]["creationTimestamp"])


def _quota(quota: Object) -> Iterator[Sample]:
    for kind in ("hard", "used"):
        for resource, amount in quota["status"].get(kind, {}).items():
            yield (resource, kind), quantity(amount)


def _node_conditions(node: Object) -> Iterator[Sample]:
    for condition in node["status"].get("conditions", ()):
        for value, number in _statuses(condition["status"].lower(), _CONDITIONS):
            yield (condition["type"], value), number


def _allocatable(node: Object) -> Iterator[Sample]:
    for resource, amount in node["status"].get("allocatable", {}).items():
        yield (_resource(resource), _unit(resource)), quantity(amount)


def _job_failed(job: Object) -> Iterator[Sample]:
    """As upstream: 0 without a reason while nothing failed; then the reason, or the number of pods where it is none of the known."""
    failed = job["status"].get("failed", 0)
    if not failed:
        yield ("",), 0.0
        return
    conditions = (condition for condition in job["status"].get("conditions", ()) if condition["type"] == "Failed")
    given = next(conditions, {}).get("reason")
    if given in _JOB_REASONS:
        for reason, number in _statuses(given, _JOB_REASONS):
            yield (reason,), number
    else:
        yield ("",), float(failed)


def _cronjob_succeeded(cronjob: Object) -> Iterator[Sample]:
    if time := cronjob["status"].get("lastSuccessfulTime"):
        yield (), seconds(time)


def _claim_phase(claim: Object) -> Iterator[Sample]:
    for value, number in _statuses(claim["status"].get("phase", ""), _CLAIM_PHASES):
        yield (value,), number


def _claim_storage(claim: Object) -> Iterator[Sample]:
    if amount := claim["spec"].get("resources", {}).get("requests", {}).get("storage"):
        yield (), quantity(amount)


_CONTAINER_RESOURCES = ("container", "node", "resource", "unit")
_POD_INFO = ("host_ip", "pod_ip", "node", "created_by_kind", "created_by_name", "priority_class", "host_network")

# By kind: its path in the API, the labels that name an object (upstream's, and where the object has them), and its series with the labels
# that come after those. A series whose name ends in _total is a counter.
Identity = dict[str, str]
Series = dict[str, tuple[tuple[str, ...], Callable[[Object], Iterator[Sample]]]]
KINDS: dict[str, tuple[Identity, Series]] = {
    "api/v1/pods": (
        {"namespace": "namespace", "pod": "name", "uid": "uid"},
        {
            "kube_pod_info": (_POD_INFO, _pod_info),
            "kube_pod_status_phase": (("phase",), _pod_phase),
            "kube_pod_status_ready": (("condition",), _pod_ready),
            "kube_pod_container_status_restarts_total": (("container",), _restarts),
            "kube_pod_container_status_waiting_reason": (("container", "reason"), _waiting),
            "kube_pod_container_resource_requests": (_CONTAINER_RESOURCES, _container_resources("requests")),
            "kube_pod_container_resource_limits": (_CONTAINER_RESOURCES, _container_resources("limits")),
        },
    ),
    # None of upstream's, beside which this program runs for such alone. Of ConfigMaps the account may list those of this name and no other.
    "api/v1/configmaps?fieldSelector=metadata.name%3Dcertificates": (
        {"namespace": "namespace"},
        {"platform_certificate_expiry_seconds": (("secret",), _certificates)},
    ),
    "apis/apps/v1/deployments": (
        {"namespace": "namespace", "deployment": "name"},
        {
            "kube_deployment_spec_replicas": ((), _at("spec", "replicas")),
            "kube_deployment_status_replicas_available": ((), _at("status", "availableReplicas", default=0)),
            "kube_deployment_status_replicas_updated": ((), _at("status", "updatedReplicas", default=0)),
            "kube_deployment_metadata_generation": ((), _at("metadata", "generation")),
            "kube_deployment_status_observed_generation": ((), _at("status", "observedGeneration", default=0)),
        },
    ),
    "apis/apps/v1/statefulsets": (
        {"namespace": "namespace", "statefulset": "name"},
        {
            "kube_statefulset_replicas": ((), _at("spec", "replicas")),
            "kube_statefulset_status_replicas_ready": ((), _at("status", "readyReplicas", default=0)),
        },
    ),
    "apis/apps/v1/daemonsets": (
        {"namespace": "namespace", "daemonset": "name"},
        {
            "kube_daemonset_status_desired_number_scheduled": ((), _at("status", "desiredNumberScheduled", default=0)),
            "kube_daemonset_status_number_ready": ((), _at("status", "numberReady", default=0)),
        },
    ),
    "apis/autoscaling/v2/horizontalpodautoscalers": (
        {"namespace": "namespace", "horizontalpodautoscaler": "name"},
        {
            "kube_horizontalpodautoscaler_spec_min_replicas": ((), _at("spec", "minReplicas", default=1)),
            "kube_horizontalpodautoscaler_spec_max_replicas": ((), _at("spec", "maxReplicas")),
            "kube_horizontalpodautoscaler_status_current_replicas": ((), _at("status", "currentReplicas", default=0)),
            "kube_horizontalpodautoscaler_status_desired_replicas": ((), _at("status", "desiredReplicas", default=0)),
        },
    ),
    "api/v1/resourcequotas": (
        {"namespace": "namespace", "resourcequota": "name"},
        {"kube_resourcequota": (("resource", "type"), _quota)},
    ),
    "api/v1/nodes": (
        {"node": "name"},
        {
            "kube_node_status_condition": (("condition", "status"), _node_conditions),
            "kube_node_spec_unschedulable": ((), _at("spec", "unschedulable", default=0)),
            "kube_node_status_allocatable": (("resource", "unit"), _allocatable),
        },
    ),
    "api/v1/namespaces": (
        {"namespace": "name"},
        {"kube_namespace_created": ((), _created), "platform_restore_rehearsed_seconds": ((), _rehearsed)},
    ),
    "apis/batch/v1/jobs": (
        {"namespace": "namespace", "job_name": "name"},
        {
            "kube_job_status_failed": (("reason",), _job_failed),
            "kube_job_status_succeeded": ((), _at("status", "succeeded", default=0)),
        },
    ),
    "apis/batch/v1/cronjobs": (
        {"namespace": "namespace", "cronjob": "name"},
        {
            "kube_cronjob_status_last_successful_time": ((), _cronjob_succeeded),
            "kube_cronjob_spec_suspend": ((), _at("spec", "suspend", default=0)),
        },
    ),
    "apis/policy/v1/poddisruptionbudgets": (
        {"namespace": "namespace", "poddisruptionbudget": "name"},
        {
            "kube_poddisruptionbudget_status_current_healthy": ((), _at("status", "currentHealthy", default=0)),
            "kube_poddisruptionbudget_status_desired_healthy": ((), _at("status", "desiredHealthy", default=0)),
            "kube_poddisruptionbudget_status_pod_disruptions_allowed": ((), _at("status", "disruptionsAllowed", default=0)),
        },
    ),
    "api/v1/persistentvolumeclaims": (
        {"namespace": "namespace", "persistentvolumeclaim": "name"},
        {
            "kube_persistentvolumeclaim_status_phase": (("phase",), _claim_phase),
            "kube_persistentvolumeclaim_resource_requests_storage_bytes": ((), _claim_storage),
        },
    ),
}


def kinds(prefix: str = "") -> dict[str, tuple[Identity, Series]]:
    """Of KINDS, the series whose names begin with ``prefix``, and the kinds that have any."""
    chosen = {
        path: (identity, {name: made for name, made in series.items() if name.startswith(prefix)})
        for path, (identity, series) in KINDS.items()
    }
    return {path: (identity, series) for path, (identity, series) in chosen.items() if series}


def families(identity: Identity, series: Series, objects: list[Object]) -> Iterator[Metric]:
    """The series of one kind's ``objects``, as the API lists them."""
    for name, (labels, samples) in series.items():
        family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
        metric = family(name, "See kube-state-metrics.", labels=[*identity, *labels])
        for obj in objects:
            whose = [obj["metadata"].get(key, "") for key in identity.values()]
            for values, number in samples(obj):
                metric.add_metric([*whose, *values], number)
        yield metric


class Cluster:
    """The API server, as the pod's account may ask it. A connection lasts for one scrape."""

    def __init__(self) -> None:
        self.host, self.port = os.environ["KUBERNETES_SERVICE_HOST"], int(os.environ["KUBERNETES_SERVICE_PORT"])
        self.tls = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))

    def objects(self, path: str, connection: http.client.HTTPSConnection) -> list[Object]:
        # The token changes while the process runs. Of the cache: the server reads no storage for it.
        token = (ACCOUNT / "token").read_text(encoding="ascii")
        connection.request("GET", f"/{path}{'&' if '?' in path else '?'}resourceVersion=0", headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != http.client.OK:
            raise OSError(f"GET /{path}: {answer.status} {body[:300].decode(errors='replace')}")
        items: list[Object] = json.loads(body)["items"]
        return items

    def connection(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self.host, self.port, timeout=TIMEOUT_SECONDS, context=self.tls)


class State(Collector):
    """The given kinds, at every scrape. A kind that cannot be read fails the scrape: a part of the truth looks like all is well."""

    def __init__(self, cluster: Cluster, kinds: dict[str, tuple[Identity, Series]]) -> None:
        self.cluster, self.kinds = cluster, kinds
        # Two scrapes at once would need twice the memory.
        self.one_at_a_time = threading.Lock()

    def describe(self) -> Iterator[Metric]:
        """Nothing is asked of the cluster at the start."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        with self.one_at_a_time:
            connection = self.cluster.connection()
            try:
                for path, (identity, series) in self.kinds.items():
                    yield from families(identity, series, self.cluster.objects(path, connection))
            finally:
                connection.close()


class Forbidden(Collector):
    """Whether a connection can be opened that the NetworkPolicies forbid: then they have no effect.

    A target that is away is not told from one that is out of reach. ``target`` is HOST:PORT.
    """

    NAME = "platform_forbidden_connection_open"

    def __init__(self, target: str) -> None:
        host, _colon, port = target.rpartition(":")
        self.target, self.address = target, (host, int(port))
        self.open: bool | None = None

    def collect(self) -> Iterator[Metric]:
        metric = GaugeMetricFamily(self.NAME, "1: NetworkPolicies have no effect.", labels=["target"])
        if self.open is not None:
            metric.add_metric([self.target], float(self.open))
        yield metric

    def look(self) -> None:
        """Where policies are enforced, nothing answers until the time is over; no scrape waits for that."""
        try:
            socket.create_connection(self.address, timeout=TIMEOUT_SECONDS).close()
            self.open = True
        except OSError:
            self.open = False

    def keep_looking(self) -> None:
        while True:
            self.look()
            time.sleep(LOOK_AGAIN_SECONDS)


def main(port: str = "8080", prefix: str = "") -> None:
    registry = CollectorRegistry()
    registry.register(State(Cluster(), kinds(prefix)))
    if target := os.environ.get("FORBIDDEN_TARGET"):
        forbidden = Forbidden(target)
        registry.register(forbidden)
        threading.Thread(target=forbidden.keep_looking, daemon=True).start()
    # Both families, as far as the kernel has them.
    start_http_server(int(port), "::" if socket.has_dualstack_ipv6() else "0.0.0.0", registry)
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])

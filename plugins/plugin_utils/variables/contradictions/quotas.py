# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Quotas against what a rolling update needs: the pods of a workload, those that it adds, and those that still end.

A pod counts until it is gone. In each step an update may add as many pods as its surge, and as many as it takes away
end meanwhile; autoscaled workloads are counted at their maximum.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.quantities import quantity
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.contradictions.finding import (
    Values,
    as_quantity,
    contradiction,
    deep,
)

# What the charts ask for where no variable says it (their values.yaml): CPU, memory.
SENTINEL = ("100m", "64Mi")
HAPROXY = ("250m", "64Mi")
PGBOUNCER = ("250m", "64Mi")
SIDECAR = ("10m", "16Mi")
REPOSITORY = ("100m", "64Mi")
EXPORTER = ("10m", "24Mi")
REDIS_BACKUP = ("100m", "64Mi")
MIGRATIONS = ("50m", "32Mi")
SENTINEL_STORAGE = "1Gi"

FUNCTIONS = 100
"""Pods of functions in containers, of which there is no list: a computed quota has room for these."""

DEPLOYMENT = "25%"
"""Kubernetes' own surge of a Deployment; a StatefulSet has none: its pods end before others take their place."""


HEADROOM_PERCENT = 25
"""What a computed quota has beyond the sum: pods of a person (kubectl debug), a DaemonSet, a chart's next version."""


class Workload(NamedTuple):
    """What a workload asks of its namespace's quota while it is updated."""

    namespace: str
    name: str
    replicas: int
    added: int
    cpu: Decimal
    memory: Decimal
    storage: Decimal

    @property
    def pods(self) -> int:
        """Those that are there at the same time, at most: as many end as are added."""
        return self.replicas + 2 * self.added

    def needs(self, resource: str) -> Decimal:
        """Of one resource of a ResourceQuota."""
        if resource in ("pods", "count/pods"):
            return Decimal(self.pods)
        if resource in ("requests.cpu", "cpu"):
            return self.pods * self.cpu
        if resource in ("requests.memory", "memory"):
            return self.pods * self.memory
        return self.replicas * self.storage if resource == "requests.storage" else Decimal(0)


def _workload(
    namespace: str,
    name: str,
    replicas: int,
    requests: tuple[str, str],
    values: Any = None,
    surge: object = 0,
    storage: str = "0",
) -> Workload:
    given = deep(values, "resources", "requests") or {}
    strategy = deep(values, "strategy", "rollingUpdate", "maxSurge")
    surge = surge if strategy is None else strategy
    # https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#max-surge: rounded up.
    added = math.ceil(Decimal(str(surge).rstrip("%")) * replicas / 100) if str(surge).endswith("%") else int(str(surge))
    cpu, memory = as_quantity(given.get("cpu", requests[0])), as_quantity(given.get("memory", requests[1]))
    return Workload(namespace, name, replicas, added, cpu, memory, as_quantity(storage))


def workloads(values: Values) -> Iterator[Workload]:
    """Those of the roles. Jobs are left out: they wait until there is room. What VerticalPodAutoscalers may give one
    more than it asks for is counted.
    """
    for workload in _workloads(values):
        most = (deep(values["vpa_bounds"], workload.name, "max") or {}) if values["vpa_enabled"] else {}
        if values["vpa_mode"].get(workload.name, "Off") in ("Off", False):
            most = {}
        largest = workload._replace(
            cpu=max(workload.cpu, as_quantity(most.get("cpu", 0))),
            memory=max(workload.memory, as_quantity(most.get("memory", 0))),
        )
        yield _with_proxy(values, largest)


def meshed_namespaces(values: Values) -> set[str]:
    """Where pods have a proxy of the mesh."""
    if not values["mesh_enabled"]:
        return set()
    roles = ("ingress", "controller", "runtimes", "openfaas")
    return {*(values[f"{role}_namespace"] for role in roles), *values["openfaas_function_namespaces"]}


def _with_proxy(values: Values, workload: Workload) -> Workload:
    if workload.namespace not in meshed_namespaces(values):
        return workload
    return workload._replace(
        cpu=workload.cpu + values.quantity("mesh_proxy_cpu"),
        memory=workload.memory + values.quantity("mesh_proxy_memory"),
    )


def _workloads(values: Values) -> Iterator[Workload]:
    edge = values["ingress_namespace"]
    yield _workload(
        edge,
        "envoy",
        values["ingress_replicas"],
        (values["ingress_cpu"], values["ingress_memory"]),
        values["ingress_values"],
        1,
    )
    if values["ingress_rate_limit_service"] and values["ingress_rate_limits"]:
        requests = (values["ingress_rate_limit_cpu"], values["ingress_rate_limit_memory"])
        yield _workload(
            edge, "ratelimit", values["ingress_rate_limit_replicas"], requests, values["ingress_rate_limit_values"], 1
        )
    yield _workload(
        values["controller_namespace"], "controller", values["controller_max_replicas"],
        (values["controller_cpu"], values["controller_memory"]), values["controller_values"], 1,
    )  # fmt: skip
    for language in values["runtimes_languages"]:
        requests = (language.get("cpu", values["runtimes_cpu"]), language.get("memory", values["runtimes_memory"]))
        own = language.get("values") or values["runtimes_values"]
        replicas = language.get("max_replicas", values["runtimes_max_replicas"])
        yield _workload(
            values["runtimes_namespace"], f"{language['name']}-runtime", replicas, requests, own, DEPLOYMENT
        )
    yield from _data_services(values)
    if values["monitoring_enabled"]:
        yield from _monitoring(values)
    if values["openfaas_enabled"]:
        yield from _openfaas(values)
    if values["mesh_enabled"]:
        requests = (values["mesh_istiod_cpu"], values["mesh_istiod_memory"])
        own = values["mesh_istiod_values"]
        yield _workload(values["mesh_namespace"], "istiod", values["mesh_istiod_max_replicas"], requests, own, 1)


def _openfaas(values: Values) -> Iterator[Workload]:
    where, own, nats = values["openfaas_namespace"], values["openfaas_values"], values["openfaas_nats_values"]
    for name, part, replicas in (("gateway", "gateway", "gateway_max"), ("queue-worker", "queueWorker", "worker")):
        kind = replicas.partition("_")[0]
        requests = (values[f"openfaas_{kind}_cpu"], values[f"openfaas_{kind}_memory"])
        yield _workload(where, name, values[f"openfaas_{replicas}_replicas"], requests, own.get(part), 1)
    requests = (values["openfaas_nats_cpu"], values["openfaas_nats_memory"])
    yield _workload(where, "nats", values["openfaas_nats_replicas"], requests, nats, 0, values["openfaas_nats_storage"])


def jobs(values: Values) -> Iterator[Workload]:
    """Pods that end: those of one run of each. A restore of Redis is as large as a Redis. And functions to come."""
    if values["openfaas_enabled"]:
        requests = (values["openfaas_function_cpu"], values["openfaas_function_memory"])
        for namespace in values["openfaas_function_namespaces"]:
            yield _workload(namespace, "functions in containers", FUNCTIONS, requests)
    where = values["controller_namespace"]
    if values["controller_database_enabled"]:
        yield _workload(where, "migrations and maintenance", 2, MIGRATIONS)
    where = values["data_services_namespace"]
    if values["data_services_redis_backup"]:
        yield _workload(where, "redis-backup", 1, REDIS_BACKUP)
        yield _workload(
            where, "redis-restore", 1, (values["data_services_redis_cpu"], values["data_services_redis_memory"])
        )
    if values["data_services_postgresql_enabled"]:
        requests = (values["data_services_postgresql_cpu"], values["data_services_postgresql_memory"])
        yield _workload(where, "postgresql-restored", 1, requests)
        yield _workload(where, "postgresql-backup and postgresql-snapshot", 2, REPOSITORY)


def room(values: Values) -> dict[str, dict[str, str]]:
    """By namespace, a ResourceQuota with room for all of it: replicas at their maximum, an update, and Jobs."""
    found: dict[str, list[Workload]] = {}
    for workload in (*workloads(values), *(_with_proxy(values, job) for job in jobs(values))):
        found.setdefault(workload.namespace, []).append(workload)
    return {namespace: _room(values, namespace, inside) for namespace, inside in found.items()}


def _room(values: Values, namespace: str, inside: list[Workload]) -> dict[str, str]:
    def of(resource: str, more: Decimal = Decimal(0), unit: int = 1) -> int:
        needs = sum((workload.needs(resource) for workload in inside), more)
        return math.ceil(needs * (100 + HEADROOM_PERCENT) / 100 / unit)

    hard = {
        "requests.cpu": str(of("requests.cpu")),
        "requests.memory": f"{of('requests.memory', unit=1 << 30)}Gi",
        "pods": str(of("pods")),
    }
    storage = of("requests.storage", _volumes(values, namespace), 1 << 30)
    return {**hard, **({"requests.storage": f"{storage}Gi"} if storage else {})}


def _monitoring(values: Values) -> Iterator[Workload]:
    where, own = values["monitoring_namespace"], "monitoring_{}_{}".format
    grafana = [("grafana", 1, values["monitoring_grafana_storage"])] if values["monitoring_grafana_enabled"] else []
    for name, replicas, storage in (
        *grafana,
        ("operator", 1, "0"),
        ("prometheus", 1, values["monitoring_prometheus_storage"]),
        ("alertmanager", values["monitoring_alertmanager_replicas"], values["monitoring_alertmanager_storage"]),
    ):
        requests = (values[own(name, "cpu")], values[own(name, "memory")])
        yield _workload(where, name, replicas, requests, None, DEPLOYMENT if name == "operator" else 0, storage)


def _data_services(values: Values) -> Iterator[Workload]:
    where, redis = values["data_services_namespace"], values["data_services_redis_values"]
    requests = (values["data_services_redis_cpu"], values["data_services_redis_memory"])
    storage = values["data_services_redis_storage"]
    yield _workload(where, "redis", values["data_services_redis_replicas"], requests, redis.get("redis"), 0, storage)
    yield _workload(
        where,
        "redis-sentinel",
        values["data_services_redis_sentinels"],
        SENTINEL,
        redis.get("sentinel"),
        0,
        SENTINEL_STORAGE,
    )
    yield _workload(
        where,
        "redis-haproxy",
        values["data_services_redis_haproxy_replicas"],
        HAPROXY,
        redis.get("haproxy"),
        DEPLOYMENT,
    )
    exporters = values["data_services_metrics_enabled"]
    if exporters:
        yield _workload(where, "exporters", 1 + values["data_services_postgresql_enabled"], EXPORTER, None, "100%")
    if not values["data_services_postgresql_enabled"]:
        return
    postgresql = values["data_services_postgresql_values"]
    requests = (values["data_services_postgresql_cpu"], values["data_services_postgresql_memory"])
    storage = values["data_services_postgresql_storage"]
    member = _workload(
        where,
        "postgresql",
        values["data_services_postgresql_replicas"],
        requests,
        postgresql.get("postgresql"),
        0,
        storage,
    )
    beside = _workload(where, "sidecars", 1, SIDECAR, postgresql.get("sidecars"))
    containers = 1 + values["data_services_postgresql_backup"]
    yield member._replace(cpu=member.cpu + containers * beside.cpu, memory=member.memory + containers * beside.memory)
    exporter = _workload(where, "exporter", 1, EXPORTER)

    def beside_it(workload: Workload) -> Workload:
        return workload._replace(cpu=workload.cpu + exporter.cpu, memory=workload.memory + exporter.memory)

    pgbouncer = _workload(
        where,
        "pgbouncer",
        values["data_services_postgresql_pgbouncer_replicas"],
        PGBOUNCER,
        postgresql.get("pgbouncer"),
        DEPLOYMENT,
    )
    yield beside_it(pgbouncer) if exporters else pgbouncer
    if values["data_services_postgresql_backup"]:
        repository = _workload(where, "postgresql-repository", 1, REPOSITORY, postgresql.get("repository"))
        yield beside_it(repository) if exporters else repository


def _quotas(values: Values) -> Iterator[PlatformError]:
    all_of_them = list(workloads(values))
    for key, hard in values["foundation_resource_quotas"].items():
        namespace = values.get(f"{key}_namespace", key)
        inside = [workload for workload in all_of_them if workload.namespace == namespace]
        if inside and isinstance(hard, Mapping):
            yield from _of_namespace(values, namespace, key, hard, inside)


def _of_namespace(
    values: Values, namespace: str, key: str, hard: Mapping[str, Any], inside: list[Workload]
) -> Iterator[PlatformError]:
    for resource, limit in hard.items():
        has = quantity(limit)
        if has is None:
            yield contradiction(
                f"a quota is no quantity: {resource} of {key}", repr(limit), "a number, with a unit where it has one",
                f"correct foundation_resource_quotas.{key}",
            )  # fmt: skip
            continue
        needs = sum((workload.needs(resource) for workload in inside), Decimal(0))
        if resource == "requests.storage":
            needs += _volumes(values, namespace)
        if needs > has:
            told = ", ".join(
                f"{workload.name} {_shown(workload.needs(resource))}"
                + (f" ({workload.pods} pods)" if workload.added else "")
                for workload in inside
                if workload.needs(resource)
            )
            yield contradiction(
                f"the quota of the namespace {namespace} is below what a rolling update needs: {resource}",
                f"{limit}, and {_shown(needs)} are needed: {told}. Pods that are added and those that still end are "
                "among them",
                f"{_shown(needs)} or more",
                f"raise foundation_resource_quotas.{key}, or lower the workloads' replicas or requests",
            )


def _volumes(values: Values, namespace: str) -> Decimal:
    """The volumes of copies, which no pod of a workload has for itself."""
    if namespace != values["data_services_namespace"]:
        return Decimal(0)
    size = values.quantity("data_services_redis_backup_storage") if values["data_services_redis_backup"] else Decimal(0)
    if values["data_services_postgresql_enabled"] and values["data_services_postgresql_backup"]:
        size += values.quantity("data_services_postgresql_backup_storage")
    return size


def _shown(number: Decimal) -> str:
    """As a quantity that a person would write."""
    for suffix, factor in (("Ti", 1024**4), ("Gi", 1024**3), ("Mi", 1024**2)):
        if number >= factor:
            return f"{round(number / factor, 2).normalize():f}{suffix}"
    return f"{number.normalize():f}"


CHECKS = (_quotas,)

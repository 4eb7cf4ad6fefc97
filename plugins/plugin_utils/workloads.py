# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of the platform's workloads that go on running, by the roles' variables: what VerticalPodAutoscalers watch.

The plan (plan.py) knows them too, by rendering every chart. A variable is judged before anything is rendered, so it
takes this table; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

_APPS = "apps/v1"
_OPERATOR = "monitoring.coreos.com/v1"


class Workload(NamedTuple):
    """``name`` is unique in the platform, and what ``kubectl get`` shows. ``container`` is its program's, beside which
    others may be; ``scaled_by`` the resources by which a HorizontalPodAutoscaler adds pods.
    """

    kind: str
    namespace: str
    name: str
    container: str
    scaled_by: tuple[str, ...] = ()

    @property
    def target(self) -> dict[str, str]:
        """Whose pods they are in the end: of an operator's StatefulSet the resource that it was made of."""
        for program in ("Prometheus", "Alertmanager"):
            if self.kind == program:
                name = self.name.removeprefix(program.lower() + "-")
                return {"apiVersion": _OPERATOR, "kind": program, "name": name}
        return {"apiVersion": _APPS, "kind": self.kind, "name": self.name}


def workloads(values: Mapping[str, Any]) -> Iterator[Workload]:
    """Those of the roles. Jobs end before anybody has measured them, and functions in containers are their owners'."""
    edge = values["ingress_namespace"]
    yield Workload("Deployment", edge, "envoy", "envoy")
    if values["ingress_rate_limit_service"] and values["ingress_rate_limits"]:
        yield Workload("Deployment", edge, "ratelimit", "ratelimit")
    scaled = _scaled(values, cpu="controller_cpu_percent", memory="controller_memory_percent")
    yield Workload("Deployment", values["controller_namespace"], "controller", "controller", scaled)
    scaled = _scaled(values, cpu="runtimes_cpu_percent")
    for language in values["runtimes_languages"]:
        name = f"{language['name']}-runtime"
        yield Workload("Deployment", values["runtimes_namespace"], name, "runtime", scaled)
    yield from _data_services(values)
    if values["openfaas_enabled"]:
        yield from _openfaas(values)
    if values["monitoring_enabled"]:
        yield from _monitoring(values)
    if values["logging_enabled"]:
        yield from _LOGGING[values["logging_backend"]](values)
    if values["vpa_enabled"]:
        for part in ("recommender", "updater", "admission-controller"):
            yield Workload("Deployment", values["monitoring_namespace"], f"vpa-{part}", part)
    if values["mesh_enabled"]:
        yield Workload("Deployment", values["mesh_namespace"], "istiod", "discovery", ("cpu",))
        if values["mesh_kiali_enabled"]:
            yield Workload("Deployment", values["mesh_namespace"], "kiali", "kiali")


def _scaled(values: Mapping[str, Any], **variables: str) -> tuple[str, ...]:
    return tuple(resource for resource, name in variables.items() if values[name])


def _data_services(values: Mapping[str, Any]) -> Iterator[Workload]:
    where = values["data_services_namespace"]
    yield Workload("StatefulSet", where, "redis", "redis")
    yield Workload("StatefulSet", where, "redis-sentinel", "sentinel")
    yield Workload("Deployment", where, "redis-haproxy", "haproxy")
    exporters = values["data_services_metrics_enabled"]
    if exporters:
        yield Workload("Deployment", where, "redis-exporter", "redis-exporter")
    if not values["data_services_postgresql_enabled"]:
        return
    yield Workload("StatefulSet", where, "postgresql", "postgresql")
    yield Workload("Deployment", where, "pgbouncer", "pgbouncer")
    if values["data_services_postgresql_backup"]:
        yield Workload("StatefulSet", where, "postgresql-repository", "repository")
    if exporters:
        yield Workload("Deployment", where, "postgresql-exporter", "postgresql-exporter")


def _openfaas(values: Mapping[str, Any]) -> Iterator[Workload]:
    where = values["openfaas_namespace"]
    scaled = _scaled(values, cpu="openfaas_gateway_cpu_percent")
    yield Workload("Deployment", where, "gateway", "gateway", scaled)
    # What else is in them is told by the chart of their vendor alone.
    if values["openfaas_edition"] == "compatible":
        yield Workload("Deployment", where, "queue-worker", "queue-worker")
        yield Workload("StatefulSet", where, "nats", "nats")


def _monitoring(values: Mapping[str, Any]) -> Iterator[Workload]:
    where = values["monitoring_namespace"]
    yield Workload("Deployment", where, "prometheus-operator", "prometheus-operator")
    yield Workload("Prometheus", where, "prometheus-platform", "prometheus")
    yield Workload("Alertmanager", where, "alertmanager-platform", "alertmanager")
    yield Workload("Deployment", where, "kube-state-metrics", "kube-state-metrics")
    agents = values["foundation_node_agents_namespace"]
    yield Workload("DaemonSet", agents, "node-exporter", "node-exporter")
    if values["runtimes_places_percent"] > 0:
        yield Workload("Deployment", where, "prometheus-adapter", "adapter")
    if values["monitoring_grafana_enabled"]:
        yield Workload("StatefulSet", where, "grafana", "grafana")
    compatible = values["openfaas_enabled"] and values["openfaas_edition"] == "compatible"
    if compatible and values["openfaas_own_prometheus"]:
        yield Workload("Prometheus", where, "prometheus-openfaas", "prometheus")


def _victorialogs(values: Mapping[str, Any]) -> Iterator[Workload]:
    yield Workload("StatefulSet", values["logging_namespace"], "victorialogs", "victorialogs")
    yield Workload("DaemonSet", values["foundation_node_agents_namespace"], "vlagent", "vlagent")


def _elastic(values: Mapping[str, Any]) -> Iterator[Workload]:
    """Named by Elastic's operator."""
    where = values["logging_namespace"]
    yield Workload("StatefulSet", where, "elastic-operator", "manager")
    yield Workload("StatefulSet", where, "logs-es-default", "elasticsearch")
    yield Workload("StatefulSet", where, "logs-ls", "logstash")
    yield Workload("Deployment", where, "logs-kb", "kibana")
    yield Workload("DaemonSet", values["foundation_node_agents_namespace"], "filebeat-beat-filebeat", "filebeat")
    if values["monitoring_enabled"]:
        yield Workload("Deployment", where, "elasticsearch-exporter", "elasticsearch-exporter")


_LOGGING = {"victorialogs": _victorialogs, "elastic": _elastic}

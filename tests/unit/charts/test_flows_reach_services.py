"""Every flow of the platform's table opens the way to every Service that its callers use, by each cloud's rules.

All Services of the charts are rendered, and the policies of the table are judged as three programs do it:

- the controller of EKS' VPC CNI sees a Service's own address, before it is translated, and allows it only where the
  peer's selector matches the Service's (getMatchingServiceClusterIPs in pkg/resolvers/endpoints.go of
  amazon-network-policy-controller-k8s);
- Calico and Cilium see the pod that the Service has chosen.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.lambda_microservice.platform.plugins.filter.network_policies import network_policies
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.flows import Flow, parse_flows
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.specifications import read_roles
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.values import evaluate

from .conftest import CHARTS, Objects, Render

CHART_NAMESPACES = {
    "controller": "controller",
    "elasticsearch-exporter": "monitoring",
    "envoy": "ingress",
    "exporters": "data-services",
    "grafana": "monitoring",
    "nats": "openfaas",
    "openfaas": "openfaas",
    "prometheus-adapter": "monitoring",
    "state": "monitoring",
    "victorialogs": "monitoring",
    "ratelimit": "ingress",
    "postgresql": "data-services",
    "redis": "data-services",
    "runtime": "openfaas-fn",
    "vpa": "monitoring",
}
WITHOUT_SELECTOR = {"postgresql-primary": "postgresql"}
"""Patroni says where it leads."""

BY_PODS = {"postgresql-exporter"}
"""Who asks each pod by its own name."""

PLACE = "kubernetes.io/metadata.name"
NAME = "app.kubernetes.io/name"


class Service(NamedTuple):
    namespace: str
    name: str
    app: str
    """Of its pods."""
    selector: dict[str, str]
    targets: dict[int, int]
    """Its pods' ports, by its own."""


def container_ports(objects: Objects, app: str) -> dict[str, int]:
    pods = [obj["spec"]["template"] for obj in objects.workloads()]
    return {
        port["name"]: port["containerPort"]
        for pod in pods
        if pod["metadata"]["labels"][NAME] == app
        for container in pod["spec"]["containers"]
        for port in container.get("ports", ())
    }


@pytest.fixture(scope="module")
def services(render: Render) -> list[Service]:
    """Those with an address of their own: a headless one is its pods' addresses."""
    found = []
    for chart in CHARTS:
        objects = render(chart)
        for obj in objects.of("Service"):
            spec, name = obj["spec"], obj["metadata"]["name"]
            if spec.get("clusterIP") == "None":
                continue
            selector = spec.get("selector") or {}
            # A new Service without selector has to say here whom it leads to.
            app = selector[NAME] if selector else WITHOUT_SELECTOR[name]
            ports = container_ports(objects, app)
            targets = {port["port"]: ports.get(port["targetPort"], port["targetPort"]) for port in spec["ports"]}
            found.append(Service(CHART_NAMESPACES[chart.name], name, app, selector, targets))
    assert {service.name for service in found} >= {"envoy", "redis-master", "postgresql-primary", "pgbouncer"}
    return found


@pytest.fixture(scope="module")
def flows() -> list[dict[str, Any]]:
    """The table with the roles' defaults."""
    roles = read_roles()
    own = {name: value for role in roles for name, value in role.own.items()}

    def templated(variables: dict[str, Any], value: Any) -> Any:
        return Templar(loader=DataLoader(), variables=variables).template(value)

    defaults = {name: value for role in roles for name, value in role.defaults.items()}
    values, _ = evaluate(roles, {**defaults, **own, "ansible_playbook_python": "/usr/bin/python3"}, templated)
    return templated({**own, "__platform": values}, own["platform_flows"])


def matches(selector: dict[str, Any] | None, labels: dict[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in (selector or {}).get("matchLabels", {}).items())


def egress(policies: list[dict[str, Any]], app: str) -> list[tuple[dict[str, Any], int]]:
    """The peers to which pods of an app may go, with each port."""
    return [
        (peer, port["port"])
        for policy in policies
        if matches(policy["spec"]["podSelector"], {NAME: app})
        for rule in policy["spec"].get("egress", ())
        for peer in rule["to"]
        for port in rule["ports"]
    ]


def vpc_cni(peer: dict[str, Any], service: Service) -> bool:
    """Whether the controller adds the Service's address to what the peer allows."""
    return (
        "namespaceSelector" in peer
        and matches(peer["namespaceSelector"], {PLACE: service.namespace})
        and matches(peer.get("podSelector"), service.selector)
    )


def calico_and_cilium(peer: dict[str, Any], service: Service) -> bool:
    return (
        "namespaceSelector" in peer
        and matches(peer["namespaceSelector"], {PLACE: service.namespace})
        and matches(peer.get("podSelector"), {NAME: service.app})
    )


def used(flow: Flow, services: list[Service]) -> list[tuple[Service, int]]:
    """The Services by which the sender may come to the receiver, each with the pods' port."""
    return [
        (service, target)
        for service in services
        # The pods of one app call each other by their own names.
        if (service.namespace, service.app) == flow.receiver
        and flow.sender.namespace
        and flow.sender != flow.receiver
        and flow.sender.app not in BY_PODS
        for target in service.targets.values()
        if target in flow.ports
    ]


@pytest.mark.parametrize("allowed", [vpc_cni, calico_and_cilium])
def test_every_flow_reaches_the_services_of_its_receiver(flows, services: list[Service], allowed):
    cut, tried = [], 0
    for flow in parse_flows(flows):
        policies = network_policies(flows, flow.sender.namespace) if flow.sender.namespace else []
        for service, port in used(flow, services):
            tried += 1
            ways = egress(policies, flow.sender.app)
            if not any(allowed(peer, service) and port == open_port for peer, open_port in ways):
                cut.append(f"{'/'.join(flow.sender)} -> {service.name}:{port}")
    assert not cut
    assert tried > 20


def test_a_service_without_selector_opens_no_other_pod(flows):
    """The wide half is the sender's; only PostgreSQL's own policy lets anybody in at its port."""
    wide = [flow for flow in parse_flows(flows) if not flow.service_selector]
    assert {flow.receiver.app for flow in wide} == set(WITHOUT_SELECTOR.values())
    taking = {
        policy["metadata"]["name"]
        for policy in network_policies(flows, "data-services")
        for rule in policy["spec"].get("ingress", ())
        if 5432 in [port["port"] for port in rule["ports"]]
    }
    assert taking == {"postgresql"}

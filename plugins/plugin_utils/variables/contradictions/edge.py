# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The edge: who may reach it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.contradictions.finding import (
    Values,
    contradiction,
    deep,
)

INTERNAL_ANNOTATIONS = {
    # https://kubernetes-sigs.github.io/aws-load-balancer-controller/latest/guide/service/annotations/
    "service.beta.kubernetes.io/aws-load-balancer-scheme": "internal",
    "service.beta.kubernetes.io/aws-load-balancer-internal": "true",
    # https://cloud.google.com/kubernetes-engine/docs/concepts/service-load-balancer-parameters
    "networking.gke.io/load-balancer-type": "internal",
    "cloud.google.com/load-balancer-type": "internal",
    # https://cloud-provider-azure.sigs.k8s.io/topics/loadbalancer/
    "service.beta.kubernetes.io/azure-load-balancer-internal": "true",
}
"""Annotations that keep a load balancer inside of the cloud's network, with the value that does it, in lower case."""

_INTERNAL_BY_KIND = {
    "nlb": "service.beta.kubernetes.io/aws-load-balancer-scheme",
    "gce": "networking.gke.io/load-balancer-type",
}
"""What the filter load_balancer sets."""

INTERNAL_CLASSES = frozenset({"networking.gke.io/l4-regional-internal"})


def _service(values: Values) -> dict[str, Any]:
    """The Service as the chart gets it."""
    made: dict[str, Any] = {
        "type": values["ingress_service_type"],
        "annotations": values["ingress_service_annotations"],
    }
    if values["ingress_load_balancer_internal"] and values["ingress_load_balancer"] in _INTERNAL_BY_KIND:
        inside = _INTERNAL_BY_KIND[values["ingress_load_balancer"]]
        made["annotations"] = {inside: INTERNAL_ANNOTATIONS[inside], **made["annotations"]}
    given = deep(values["ingress_values"], "service") or {}
    annotations = {**made["annotations"], **(given.get("annotations") or {})}
    return {**made, **given, "annotations": annotations}


def is_public(service: dict[str, Any]) -> bool:
    """Whether a cloud gives the Service an address of the internet: what nothing keeps inside counts as public."""
    if service["type"] != "LoadBalancer" or service.get("loadBalancerClass") in INTERNAL_CLASSES:
        return False
    given = {name: str(value).lower() for name, value in service["annotations"].items()}
    return not any(given.get(name) == value for name, value in INTERNAL_ANNOTATIONS.items())


def _anonymous(values: Values) -> Iterator[PlatformError]:
    if values["ingress_authentication"] != "none" or values["ingress_accept_anonymous"]:
        return
    alb = values["ingress_load_balancer"] == "alb" and not values["ingress_load_balancer_internal"]
    if alb or is_public(_service(values)):
        yield contradiction(
            "anybody on the internet may run scripts",
            "ingress_authentication none, and an ALB or a Service of type LoadBalancer that nothing keeps inside",
            "that a public edge asks who calls",
            "set ingress_authentication to jwt or api_key, or keep the load balancer inside with "
            "ingress_load_balancer_internal or ingress_service_annotations, such as "
            "service.beta.kubernetes.io/aws-load-balancer-scheme: internal or "
            "networking.gke.io/load-balancer-type: Internal; ingress_accept_anonymous: true accepts them without proof",
        )


def _balancer(values: Values) -> Iterator[PlatformError]:
    kind, service = values["ingress_load_balancer"], _service(values)["type"]
    wanted = {"nlb": "LoadBalancer", "gce": "LoadBalancer", "alb": "ClusterIP"}.get(kind, service)
    if service != wanted:
        yield contradiction(
            "the edge's Service is not what its load balancer needs",
            f"ingress_load_balancer {kind}, ingress_service_type {service}",
            f"a Service of type {wanted}",
            "leave ingress_service_type out, it follows ingress_load_balancer",
        )
    if values["ingress_proxy_protocol"] and kind in ("alb", "gce"):
        yield contradiction(
            "nobody could connect",
            f"ingress_proxy_protocol true, ingress_load_balancer {kind}, which does not speak the PROXY protocol",
            "nlb, or a load balancer of yours that does",
            "leave ingress_proxy_protocol out; this one tells clients' addresses without it",
        )
    if values["ingress_http3"] and (values["ingress_proxy_protocol"] or kind == "alb"):
        yield contradiction(
            "HTTP/3 would be announced and not be answered",
            f"ingress_http3 true, ingress_load_balancer {kind}, "
            f"ingress_proxy_protocol {values['ingress_proxy_protocol']}",
            "UDP up to Envoy, which an ALB does not pass on and the PROXY protocol does not know",
            "set ingress_http3 to false",
        )


def _node_ports(values: Values) -> Iterator[PlatformError]:
    https, http = values["ingress_https_node_port"], values["ingress_http_node_port"]
    if https is not None and https == http:
        yield contradiction(
            "two ask for one port of the nodes",
            f"ingress_https_node_port and ingress_http_node_port are both {https}",
            "a port each",
            "change one of them",
        )


CHECKS = (_anonymous, _balancer, _node_ports)

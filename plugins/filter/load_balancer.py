# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: load_balancer
short_description: What a cloud's load balancer before the edge needs
version_added: 0.1.0
description:
  - Annotations of the edge's Service, and objects beside it, for one kind of load balancer.
  - V(nlb) is a Network Load Balancer of the AWS Load Balancer Controller, with pods as targets. TLS ends at Envoy.
    Targets see the client's address, by the attribute C(preserve_client_ip) or by the PROXY protocol.
  - V(alb) is an Application Load Balancer of the same controller, by an Ingress. TLS ends at it, with certificates of
    ACM, and again at Envoy, to which it speaks HTTPS; the client's address is in C(X-Forwarded-For).
  - V(gce) is a passthrough Network Load Balancer of GKE, which keeps the client's address.
  - V(none) is nothing; what stands before the edge is yours.
author:
  - The lambda_microservice.platform team
options:
  _input:
    description: The kind.
    type: str
    choices: [none, nlb, alb, gce]
    required: true
  namespace:
    description: The edge's namespace.
    type: str
    required: true
  internal:
    description: Give it addresses of the cloud's network alone.
    type: bool
    required: true
  dual_stack:
    description: Give it addresses of both families (AWS; where GKE's Service has both, its balancer has them too).
    type: bool
    default: false
  proxy_protocol:
    description: Say the client's address by the PROXY protocol (V(nlb) only).
    type: bool
    required: true
  health_port:
    description: The pods' port that answers C(/ready), and no longer with 200 once a pod drains.
    type: int
    required: true
  drain_seconds:
    description: How long a target that leaves keeps what it has.
    type: int
    required: true
  timeout_seconds:
    description: The edge's longest time limit, which the balancer must not cut.
    type: int
    required: true
  certificate_arns:
    description: The certificates of V(alb). Without any, the controller looks for some by the host names.
    type: list
    elements: str
    default: []
  waf_acl_arn:
    description: The web ACL (WAF) of V(alb).
    type: str
    default: ""
  hosts:
    description: Host names of the Ingress of V(alb). V(*) is any.
    type: list
    elements: str
    default: ["*"]
"""

EXAMPLES = r"""
- name: Show what an internal NLB needs
  ansible.builtin.debug:
    msg: >-
      {{ 'nlb' | lambda_microservice.platform.load_balancer(namespace='ingress', internal=true, proxy_protocol=false,
         health_port=8080, drain_seconds=165, timeout_seconds=35) }}
"""

RETURN = r"""
_value:
  description: C(annotations) of the Service, and C(objects) beside it.
  type: dict
"""

KINDS = ("none", "nlb", "alb", "gce")

# https://kubernetes-sigs.github.io/aws-load-balancer-controller/latest/guide/service/annotations/
_NLB = "service.beta.kubernetes.io/aws-load-balancer-"
# https://kubernetes-sigs.github.io/aws-load-balancer-controller/latest/guide/ingress/annotations/
_ALB = "alb.ingress.kubernetes.io/"

HEALTH_SECONDS = {"interval": "10", "timeout": "6"}
UNHEALTHY_AFTER = "2"


def _scheme(internal: bool) -> str:
    return "internal" if internal else "internet-facing"


def _nlb(options: dict[str, Any]) -> dict[str, Any]:
    attributes = {"deregistration_delay.timeout_seconds": options["drain_seconds"]}
    if not options["proxy_protocol"]:
        attributes["preserve_client_ip.enabled"] = "true"
    annotations = {
        "type": "external",
        "nlb-target-type": "ip",
        "scheme": _scheme(options["internal"]),
        **({"ip-address-type": "dualstack"} if options["dual_stack"] else {}),
        # A zone whose pods are being replaced still answers.
        "attributes": "load_balancing.cross_zone.enabled=true",
        "target-group-attributes": _pairs(attributes),
        "healthcheck-protocol": "http",
        "healthcheck-port": str(options["health_port"]),
        "healthcheck-path": "/ready",
        "healthcheck-interval": HEALTH_SECONDS["interval"],
        "healthcheck-timeout": HEALTH_SECONDS["timeout"],
        "healthcheck-healthy-threshold": "2",
        "healthcheck-unhealthy-threshold": UNHEALTHY_AFTER,
        **({"proxy-protocol": "*"} if options["proxy_protocol"] else {}),
    }
    return {"annotations": {_NLB + name: value for name, value in annotations.items()}, "objects": []}


def _alb(options: dict[str, Any]) -> dict[str, Any]:
    annotations = {
        "scheme": _scheme(options["internal"]),
        **({"ip-address-type": "dualstack"} if options["dual_stack"] else {}),
        "target-type": "ip",
        "listen-ports": json.dumps([{"HTTP": 80}, {"HTTPS": 443}]),
        "ssl-redirect": "443",
        "ssl-policy": "ELBSecurityPolicy-TLS13-1-2-2021-06",
        # Encrypted again, to Envoy's own certificate, which an ALB does not check.
        "backend-protocol": "HTTPS",
        "healthcheck-protocol": "HTTP",
        "healthcheck-port": str(options["health_port"]),
        "healthcheck-path": "/ready",
        "success-codes": "200",
        "healthcheck-interval-seconds": HEALTH_SECONDS["interval"],
        "healthcheck-timeout-seconds": HEALTH_SECONDS["timeout"],
        "healthy-threshold-count": "2",
        "unhealthy-threshold-count": UNHEALTHY_AFTER,
        "target-group-attributes": _pairs({"deregistration_delay.timeout_seconds": options["drain_seconds"]}),
        # A request whose answer takes its time is silent until then.
        "load-balancer-attributes": _pairs(
            {
                "idle_timeout.timeout_seconds": max(60, options["timeout_seconds"] + 10),
                "routing.http.drop_invalid_header_fields.enabled": "true",
            }
        ),
    }
    if options["certificate_arns"]:
        annotations["certificate-arn"] = ",".join(options["certificate_arns"])
    if options["waf_acl_arn"]:
        annotations["wafv2-acl-arn"] = options["waf_acl_arn"]
    backend = {"service": {"name": "envoy", "port": {"name": "https"}}}
    rules: list[dict[str, Any]] = [
        {
            **({} if host == "*" else {"host": host}),
            "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]},
        }
        for host in options["hosts"]
    ]
    ingress = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {
            "name": "envoy",
            "namespace": options["namespace"],
            "labels": {
                "app.kubernetes.io/name": "envoy",
                "app.kubernetes.io/component": "edge",
                "app.kubernetes.io/part-of": "lambda-microservice-platform",
            },
            "annotations": {_ALB + name: value for name, value in annotations.items()},
        },
        "spec": {"ingressClassName": "alb", "rules": rules},
    }
    return {"annotations": {}, "objects": [ingress]}


def _gce(options: dict[str, Any]) -> dict[str, Any]:
    # https://cloud.google.com/kubernetes-engine/docs/concepts/service-load-balancer-parameters
    if options["internal"]:
        return {"annotations": {"networking.gke.io/load-balancer-type": "Internal"}, "objects": []}
    return {"annotations": {"cloud.google.com/l4-rbs": "enabled"}, "objects": []}


def _pairs(attributes: dict[str, Any]) -> str:
    return ",".join(f"{name}={value}" for name, value in sorted(attributes.items()))


_MAKERS = {"nlb": _nlb, "alb": _alb, "gce": _gce}


def load_balancer(
    kind: Any,
    *,
    namespace: str,
    internal: bool,
    proxy_protocol: bool,
    health_port: int,
    drain_seconds: int,
    timeout_seconds: int,
    dual_stack: bool = False,
    certificate_arns: Any = (),
    waf_acl_arn: str = "",
    hosts: Any = ("*",),
) -> dict[str, Any]:
    """``annotations`` and ``objects``; see DOCUMENTATION."""
    if kind not in KINDS:
        raise AnsibleFilterError(
            f"load_balancer: the kind is wrong. Found: {kind!r}. Expected: one of {', '.join(KINDS)}."
        )
    if kind == "none":
        return {"annotations": {}, "objects": []}
    return _MAKERS[kind](
        {
            "namespace": namespace,
            "internal": internal,
            "dual_stack": dual_stack,
            "proxy_protocol": proxy_protocol,
            "health_port": health_port,
            "drain_seconds": drain_seconds,
            "timeout_seconds": timeout_seconds,
            "certificate_arns": list(certificate_arns),
            "waf_acl_arn": waf_acl_arn,
            "hosts": list(hosts),
        }
    )


class FilterModule:
    """Registers the filter."""

    def filters(self):
        """Names and functions."""
        return {"load_balancer": load_balancer}

# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of upstreams: the services behind the edge, as Envoy's clusters."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.callers import JWKS_CLUSTER
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.checks import (
    UINT32,
    check_keys,
    duration,
    flag_of,
    is_ip_address,
    list_of,
    name_of,
    number_of,
    path_of,
    text_of,
    wrong,
)
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.rate_limits import RATE_LIMIT_CLUSTER

# Names of generated clusters, which a user's upstream must not take.
ADMIN_CLUSTER = "admin"
RESERVED_UPSTREAMS = (ADMIN_CLUSTER, RATE_LIMIT_CLUSTER, JWKS_CLUSTER)

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?\.?")
_UPSTREAM_OPTIONAL = (
    "http2",
    "connect_timeout_seconds",
    "idle_timeout_seconds",
    "max_connections",
    "max_pending_requests",
    "max_requests",
    "health_check",
)


def _upstream(upstream: Any, where: str, mesh: bool = False) -> dict[str, Any]:
    """``mesh``: a proxy beside this Envoy takes its connections, and knows by the Host whom they are for."""
    checked = check_keys(upstream, where, ("name", "address", "port"), _UPSTREAM_OPTIONAL)
    name = name_of(checked["name"], f"{where}.name")
    if name in RESERVED_UPSTREAMS:
        wrong(f"{where}.name", name, "another name; this one is Envoy's own")
    where = f"{where} ({name})"
    address = text_of(checked["address"], f"{where}.address", "a host name or an IP address")
    if not (_HOST.fullmatch(address) or is_ip_address(address)):
        wrong(f"{where}.address", address, "a host name or an IP address, without scheme, port and path")
    port = number_of(checked["port"], f"{where}.port", 1, 65535, "a TCP port", whole=True)

    def number(key: str, default: int, low: float, high: float, unit: str, whole: bool = True) -> Any:
        value = checked.get(key)
        return number_of(default if value is None else value, f"{where}.{key}", low, high, unit, whole)

    http2 = checked.get("http2") is not None and flag_of(checked["http2"], f"{where}.http2")
    cluster: dict[str, Any] = {
        "name": name,
        "cluster_type": {
            "name": "envoy.clusters.dns",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster",
                "dns_refresh_rate": "5s",
                "dns_failure_refresh_rate": {"base_interval": "1s", "max_interval": "5s"},
                "dns_lookup_family": "V4_PREFERRED",
            },
        },
        "connect_timeout": duration(number("connect_timeout_seconds", 1, 0.001, 60, "seconds", whole=False)),
        # Scripts differ in length by orders of magnitude; round robin would queue behind the long ones.
        "lb_policy": "LEAST_REQUEST",
        # Where none is healthy, all are asked: what they have in common (Redis, say) fails, and they know better than
        # the edge how long to wait and what to answer. One alone gets everything: the others may be new, and not yet
        # let through to what they need.
        "common_lb_config": {"healthy_panic_threshold": {"value": 1}},
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": number("max_connections", 1024, 1, UINT32, "connections"),
                    "max_pending_requests": number("max_pending_requests", 1024, 1, UINT32, "requests"),
                    "max_requests": number("max_requests", 1024, 1, UINT32, "requests"),
                    # Only what no upstream has seen is tried again (retry_on, num_retries): that costs a connection and
                    # no work, so all at once may, as when a pod goes that a stalled edge still sends to.
                    "max_retries": number("max_requests", 1024, 1, UINT32, "requests"),
                    "track_remaining": True,
                }
            ]
        },
        # Only what fails before an answer counts (connections refused, reset, timed out). An upstream's own 5xx does
        # not: a 504 is a script's fault, and its author could otherwise have healthy pods ejected.
        "outlier_detection": {
            "split_external_local_origin_errors": True,
            "consecutive_local_origin_failure": 5,
            "enforcing_consecutive_local_origin_failure": 100,
            "enforcing_local_origin_success_rate": 0,
            "enforcing_consecutive_5xx": 0,
            "enforcing_consecutive_gateway_failure": 0,
            "enforcing_success_rate": 0,
            "base_ejection_time": "10s",
            "max_ejection_percent": 50,
        },
        "per_connection_buffer_limit_bytes": 32768,
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "common_http_protocol_options": {
                    "idle_timeout": duration(number("idle_timeout_seconds", 60, 1, 3600, "seconds", whole=False))
                },
                "explicit_http_config": {"http2_protocol_options": {}} if http2 else {"http_protocol_options": {}},
            }
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [
                {
                    "lb_endpoints": [
                        {
                            "endpoint": {
                                "address": {"socket_address": {"address": address, "port_value": port}},
                                # What the routes' auto_host_rewrite takes.
                                **({"hostname": address} if mesh else {}),
                            }
                        }
                    ]
                }
            ],
        },
    }
    if checked.get("health_check") is not None:
        at = f"{where}.health_check"
        check = check_keys(checked["health_check"], at, ("path",), ("interval_seconds", "timeout_seconds"))
        path = path_of(check["path"], f"{at}.path")
        interval = check.get("interval_seconds")
        timeout = check.get("timeout_seconds")
        interval = number_of(2 if interval is None else interval, f"{at}.interval_seconds", 0.1, 300, "seconds")
        timeout = number_of(1 if timeout is None else timeout, f"{at}.timeout_seconds", 0.1, 300, "seconds")
        # Names are cached for up to half a minute; the check sees a pod that is going away within one interval.
        cluster["health_checks"] = [
            {
                "timeout": duration(timeout),
                "interval": duration(interval),
                "no_traffic_interval": duration(interval),
                "unhealthy_threshold": 2,
                "healthy_threshold": 1,
                "http_health_check": {"path": path, **({"host": address} if mesh else {})},
            }
        ]
        cluster["ignore_health_on_host_removal"] = True
    return cluster


def rate_limit_cluster(service: Any, mesh: bool = False) -> dict[str, Any]:
    """The cluster of the rate limit service at ``{address, port}``."""
    where = "ingress_rate_limit_service"
    checked = check_keys(service, where, ("address", "port"), ())
    cluster = _upstream({"name": "service", **checked, "http2": True, "connect_timeout_seconds": 0.25}, where)
    cluster["name"] = cluster["load_assignment"]["cluster_name"] = RATE_LIMIT_CLUSTER
    # A service that is away is known to be: no request waits to find out.
    cluster["common_lb_config"] = {"healthy_panic_threshold": {"value": 0}}
    cluster["ignore_health_on_host_removal"] = True
    cluster["health_checks"] = [
        {
            "timeout": "1s",
            "interval": "2s",
            "no_traffic_interval": "2s",
            "unhealthy_threshold": 2,
            "healthy_threshold": 1,
            "grpc_health_check": {
                "service_name": "ratelimit",
                **({"authority": str(checked["address"])} if mesh else {}),
            },
        }
    ]
    return cluster


def checked_upstreams(upstreams: Any, mesh: bool = False) -> list[dict[str, Any]]:
    """Envoy's clusters out of the table."""
    result: list[dict[str, Any]] = []
    for index, upstream in enumerate(list_of(upstreams, "ingress_upstreams", "upstreams")):
        where = f"ingress_upstreams[{index}]"
        made = _upstream(upstream, where, mesh)
        for before, earlier in enumerate(result):
            if earlier["name"] == made["name"]:
                wrong(f"{where}.name", made["name"], f"a name of its own; ingress_upstreams[{before}] has this one")
        result.append(made)
    return result

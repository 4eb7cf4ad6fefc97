# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a table never changes, and a running Envoy never reads again: admin, metrics, overload."""

from __future__ import annotations

from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.limits import Limits
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.listeners import (
    CONNECTION_MANAGER,
    listener,
)
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.upstreams import ADMIN_CLUSTER

METRICS_PORT = 9090
ADMIN_PORT = 9901


def _metrics_listener(address: str) -> dict[str, Any]:
    """Two pages of the admin interface, to read only: what Prometheus and the kubelet need."""
    only_get = [{"name": ":method", "string_match": {"exact": "GET"}}]
    routes = [
        {
            "name": path[1:],
            "match": {"path": path, "headers": only_get},
            "route": {"cluster": ADMIN_CLUSTER, "timeout": "10s", "prefix_rewrite": page},
        }
        for path, page in {
            "/metrics": "/stats/prometheus",
            "/stats/prometheus": "/stats/prometheus",
            "/ready": "/ready",
        }.items()
    ]
    manager = {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": CONNECTION_MANAGER,
            "stat_prefix": "metrics",
            "codec_type": "HTTP1",
            "normalize_path": True,
            "route_config": {
                "name": "metrics",
                "virtual_hosts": [{"name": "metrics", "domains": ["*"], "routes": routes}],
            },
            "http_filters": [
                {
                    "name": "envoy.filters.http.router",
                    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
                }
            ],
            "request_headers_timeout": "10s",
            "request_timeout": "10s",
        },
    }
    return {
        **listener("metrics", address, METRICS_PORT, {"filters": [manager]}),
        # An Envoy that is full is ready and says so: a probe that is refused would restart it under load.
        "ignore_global_conn_limit": True,
        "bypass_overload_manager": True,
    }


def _overload_manager(limits: Limits) -> dict[str, Any]:
    def threshold(name: str, value: float) -> dict[str, Any]:
        return {
            "name": name,
            "triggers": [{"name": "envoy.resource_monitors.fixed_heap", "threshold": {"value": value}}],
        }

    return {
        "refresh_interval": "0.25s",
        "resource_monitors": [
            {
                "name": "envoy.resource_monitors.fixed_heap",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
                    "max_heap_size_bytes": limits.max_heap_bytes,
                },
            },
            {
                "name": "envoy.resource_monitors.global_downstream_max_connections",
                "typed_config": {
                    "@type": "type.googleapis.com/"
                    "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                    "max_active_downstream_connections": limits.max_connections,
                },
            },
        ],
        "actions": [
            threshold("envoy.overload_actions.shrink_heap", 0.9),
            threshold("envoy.overload_actions.disable_http_keepalive", 0.92),
            threshold("envoy.overload_actions.stop_accepting_requests", 0.95),
        ],
    }


def bootstrap(address: str, limits: Limits) -> dict[str, Any]:
    """What Envoy starts with, but for where it finds the rest."""
    return {
        "node": {"id": "envoy", "cluster": "ingress"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": ADMIN_PORT}}},
        "application_log_config": {
            "log_format": {
                "json_format": {"time": "%Y-%m-%dT%T.%eZ", "level": "%l", "logger": "%n", "message": "%j"},
            }
        },
        "overload_manager": _overload_manager(limits),
        "static_resources": {
            "listeners": [_metrics_listener(address)],
            "clusters": [
                {
                    "name": ADMIN_CLUSTER,
                    "type": "STATIC",
                    "connect_timeout": "1s",
                    "load_assignment": {
                        "cluster_name": ADMIN_CLUSTER,
                        "endpoints": [
                            {
                                "lb_endpoints": [
                                    {
                                        "endpoint": {
                                            "address": {
                                                "socket_address": {"address": "127.0.0.1", "port_value": ADMIN_PORT}
                                            }
                                        }
                                    }
                                ]
                            }
                        ],
                    },
                }
            ],
        },
    }

# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the edge listens on: HTTPS on TCP and UDP, and plain HTTP that leads there."""

from __future__ import annotations

from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.access_log import access_log
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.checks import (
    duration,
    is_ip_address,
    text_of,
    wrong,
)
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.limits import Limits
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.replies import local_replies

HTTPS_PORT = 8443
HTTP_PORT = 8080
HEALTH_PATH = "/ready"
"""For load balancers, on :data:`HTTP_PORT`."""

CONNECTION_MANAGER = (
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
)


def _connection_manager(
    prefix: str,
    limits: Limits,
    routes: dict[str, Any],
    filters: list[dict[str, Any]],
    codec: str = "AUTO",
    upgraded: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """``upgraded``: the filters of a WebSocket, where a route lets one through."""
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
            # Callers learn nothing of what stands behind the edge.
            "suppress_envoy_headers": True,
        },
    }
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": CONNECTION_MANAGER,
            "stat_prefix": prefix,
            "codec_type": codec,
            **routes,
            "http_filters": [*filters, router],
            **(
                {"upgrade_configs": [{"upgrade_type": "websocket", "enabled": False, "filters": [*upgraded, router]}]}
                if upgraded is not None
                else {}
            ),
            "local_reply_config": local_replies(limits),
            "access_log": access_log(),
            # The client's address is the peer's, or what that many proxies in front say; never what the client says.
            "use_remote_address": True,
            "xff_num_trusted_hops": limits.trusted_proxies,
            # Every caller is external, one with a private address too (a load balancer's, a pod's): an internal one
            # could set Envoy's own headers. An empty list would mean RFC 1918; this address nobody has.
            "internal_address_config": {"cidr_ranges": [{"address_prefix": "255.255.255.255", "prefix_len": 32}]},
            # The id in the answer and in the logs is ours: a client's own could be forged or collide.
            "generate_request_id": True,
            "preserve_external_request_id": False,
            "always_set_request_id_in_response": True,
            "server_header_transformation": "OVERWRITE",
            "server_name": "edge",
            # One spelling of a path, so that no route is slipped past.
            "normalize_path": True,
            "merge_slashes": True,
            "path_with_escaped_slashes_action": "REJECT_REQUEST",
            "common_http_protocol_options": {
                "idle_timeout": "300s",
                "headers_with_underscores_action": "REJECT_REQUEST",
            },
            "http2_protocol_options": {
                "max_concurrent_streams": 100,
                "initial_stream_window_size": 65536,
                "initial_connection_window_size": 1048576,
            },
            "request_headers_timeout": "10s",
            # For the whole request to arrive; the route's timeout begins after it.
            "request_timeout": duration(limits.timeout_seconds),
            "stream_idle_timeout": duration(limits.timeout_seconds + 5),
        },
    }


# Version 1 or 2. A connection without the header is closed: who could come without it could forge an address.
# https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt
_PROXY_PROTOCOL = {
    "name": "envoy.filters.listener.proxy_protocol",
    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"},
}


def _socket_address(address: str, port: int) -> dict[str, Any]:
    # Both families on one socket. Clients of IPv4 have their own addresses all the same, not ::ffff:192.0.2.1.
    return {"address": address, "port_value": port, **({"ipv4_compat": True} if address == "::" else {})}


def listener(name: str, address: str, port: int, chain: dict[str, Any], proxy_protocol: bool = False) -> dict[str, Any]:
    """One listener on TCP with one filter chain. ``proxy_protocol``: what connects says for whom."""
    return {
        **({"listener_filters": [_PROXY_PROTOCOL]} if proxy_protocol else {}),
        "name": name,
        "address": {"socket_address": _socket_address(address, port)},
        "per_connection_buffer_limit_bytes": 32768,
        "filter_chains": [{"name": name, **chain}],
    }


def https_listeners(
    address: str,
    limits: Limits,
    routes: dict[str, Any],
    certificate: dict[str, Any],
    before: list[dict[str, Any]],
    http3: bool,
) -> list[dict[str, Any]]:
    """HTTPS on TCP, and on UDP with HTTP/3. ``before``: filters that see a request before its body is read."""
    buffer = {
        "name": "envoy.filters.http.buffer",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer",
            # Whole requests only: a client that sends slowly holds a buffer here and nothing behind the edge.
            "max_request_bytes": limits.max_request_bytes,
        },
    }
    tls_params = {
        "tls_minimum_protocol_version": "TLSv1_2",
        "tls_maximum_protocol_version": "TLSv1_3",
        # For 1.2: forward secrecy and AEAD only. The suites of 1.3 are fixed.
        "cipher_suites": [
            "[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]",
            "[ECDHE-RSA-AES128-GCM-SHA256|ECDHE-RSA-CHACHA20-POLY1305]",
            "ECDHE-ECDSA-AES256-GCM-SHA384",
            "ECDHE-RSA-AES256-GCM-SHA384",
        ],
    }
    tls = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_params": tls_params,
            "tls_certificate_sds_secret_configs": [certificate],
        },
    }
    filters = [*before, buffer]
    chain = {
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
        "transport_socket_connect_timeout": "10s",
        # A WebSocket has no whole request that could be waited for.
        "filters": [_connection_manager("edge", limits, routes, filters, upgraded=before)],
    }
    listeners = [listener("https", address, HTTPS_PORT, chain, limits.proxy_protocol)]
    if http3:
        quic = {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.quic.v3.QuicDownstreamTransport",
            "downstream_tls_context": {"common_tls_context": {"tls_certificate_sds_secret_configs": [certificate]}},
        }
        chain = {
            "transport_socket": {"name": "envoy.transport_sockets.quic", "typed_config": quic},
            "filters": [_connection_manager("edge", limits, routes, filters, codec="HTTP3")],
        }
        udp = listener("https-udp", address, HTTPS_PORT, chain)
        udp["address"]["socket_address"]["protocol"] = "UDP"
        del udp["per_connection_buffer_limit_bytes"]
        udp["udp_listener_config"] = {"quic_options": {}, "downstream_socket_config": {"prefer_gro": True}}
        listeners.append(udp)
    return listeners


def redirect_listener(address: str, limits: Limits, https_port: int) -> dict[str, Any]:
    """Plain HTTP, which leads to HTTPS on the port that callers see, and tells load balancers whether this Envoy takes
    new connections: an Envoy that drains says no before it refuses any."""
    redirect: dict[str, Any] = {"https_redirect": True, "response_code": "PERMANENT_REDIRECT"}
    if https_port != 443:
        redirect["port_redirect"] = https_port
    route_config = {
        "name": "redirect",
        "virtual_hosts": [
            {
                "name": "redirect",
                "domains": ["*"],
                "routes": [{"name": "redirect", "match": {"prefix": "/"}, "redirect": redirect}],
            }
        ],
    }
    health = {
        "name": "envoy.filters.http.health_check",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck",
            "pass_through_mode": False,
            "headers": [{"name": ":path", "string_match": {"exact": HEALTH_PATH}}],
        },
    }
    manager = _connection_manager("redirect", limits, {"route_config": route_config}, [health])
    return listener("http", address, HTTP_PORT, {"filters": [manager]}, limits.proxy_protocol)


def checked_address(listen_address: Any) -> str:
    """The IP address that all listeners bind to."""
    address = text_of(listen_address, "ingress_listen_address", "an IP address")
    if not is_ip_address(address):
        wrong("ingress_listen_address", address, "an IP address")
    return address

# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Envoy's v3 configuration out of a table of routes and a table of upstreams.

Sources: the v3 API reference and "Configuring Envoy as an edge proxy" of Envoy's documentation (limits, header
handling).

The configuration is split as Envoy's file-based xDS wants it, so that a new table reaches a running Envoy without a
restart: the bootstrap names three files (listeners, routes, clusters) and one for the certificate, and watches their
folder. The bootstrap itself holds what a table never changes: admin, metrics, overload limits.
Rate limits and the proof of who calls are in modules of their own beside this one.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from typing import Any, NamedTuple

import yaml
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy_configuration_callers import (
    JWKS_CLUSTER,
    Callers,
    api_keys_file,
    caller_filters,
    checked_callers,
    jwks_cluster,
    public_route,
)
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy_configuration_checks import (
    Found,
    check_keys,
    duration,
    flag_of,
    is_ip_address,
    list_of,
    number_of,
    quantity_bytes,
    text_of,
    wrong,
)
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy_configuration_limits import (
    RATE_LIMIT_CLUSTER,
    RateLimits,
    checked_rate_limits,
    rate_limit_filters,
    route_rate_limits,
    service_configuration,
)

# Where the chart mounts the files and the certificate.
CONFIGURATION_FOLDER = "/etc/envoy/configuration"
CERTIFICATE_FOLDER = "/etc/envoy/certificate"

HTTPS_PORT = 8443
HTTP_PORT = 8080
METRICS_PORT = 9090
ADMIN_PORT = 9901

# Names of generated clusters, which a user's upstream must not take.
ADMIN_CLUSTER = "admin"
RESERVED_UPSTREAMS = (ADMIN_CLUSTER, RATE_LIMIT_CLUSTER, JWKS_CLUSTER)

_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, token
_METHOD = re.compile(r"[A-Z][A-Z-]{0,31}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?\.?")
_DOMAIN = re.compile(r"\*|(\*[.-])?[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]+)?")
_LANGUAGE_TITLE = re.compile(r"[A-Za-z0-9_.+-]+")

_PATH_KINDS = ("path", "prefix", "regex")
_HEADER_KINDS = ("exact", "prefix", "suffix", "contains", "regex", "present")
_CONNECTION_MANAGER = (
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
)
_UINT32 = 2**32 - 1
_LONGEST_TIMEOUT_SECONDS = 3600


class Configuration(NamedTuple):
    """``files``: name -> text, what the chart mounts. ``validation``: one document for ``--mode validate``.

    ``rate_limits``: what the rate limit service reads. ``api_keys``: the file of the Secret with the clients' keys,
    each a placeholder for the module secret.
    """

    files: dict[str, str]
    validation: str
    rate_limits: str
    api_keys: str


class Limits(NamedTuple):
    """What the edge accepts; the fields have the names and units of the filter's options."""

    timeout_seconds: float
    max_request_bytes: int
    max_connections: int
    max_heap_bytes: int
    trusted_proxies: int


# ---- Routes --------------------------------------------------------------------------------------------------------


def _path_match(match: dict[str, Any], where: str) -> dict[str, Any]:
    kinds = [kind for kind in _PATH_KINDS if match.get(kind) is not None]
    if len(kinds) != 1:
        wrong(where, Found(" and ".join(kinds) or "none of them"), f"exactly one of {', '.join(_PATH_KINDS)}")
    kind = kinds[0]
    value, at = match[kind], f"{where}.{kind}"
    if kind == "regex":
        # RE2 itself judges it, in the validation by Envoy: Python's syntax is another one.
        return {"safe_regex": {"regex": text_of(value, at, "a regular expression (RE2) of the whole path")}}
    path = text_of(value, at, "a path that begins with /")
    if not path.startswith("/") or any(mark in path for mark in "?# "):
        wrong(at, value, "a path that begins with / and has no query, fragment or blank")
    if kind == "path":
        return {"path": path}
    # /api matches /api and /api/x, never /apix: a prefix that ends inside a path segment is a mistake at an edge.
    return {"prefix": path} if path.endswith("/") else {"path_separated_prefix": path}


def _header_match(header: Any, where: str) -> dict[str, Any]:
    checked = check_keys(header, where, ("name",), (*_HEADER_KINDS, "ignore_case", "invert"))
    name = text_of(checked["name"], f"{where}.name", "the name of an HTTP header", _HEADER_NAME).lower()
    kinds = [kind for kind in _HEADER_KINDS if checked.get(kind) is not None]
    if len(kinds) != 1:
        wrong(where, Found(" and ".join(kinds) or "none of them"), f"exactly one of {', '.join(_HEADER_KINDS)}")
    kind = kinds[0]
    result: dict[str, Any] = {"name": name}
    if kind == "present":
        if checked.get("ignore_case") is not None:
            wrong(f"{where}.ignore_case", checked["ignore_case"], "no ignore_case beside present")
        result["present_match"] = flag_of(checked["present"], f"{where}.present")
    else:
        text = text_of(checked[kind], f"{where}.{kind}", "a text that is not empty")
        string: dict[str, Any] = {"safe_regex": {"regex": text}} if kind == "regex" else {kind: text}
        if checked.get("ignore_case") is not None:
            if kind == "regex":
                wrong(f"{where}.ignore_case", checked["ignore_case"], "no ignore_case beside regex; write (?i) in it")
            if flag_of(checked["ignore_case"], f"{where}.ignore_case"):
                string["ignore_case"] = True
        result["string_match"] = string
    if checked.get("invert") is not None and flag_of(checked["invert"], f"{where}.invert"):
        result["invert_match"] = True
    return result


def _language_title_match(value: Any, where: str) -> dict[str, Any]:
    """The header is ``LANGUAGE-TITLE``; a value without a hyphen is a language with any title."""
    expected = "a language (nodejs) or a language and a title (nodejs-invoice)"
    text = text_of(value, where, expected, _LANGUAGE_TITLE)
    if text.startswith("-") or text.endswith("-"):
        wrong(where, value, expected)
    rule = {"exact": text} if "-" in text else {"prefix": f"{text}-"}
    return {"name": "language-title", "string_match": {**rule, "ignore_case": True}}


def _route_match(match: Any, where: str) -> dict[str, Any]:
    checked = check_keys(match, where, (), (*_PATH_KINDS, "methods", "headers", "language_title"))
    result = _path_match(checked, where)
    headers = []
    if checked.get("methods") is not None:
        methods = []
        for index, method in enumerate(list_of(checked["methods"], f"{where}.methods", "HTTP methods")):
            methods.append(
                text_of(method, f"{where}.methods[{index}]", "an HTTP method in capitals, for instance POST", _METHOD)
            )
        if len(set(methods)) != len(methods):
            wrong(f"{where}.methods", checked["methods"], "each method once")
        one_of = {"exact": methods[0]} if len(methods) == 1 else {"safe_regex": {"regex": "|".join(methods)}}
        headers.append({"name": ":method", "string_match": one_of})
    if checked.get("language_title") is not None:
        headers.append(_language_title_match(checked["language_title"], f"{where}.language_title"))
    if checked.get("headers") is not None:
        for index, header in enumerate(list_of(checked["headers"], f"{where}.headers", "header matches", empty=True)):
            headers.append(_header_match(header, f"{where}.headers[{index}]"))
    if headers:
        result["headers"] = headers
    return result


def _destination(value: Any, where: str, known: list[str]) -> dict[str, Any]:
    expected = f"the name of one of the upstreams ({', '.join(known)})"

    def one(name: Any, at: str) -> str:
        if not isinstance(name, str) or name not in known:
            wrong(at, name, expected, "Add it to ingress_upstreams or correct the name")
        return str(name)

    if isinstance(value, str):
        return {"cluster": one(value, where)}
    weighted = []
    for index, item in enumerate(list_of(value, where, "upstreams with weights")):
        at = f"{where}[{index}]"
        checked = check_keys(item, at, ("name", "weight"), ())
        weight = number_of(checked["weight"], f"{at}.weight", 0, 1_000_000, "parts", whole=True)
        weighted.append({"name": one(checked["name"], f"{at}.name"), "weight": weight})
    if not any(cluster["weight"] for cluster in weighted):
        wrong(where, value, "at least one weight above 0")
    return {"weighted_clusters": {"clusters": weighted}}


def _route(route: Any, where: str, known: list[str], limits: Limits) -> dict[str, Any]:
    checked = check_keys(route, where, ("name", "match", "upstream"), ("timeout_seconds", "rewrite_prefix", "public"))
    name = text_of(checked["name"], f"{where}.name", "a name in lower-case letters, digits, . _ and -", _NAME)
    where = f"{where} ({name})"
    match = _route_match(checked["match"], f"{where}.match")
    timeout: float = limits.timeout_seconds
    if checked.get("timeout_seconds") is not None:
        timeout = number_of(
            checked["timeout_seconds"], f"{where}.timeout_seconds", 0.001, _LONGEST_TIMEOUT_SECONDS, "seconds"
        )
    action: dict[str, Any] = {
        **_destination(checked["upstream"], f"{where}.upstream", known),
        "timeout": duration(timeout),
        # The stream's idle timer must not cut a request that its own timeout still allows.
        "idle_timeout": duration(timeout + 5),
    }
    if checked.get("rewrite_prefix") is not None:
        at = f"{where}.rewrite_prefix"
        if not {"prefix", "path_separated_prefix"} & set(match):
            wrong(at, checked["rewrite_prefix"], "a match by prefix beside it")
        rewrite = text_of(checked["rewrite_prefix"], at, "a path that begins with /")
        if not rewrite.startswith("/"):
            wrong(at, rewrite, "a path that begins with /")
        action["prefix_rewrite"] = rewrite
    public = checked.get("public") is not None and flag_of(checked["public"], f"{where}.public")
    return {"name": name, "match": match, "route": action, **({"public": True} if public else {})}


def _with_filters(route: dict[str, Any], rates: RateLimits, callers: Callers) -> dict[str, Any]:
    """The route with its rate limits, and with what it is exempt from."""
    result = {key: value for key, value in route.items() if key != "public"}
    actions, settings = route_rate_limits(rates, route["name"])
    if actions:
        result["route"] = {**route["route"], "rate_limits": actions}
    if route.get("public"):
        settings = {**settings, **public_route(callers)}
    if settings:
        result["typed_per_filter_config"] = settings
    return result


def _covers(earlier: dict[str, Any], later: dict[str, Any]) -> bool:
    """Whether nothing that ``later`` matches gets past ``earlier``. No where only comparing regexes could tell."""
    narrowing = [header for header in earlier.get("headers", []) if header not in later.get("headers", [])]
    if narrowing:
        return False
    if "safe_regex" in earlier:
        return bool(earlier["safe_regex"] == later.get("safe_regex"))
    if "path" in earlier:
        return bool(earlier["path"] == later.get("path"))
    reached = later.get("path") or later.get("prefix") or later.get("path_separated_prefix")
    if reached is None:
        return "prefix" in earlier and earlier["prefix"] == "/"
    if "prefix" in earlier:
        return reached.startswith(earlier["prefix"])
    return f"{reached}/".startswith(f"{earlier['path_separated_prefix']}/")


def _routes(routes: Any, known: list[str], limits: Limits) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = []
    for index, route in enumerate(list_of(routes, "ingress_routes", "routes")):
        where = f"ingress_routes[{index}]"
        made = _route(route, where, known, limits)
        for before, earlier in enumerate(result):
            if earlier["name"] == made["name"]:
                wrong(f"{where}.name", made["name"], f"a name of its own; ingress_routes[{before}] has this one")
            if _covers(earlier["match"], made["match"]):
                wrong(
                    f"{where} ({made['name']}).match",
                    route["match"],
                    f"something that ingress_routes[{before}] ({earlier['name']}) leaves over, as the first match wins",
                    "Put the narrower route first",
                )
        result.append(made)
    return result


# ---- Upstreams -----------------------------------------------------------------------------------------------------

_UPSTREAM_OPTIONAL = (
    "http2",
    "connect_timeout_seconds",
    "idle_timeout_seconds",
    "max_connections",
    "max_pending_requests",
    "max_requests",
    "health_check",
)


def _upstream(upstream: Any, where: str) -> dict[str, Any]:
    checked = check_keys(upstream, where, ("name", "address", "port"), _UPSTREAM_OPTIONAL)
    name = text_of(checked["name"], f"{where}.name", "a name in lower-case letters, digits, . _ and -", _NAME)
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
        # Where fewer than half are healthy, all are asked: what they have in common (Redis, say) fails, and they
        # know better than the edge how long to wait and what to answer. A refused connection is tried elsewhere.
        "common_lb_config": {"healthy_panic_threshold": {"value": 50}},
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": number("max_connections", 1024, 1, _UINT32, "connections"),
                    "max_pending_requests": number("max_pending_requests", 1024, 1, _UINT32, "requests"),
                    "max_requests": number("max_requests", 1024, 1, _UINT32, "requests"),
                    # Only what no upstream has seen is tried again (retry_on): a retry costs a connection, no work. The
                    # floor is for a pod that goes: its share of a second's requests fails to connect, all at once.
                    "retry_budget": {"budget_percent": {"value": 50}, "min_retry_concurrency": 50},
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
                        {"endpoint": {"address": {"socket_address": {"address": address, "port_value": port}}}}
                    ]
                }
            ],
        },
    }
    if checked.get("health_check") is not None:
        at = f"{where}.health_check"
        check = check_keys(checked["health_check"], at, ("path",), ("interval_seconds", "timeout_seconds"))
        path = text_of(check["path"], f"{at}.path", "a path that begins with /")
        if not path.startswith("/"):
            wrong(f"{at}.path", path, "a path that begins with /")
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
                "http_health_check": {"path": path},
            }
        ]
        cluster["ignore_health_on_host_removal"] = True
    return cluster


def _rate_limit_cluster(service: Any) -> dict[str, Any]:
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
            "grpc_health_check": {"service_name": "ratelimit"},
        }
    ]
    return cluster


def _upstreams(upstreams: Any) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = []
    for index, upstream in enumerate(list_of(upstreams, "ingress_upstreams", "upstreams")):
        where = f"ingress_upstreams[{index}]"
        made = _upstream(upstream, where)
        for before, earlier in enumerate(result):
            if earlier["name"] == made["name"]:
                wrong(f"{where}.name", made["name"], f"a name of its own; ingress_upstreams[{before}] has this one")
        result.append(made)
    return result


# ---- Answers of the edge itself ------------------------------------------------------------------------------------


def _comparison(op: str, status: int) -> dict[str, Any]:
    value = {"default_value": status, "runtime_key": "edge.local_reply"}
    return {"status_code_filter": {"comparison": {"op": op, "value": value}}}


def _reply(
    condition: dict[str, Any], code: str, message: str, status: int | None = None, retry_after: int | str | None = None
) -> dict[str, Any]:
    mapper: dict[str, Any] = {"filter": condition}
    if status is not None:
        mapper["status_code"] = status
    if retry_after is not None:
        mapper["headers_to_add"] = [
            {"header": {"key": "retry-after", "value": str(retry_after)}, "append_action": "ADD_IF_ABSENT"}
        ]
    mapper["body_format_override"] = {"json_format": {"error": {"code": code, "message": message}}}
    return mapper


def _local_replies(limits: Limits) -> dict[str, Any]:
    """Envoy's own answers in the form of the controller's: ``{"error": {"code", "message"}}``."""
    unavailable = "The service is not available at the moment. Try again shortly."
    too_many = "Too many requests. Retry-After says in how many seconds to come back."
    return {
        "mappers": [
            _reply(_comparison("EQ", 401), "UNAUTHENTICATED", "The request does not prove who sends it."),
            _reply(_comparison("EQ", 403), "FORBIDDEN", "The caller may not do this."),
            _reply(_comparison("EQ", 404), "NOT_FOUND", "There is nothing at this path."),
            _reply(_comparison("EQ", 408), "TIMEOUT", "The request did not arrive in time."),
            _reply(
                _comparison("EQ", 413),
                "PAYLOAD_TOO_LARGE",
                f"The request is larger than {limits.max_request_bytes} bytes.",
            ),
            # The local limiter says itself when to come back; the service's answer has it as a header of the draft.
            _reply(_comparison("EQ", 429), "RATE_LIMITED", too_many, retry_after="%RESP(X-RATELIMIT-RESET)%"),
            # A broken answer of an upstream is no answer to the caller.
            _reply(_comparison("EQ", 502), "UNAVAILABLE", unavailable, status=503, retry_after=1),
            _reply(_comparison("EQ", 503), "UNAVAILABLE", unavailable, retry_after=1),
            _reply(_comparison("EQ", 504), "TIMEOUT", "The service did not answer in time."),
            _reply(_comparison("GE", 500), "INTERNAL_ERROR", "The request could not be handled."),
            _reply(_comparison("GE", 400), "INVALID_REQUEST", "The request was not understood."),
        ]
    }


# Neither bodies nor the query: both may hold a caller's secrets. The paths of the API hold request ids only.
ACCESS_LOG_FIELDS = {
    "time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
    "listener": "%FILTER_CHAIN_NAME%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "traceparent": "%REQ(TRACEPARENT)%",
    "method": "%REQ(:METHOD)%",
    "authority": "%REQ(:AUTHORITY)%",
    "path": "%PATH(NQ)%",
    "protocol": "%PROTOCOL%",
    "language_title": "%REQ(LANGUAGE-TITLE):128%",
    "user_agent": "%REQ(USER-AGENT):256%",
    "status": "%RESPONSE_CODE%",
    "status_details": "%RESPONSE_CODE_DETAILS%",
    "flags": "%RESPONSE_FLAGS%",
    "route": "%ROUTE_NAME%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "duration_ms": "%DURATION%",
    "upstream": "%UPSTREAM_CLUSTER%",
    "upstream_host": "%UPSTREAM_HOST%",
    "upstream_attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "upstream_duration_ms": "%RESPONSE_DURATION%",
    # What the edge itself takes: the limits, the proof of who calls, the wait for the body and for a connection.
    "before_upstream_us": "%COMMON_DURATION(DS_RX_BEG:US_TX_BEG:us)%",
    "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "tls_version": "%DOWNSTREAM_TLS_VERSION%",
}


def _access_log() -> list[dict[str, Any]]:
    return [
        {
            "name": "envoy.access_loggers.stdout",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
                "log_format": {"json_format": ACCESS_LOG_FIELDS},
            },
        }
    ]


# ---- Listeners -----------------------------------------------------------------------------------------------------


def _connection_manager(
    prefix: str, limits: Limits, routes: dict[str, Any], filters: list[dict[str, Any]], codec: str = "AUTO"
) -> dict[str, Any]:
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
            "@type": _CONNECTION_MANAGER,
            "stat_prefix": prefix,
            "codec_type": codec,
            **routes,
            "http_filters": [*filters, router],
            "local_reply_config": _local_replies(limits),
            "access_log": _access_log(),
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


def _listener(name: str, address: str, port: int, chain: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "address": {"socket_address": {"address": address, "port_value": port}},
        "per_connection_buffer_limit_bytes": 32768,
        "filter_chains": [{"name": name, **chain}],
    }


def _https_listeners(
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
        "filters": [_connection_manager("edge", limits, routes, filters)],
    }
    listeners = [_listener("https", address, HTTPS_PORT, chain)]
    if http3:
        quic = {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.quic.v3.QuicDownstreamTransport",
            "downstream_tls_context": {"common_tls_context": {"tls_certificate_sds_secret_configs": [certificate]}},
        }
        chain = {
            "transport_socket": {"name": "envoy.transport_sockets.quic", "typed_config": quic},
            "filters": [_connection_manager("edge", limits, routes, filters, codec="HTTP3")],
        }
        listener = _listener("https-udp", address, HTTPS_PORT, chain)
        listener["address"]["socket_address"]["protocol"] = "UDP"
        del listener["per_connection_buffer_limit_bytes"]
        listener["udp_listener_config"] = {"quic_options": {}, "downstream_socket_config": {"prefer_gro": True}}
        listeners.append(listener)
    return listeners


def _http_listener(address: str, limits: Limits, https_port: int) -> dict[str, Any]:
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
    manager = _connection_manager("redirect", limits, {"route_config": route_config}, [])
    return _listener("http", address, HTTP_PORT, {"filters": [manager]})


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
            "@type": _CONNECTION_MANAGER,
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
        **_listener("metrics", address, METRICS_PORT, {"filters": [manager]}),
        # An Envoy that is full is ready and says so: a probe that is refused would restart it under load.
        "ignore_global_conn_limit": True,
        "bypass_overload_manager": True,
    }


# ---- The documents -------------------------------------------------------------------------------------------------


def _file_source(name: str) -> dict[str, Any]:
    return {
        "resource_api_version": "V3",
        "path_config_source": {
            "path": f"{CONFIGURATION_FOLDER}/{name}",
            # Kubernetes swaps a link in the folder, which a watch on the file itself does not see.
            "watched_directory": {"path": CONFIGURATION_FOLDER},
        },
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


def _bootstrap(address: str, limits: Limits) -> dict[str, Any]:
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


def _discovery(kind: str, resources: list[dict[str, Any]]) -> dict[str, Any]:
    """A DiscoveryResponse. Its version is the content's hash, so a running Envoy can tell which one it has."""
    content = json.dumps(resources, sort_keys=True).encode()
    return {
        "version_info": hashlib.sha256(content).hexdigest()[:16],
        "resources": [{"@type": f"type.googleapis.com/{kind}", **resource} for resource in resources],
    }


class _Dumper(yaml.SafeDumper):
    """Without anchors: they save lines and cost the reader more."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _yaml(document: dict[str, Any]) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=120)


def configure(
    routes: Any,
    upstreams: Any,
    *,
    domains: Any = ("*",),
    https_port: Any = 443,
    listen_address: Any = "0.0.0.0",  # noqa: S104 - the pod's network is its own
    timeout_seconds: Any = 35,
    max_request_bytes: Any = 4194304,
    max_connections: Any = 20000,
    memory_limit: Any = "4Gi",
    trusted_proxies: Any = 0,
    response_headers: Any = None,
    remove_request_headers: Any = (),
    rate_limits: Any = (),
    rate_limit_exempt_users: Any = (),
    rate_limit_service: Any = None,
    rate_limit_timeout_seconds: Any = 0.05,
    languages: Any = ("nodejs", "python", "rust"),
    replicas: Any = 1,
    trust_user_id: Any = False,
    authentication: Any = "none",
    jwt: Any = None,
    api_key_clients: Any = (),
    api_key_secret: Any = "ingress-api-keys",  # noqa: S107 - a name
    http3: Any = False,
) -> Configuration:
    """The configuration of the edge; raises PlatformError where the tables or an option are wrong.

    The options are those of the filter ``envoy_configuration``, which documents them.
    """
    limits = Limits(
        timeout_seconds=number_of(
            timeout_seconds, "ingress_timeout_seconds", 0.001, _LONGEST_TIMEOUT_SECONDS, "seconds"
        ),
        max_request_bytes=number_of(max_request_bytes, "ingress_max_request_bytes", 1, _UINT32, "bytes", whole=True),
        max_connections=number_of(max_connections, "ingress_max_connections", 1, _UINT32, "connections", whole=True),
        # The rest is for what the allocator does not count: stacks, TLS sessions, the binary itself.
        max_heap_bytes=math.floor(quantity_bytes(memory_limit, "the memory limit of Envoy") * 0.8),
        trusted_proxies=number_of(trusted_proxies, "ingress_trusted_proxies", 0, 16, "proxies", whole=True),
    )
    address = text_of(listen_address, "ingress_listen_address", "an IP address")
    if not is_ip_address(address):
        wrong("ingress_listen_address", address, "an IP address")
    port = number_of(https_port, "ingress_https_port", 1, 65535, "a TCP port", whole=True)
    names = [
        text_of(domain, f"ingress_domains[{index}]", "a host name, *.SUFFIX or *", _DOMAIN)
        for index, domain in enumerate(list_of(domains, "ingress_domains", "host names"))
    ]
    if len(set(names)) != len(names):
        wrong("ingress_domains", names, "each host name once")
    added = {}
    for name, value in (response_headers or {}).items():
        at = f"ingress_response_headers[{name}]"
        added[text_of(name, at, "the name of an HTTP header", _HEADER_NAME).lower()] = text_of(
            value, at, "a text of one line"
        )
    removed = [
        text_of(name, f"ingress_remove_request_headers[{index}]", "the name of an HTTP header", _HEADER_NAME).lower()
        for index, name in enumerate(
            list_of(remove_request_headers, "ingress_remove_request_headers", "header names", empty=True)
        )
    ]

    callers = checked_callers(trust_user_id, authentication, jwt, api_key_clients)
    if flag_of(http3, "ingress_http3"):
        added["alt-svc"] = f'h3=":{port}"; ma=86400'
    clusters = _upstreams(upstreams)
    table = _routes(routes, [cluster["name"] for cluster in clusters], limits)
    rates = checked_rate_limits(
        rate_limits,
        [route["name"] for route in table],
        rate_limit_exempt_users,
        languages,
        replicas,
        rate_limit_service is not None,
        rate_limit_timeout_seconds,
    )
    table = [_with_filters(route, rates, callers) for route in table]
    if rate_limit_service is not None and rates.rows:
        clusters.append(_rate_limit_cluster(rate_limit_service))
    virtual_host: dict[str, Any] = {
        "name": "edge",
        "domains": names,
        # Inside the virtual host, so that its headers are on this answer too.
        "routes": [*table, {"name": "unknown", "match": {"prefix": "/"}, "direct_response": {"status": 404}}],
        # Only what certainly never reached an upstream is sent again: a script must not run twice.
        "retry_policy": {
            "retry_on": "connect-failure,refused-stream,reset-before-request",
            "num_retries": 2,
            "retry_host_predicate": [
                {
                    "name": "envoy.retry_host_predicates.previous_hosts",
                    "typed_config": {
                        "@type": "type.googleapis.com/"
                        "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                    },
                }
            ],
            # A pod that refuses has no requests and wins each draw of two that it is in, three in four with two pods.
            # After 12 draws a retry went there again in 0.75^12 = 3 of 100; after 50 in fewer than one of a million.
            "host_selection_retry_max_attempts": 50,
        },
    }
    if added:
        virtual_host["response_headers_to_add"] = [
            # A `%` begins a substitution in Envoy's header values.
            {"header": {"key": key, "value": value.replace("%", "%%")}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            for key, value in sorted(added.items())
        ]
    if removed:
        virtual_host["request_headers_to_remove"] = sorted(set(removed))
    route_configuration = {"name": "edge", "virtual_hosts": [virtual_host]}
    redirect = _http_listener(address, limits, port)
    bootstrap = _bootstrap(address, limits)

    def filters(to_judge: bool) -> list[dict[str, Any]]:
        # First who calls, then how often, and only then is the body read.
        return [*caller_filters(callers, to_judge), *rate_limit_filters(rates)]

    rds = {"rds": {"route_config_name": "edge", "config_source": _file_source("routes.yaml")}}
    sds = {"name": "edge", "sds_config": _file_source("certificate.yaml")}
    secret = {
        "name": "edge",
        "tls_certificate": {
            "certificate_chain": {"filename": f"{CERTIFICATE_FOLDER}/tls.crt"},
            "private_key": {"filename": f"{CERTIFICATE_FOLDER}/tls.key"},
            "watched_directory": {"path": CERTIFICATE_FOLDER},
        },
    }
    dynamic = {"lds_config": _file_source("listeners.yaml"), "cds_config": _file_source("clusters.yaml")}
    files = {
        "envoy.yaml": {**bootstrap, "dynamic_resources": dynamic},
        "listeners.yaml": _discovery(
            "envoy.config.listener.v3.Listener",
            [*_https_listeners(address, limits, rds, sds, filters(to_judge=False), http3), redirect],
        ),
        "routes.yaml": _discovery("envoy.config.route.v3.RouteConfiguration", [route_configuration]),
        "clusters.yaml": _discovery(
            "envoy.config.cluster.v3.Cluster", [*clusters, *jwks_cluster(callers, to_judge=False)]
        ),
        "certificate.yaml": _discovery("envoy.extensions.transport_sockets.tls.v3.Secret", [secret]),
    }

    # --mode validate does not read xDS files, so the same resources stand in one static document. Only the
    # certificate's source differs: its files exist in the pod alone.
    inline = {"route_config": route_configuration}
    elsewhere = {"name": "edge", "sds_config": {"resource_api_version": "V3", "ads": {}}}
    static = bootstrap["static_resources"]
    validation = {
        **bootstrap,
        "static_resources": {
            "listeners": [
                *static["listeners"],
                *_https_listeners(address, limits, inline, elsewhere, filters(to_judge=True), http3),
                redirect,
            ],
            "clusters": [*static["clusters"], *clusters, *jwks_cluster(callers, to_judge=True)],
        },
    }
    texts = {name: _yaml(document) for name, document in files.items()}
    return Configuration(
        texts, json.dumps(validation), service_configuration(rates), api_keys_file(callers.clients, api_key_secret)
    )

# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of routes: which request goes where. The first route that matches wins."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.callers import Callers, public_route
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.checks import (
    Found,
    check_keys,
    duration,
    flag_of,
    list_of,
    name_of,
    number_of,
    path_of,
    text_of,
    wrong,
)
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.limits import (
    LONGEST_TIMEOUT_SECONDS,
    Limits,
)
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.rate_limits import (
    RateLimits,
    route_rate_limits,
)
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.replies import NOTHING_RAN

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, token
_METHOD = re.compile(r"[A-Z][A-Z-]{0,31}")
_DOMAIN = re.compile(r"\*|(\*[.-])?[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]+)?")
_LANGUAGE_TITLE = re.compile(r"[A-Za-z0-9_.+-]+")

_HEADERS_OF_PROXIES = (NOTHING_RAN, "x-envoy-upstream-service-time", "x-envoy-decorator-operation")
"""Callers learn nothing of what stands behind the edge."""

_PATH_KINDS = ("path", "prefix", "regex")
_HEADER_KINDS = ("exact", "prefix", "suffix", "contains", "regex", "present")


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


def _route(route: Any, where: str, known: list[str], limits: Limits, mesh: bool) -> dict[str, Any]:
    checked = check_keys(
        route,
        where,
        ("name", "match", "upstream"),
        ("timeout_seconds", "rewrite_prefix", "public", "limits_of", "websocket"),
    )
    name = name_of(checked["name"], f"{where}.name")
    where = f"{where} ({name})"
    match = _route_match(checked["match"], f"{where}.match")
    timeout: float = limits.timeout_seconds
    if checked.get("timeout_seconds") is not None:
        timeout = number_of(
            checked["timeout_seconds"], f"{where}.timeout_seconds", 0.001, LONGEST_TIMEOUT_SECONDS, "seconds"
        )
    action: dict[str, Any] = {
        **_destination(checked["upstream"], f"{where}.upstream", known),
        "timeout": duration(timeout),
        # The stream's idle timer must not cut a request that its own timeout still allows.
        "idle_timeout": duration(timeout + 5),
    }
    if mesh:
        # The proxy beside this Envoy knows by the Host whom a request is for; what the caller wrote goes on beside it.
        action |= {"auto_host_rewrite": True, "append_x_forwarded_host": True}
    if checked.get("rewrite_prefix") is not None:
        at = f"{where}.rewrite_prefix"
        if not {"prefix", "path_separated_prefix"} & set(match):
            wrong(at, checked["rewrite_prefix"], "a match by prefix beside it")
        action["prefix_rewrite"] = path_of(checked["rewrite_prefix"], at)
    if checked.get("websocket") is not None and flag_of(checked["websocket"], f"{where}.websocket"):
        action["upgrade_configs"] = [{"upgrade_type": "websocket"}]
    public = checked.get("public") is not None and flag_of(checked["public"], f"{where}.public")
    shared = checked.get("limits_of")
    return {
        "name": name,
        "match": match,
        "route": action,
        **({"public": True} if public else {}),
        **({"limits_of": name_of(shared, f"{where}.limits_of")} if shared is not None else {}),
    }


def with_filters(route: dict[str, Any], rates: RateLimits, callers: Callers) -> dict[str, Any]:
    """The route with its rate limits, and with what it is exempt from."""
    result = {key: value for key, value in route.items() if key not in ("public", "limits_of")}
    actions, settings = route_rate_limits(rates, {route["name"], route.get("limits_of", route["name"])})
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


def checked_routes(routes: Any, known: list[str], limits: Limits, mesh: bool = False) -> list[dict[str, Any]]:
    """Envoy's routes out of the table; ``known`` are the names of the upstreams. They still lack with_filters."""
    result: list[dict[str, Any]] = []
    for index, route in enumerate(list_of(routes, "ingress_routes", "routes")):
        where = f"ingress_routes[{index}]"
        made = _route(route, where, known, limits, mesh)
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
    names = [route["name"] for route in result]
    for index, made in enumerate(result):
        if made.get("limits_of", made["name"]) not in names:
            where = f"ingress_routes[{index}] ({made['name']}).limits_of"
            wrong(where, made["limits_of"], f"the name of one of ingress_routes ({', '.join(names)})")
    return result


def checked_domains(domains: Any) -> list[str]:
    """The host names that are answered."""
    names = [
        text_of(domain, f"ingress_domains[{index}]", "a host name, *.SUFFIX or *", _DOMAIN)
        for index, domain in enumerate(list_of(domains, "ingress_domains", "host names"))
    ]
    if len(set(names)) != len(names):
        wrong("ingress_domains", names, "each host name once")
    return names


def checked_response_headers(headers: Any) -> dict[str, str]:
    """Name in lower case -> value, of what every answer gets."""
    result = {}
    for name, value in (headers or {}).items():
        at = f"ingress_response_headers[{name}]"
        header = text_of(name, at, "the name of an HTTP header", _HEADER_NAME).lower()
        result[header] = text_of(value, at, "a text of one line")
    return result


def checked_removed_headers(names: Any) -> list[str]:
    """Names in lower case of the request headers that no upstream sees."""
    where = "ingress_remove_request_headers"
    return [
        text_of(name, f"{where}[{index}]", "the name of an HTTP header", _HEADER_NAME).lower()
        for index, name in enumerate(list_of(names, where, "header names", empty=True))
    ]


def route_configuration(
    routes: list[dict[str, Any]],
    domains: list[str],
    response_headers: dict[str, str],
    removed_headers: list[str],
    mesh: bool = False,
) -> dict[str, Any]:
    """The routes in one virtual host, which answers for the domains."""
    virtual_host: dict[str, Any] = {
        "name": "edge",
        "domains": domains,
        # Inside the virtual host, so that its headers are on this answer too.
        "routes": [*routes, {"name": "unknown", "match": {"prefix": "/"}, "direct_response": {"status": 404}}],
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
    if mesh:
        # A proxy takes every connection, and says afterwards that there was nobody.
        retries = virtual_host["retry_policy"]
        retries["retry_on"] += ",retriable-headers"
        retries["retriable_headers"] = [{"name": NOTHING_RAN, "string_match": {"exact": "true"}}]
        virtual_host["response_headers_to_remove"] = list(_HEADERS_OF_PROXIES)
    if response_headers:
        virtual_host["response_headers_to_add"] = [
            # A `%` begins a substitution in Envoy's header values.
            {"header": {"key": key, "value": value.replace("%", "%%")}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            for key, value in sorted(response_headers.items())
        ]
    if removed_headers:
        virtual_host["request_headers_to_remove"] = sorted(set(removed_headers))
    return {"name": "edge", "virtual_hosts": [virtual_host]}

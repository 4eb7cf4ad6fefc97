# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of rate limits: what Envoy asks the rate limit service, what that allows, and what Envoy does alone.

Sources: Envoy's documentation of the filters "Rate limit" (global) and "Local rate limit", and the README of
envoyproxy/ratelimit (descriptors).

Two filters read one table. The global one asks the service, which counts in Redis for all Envoys together, in windows
of one unit. Its answer leaves a note in the request's metadata. The local one looks for that note: a request without
it, because the service is away or there is none, takes a token of this Envoy's own bucket, which holds the limit
divided by the number of Envoys.
"""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

import yaml
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.checks import (
    NAME,
    UINT32,
    check_keys,
    list_of,
    name_of,
    number_of,
    text_of,
    wrong,
)

RATE_LIMIT_CLUSTER = "ratelimit"
DOMAIN = "edge"
UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}

_PER = ("user", "address", "language")
_GLOBAL_FILTER, _LOCAL_FILTER = "envoy.filters.http.ratelimit", "envoy.filters.http.local_ratelimit"
_AWAY = {"key": "service", "value": "away"}
_COUNTERS = 10_000
"""Callers that one Envoy remembers while the service is away (some 200 bytes each); the longest unseen is forgotten."""


class RateLimit(NamedTuple):
    """One row of the table, checked."""

    name: str
    routes: list[str]
    per: list[str]
    requests: int
    anonymous_requests: int
    unit: str


class RateLimits(NamedTuple):
    """The table, and what belongs to all of its rows."""

    rows: list[RateLimit]
    exempt_users: list[str]
    languages: list[str]
    replicas: int
    service: bool
    """Whether there is a rate limit service; the local buckets are all there is otherwise."""
    timeout_seconds: float


def checked_rate_limits(
    rows: Any, routes: list[str], exempt_users: Any, languages: Any, replicas: Any, service: Any, timeout_seconds: Any
) -> RateLimits:
    """The table as it is used; ``routes`` are the names that a row may give."""
    users = [
        text_of(user, f"ingress_rate_limit_exempt_users[{index}]", "the value of X-User-ID")
        for index, user in enumerate(list_of(exempt_users, "ingress_rate_limit_exempt_users", "users", empty=True))
    ]
    known_languages = [
        text_of(language, f"ingress_languages[{index}]", "a language in lower-case letters", NAME)
        for index, language in enumerate(list_of(languages, "ingress_languages", "languages"))
    ]
    table = [
        _row(row, f"ingress_rate_limits[{index}]", routes)
        for index, row in enumerate(list_of(rows, "ingress_rate_limits", "rate limits", empty=True))
    ]
    names = [row.name for row in table]
    for index, name in enumerate(names):
        if name in names[:index]:
            first = names.index(name)
            wrong(f"ingress_rate_limits[{index}].name", name, f"a name of its own; ingress_rate_limits[{first}] has it")
    return RateLimits(
        table,
        users,
        known_languages,
        number_of(replicas, "ingress_replicas", 1, 1000, "pods", whole=True),
        service,
        number_of(timeout_seconds, "ingress_rate_limit_timeout_seconds", 0.001, 5, "seconds"),
    )


def _row(row: Any, where: str, routes: list[str]) -> RateLimit:
    checked = check_keys(row, where, ("name", "routes", "per", "requests", "unit"), ("anonymous_requests",))
    name = name_of(checked["name"], f"{where}.name")
    where = f"{where} ({name})"
    named = list_of(checked["routes"], f"{where}.routes", "names of routes")
    for index, route in enumerate(named):
        if route not in routes:
            wrong(f"{where}.routes[{index}]", route, f"the name of one of ingress_routes ({', '.join(routes)})")
    per = list_of(checked["per"], f"{where}.per", f"some of {', '.join(_PER)}", empty=True)
    for index, what in enumerate(per):
        if what not in _PER or what in per[:index]:
            wrong(f"{where}.per[{index}]", what, f"one of {', '.join(_PER)}, each once")
    if "user" in per and "address" in per:
        wrong(f"{where}.per", per, "either user or address: who has no user is counted by address anyway")
    if checked["unit"] not in UNITS:
        wrong(f"{where}.unit", checked["unit"], f"one of {', '.join(UNITS)}")
    requests = number_of(checked["requests"], f"{where}.requests", 1, 10**9, "requests", whole=True)
    anonymous = checked.get("anonymous_requests")
    if anonymous is not None and "user" not in per:
        wrong(f"{where}.anonymous_requests", anonymous, "user in per, as only then there are callers without one")
    anonymous = requests if anonymous is None else anonymous
    return RateLimit(
        name,
        [str(route) for route in named],
        [str(what) for what in per],
        requests,
        number_of(anonymous, f"{where}.anonymous_requests", 1, 10**9, "requests", whole=True),
        str(checked["unit"]),
    )


class _Part(NamedTuple):
    """One entry of a descriptor: how Envoy makes it, its key, and its value (empty: any)."""

    action: dict[str, Any]
    key: str
    value: str


def _header_value_match(key: str, value: str, headers: list[dict[str, Any]]) -> _Part:
    action = {"descriptor_key": key, "descriptor_value": value, "expect_match": True, "headers": headers}
    return _Part({"header_value_match": action}, key, value)


def _languages(limits: RateLimits) -> list[_Part]:
    """One for each language, and one for whatever is none: the header is LANGUAGE-TITLE, and a title is no language."""

    def begins(language: str) -> dict[str, Any]:
        return {"name": "language-title", "string_match": {"prefix": f"{language}-", "ignore_case": True}}

    parts = [_header_value_match("language", language, [begins(language)]) for language in limits.languages]
    unknown = [
        {**begins(language), "treat_missing_header_as_empty": True, "invert_match": True}
        for language in limits.languages
    ]
    return [*parts, _header_value_match("language", "other", unknown)]


def _callers(row: RateLimit, limits: RateLimits) -> list[tuple[list[_Part], int]]:
    """Who is counted, with the number of requests: the user, and by address those who have none."""
    address = _Part(
        # A provider gives a household or a machine a whole /64 (RFC 6177).
        {"masked_remote_address": {"v4_prefix_mask_len": 32, "v6_prefix_mask_len": 64}},
        "masked_remote_address",
        "",
    )
    if "address" in row.per:
        return [([address], row.requests)]
    if "user" not in row.per:
        return [([], row.requests)]
    user = _Part({"request_headers": {"header_name": "x-user-id", "descriptor_key": "user"}}, "user", "")
    known = [user]
    if limits.exempt_users:
        others = "|".join(re.escape(name) for name in limits.exempt_users)
        # No descriptor is made where one of its entries is not: the exempt are not even counted.
        match = {"name": "x-user-id", "string_match": {"safe_regex": {"regex": others}}, "invert_match": True}
        known.append(_header_value_match("exempt", "no", [match]))
    nobody = _header_value_match("caller", "anonymous", [{"name": "x-user-id", "present_match": False}])
    return [(known, row.requests), ([nobody, address], row.anonymous_requests)]


def _descriptors(row: RateLimit, limits: RateLimits) -> list[tuple[list[_Part], int]]:
    """Every descriptor that a request can have by this row; of each caller and language, exactly one is made."""
    rule = _Part({"generic_key": {"descriptor_key": "rule", "descriptor_value": row.name}}, "rule", row.name)
    languages: list[list[_Part]] = [[part] for part in _languages(limits)] if "language" in row.per else [[]]
    return [
        ([rule, *language, *caller], requests) for caller, requests in _callers(row, limits) for language in languages
    ]


def route_rate_limits(limits: RateLimits, names: set[str]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The ``rate_limits`` (for the service) and ``typed_per_filter_config`` (for Envoy alone) of a route, or nothing.

    ``names`` are its own and that of the route whose limits it shares.
    """
    rows = [row for row in limits.rows if names & set(row.routes)]
    asked: list[dict[str, Any]] = []
    alone: list[dict[str, Any]] = []
    buckets: list[dict[str, Any]] = []
    note = {
        "metadata": {
            "descriptor_key": _AWAY["key"],
            "default_value": _AWAY["value"],
            "source": "DYNAMIC",
            "metadata_key": {"key": _GLOBAL_FILTER, "path": [{"key": "domain"}]},
        }
    }
    for row in rows:
        for parts, requests in _descriptors(row, limits):
            own = [part.action for part in parts]
            if limits.service:
                asked.append({"actions": own})
            alone.append({"actions": [*own, note]})
            share = math.ceil(requests / limits.replicas)
            buckets.append(
                {
                    "entries": [*({"key": part.key, "value": part.value} for part in parts), _AWAY],
                    "token_bucket": {
                        "max_tokens": share,
                        "tokens_per_fill": share,
                        "fill_interval": f"{UNITS[row.unit]}s",
                    },
                }
            )
    if not rows:
        return [], {}
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    slowest = max(
        UNITS[row.unit] / math.ceil(min(row.requests, row.anonymous_requests) / limits.replicas) for row in rows
    )
    local = {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        "stat_prefix": "local_rate_limit",
        "rate_limits": alone,
        # What no bucket below is for, the service has counted already.
        "token_bucket": {"max_tokens": UINT32, "tokens_per_fill": UINT32, "fill_interval": "1s"},
        "filter_enabled": always,
        "filter_enforced": always,
        "descriptors": buckets,
        "max_dynamic_descriptors": _COUNTERS,
        "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
        # When the slowest of the buckets has its next token.
        "response_headers_to_add": [
            {
                "header": {"key": "retry-after", "value": str(math.ceil(slowest))},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        ],
    }
    return asked, {_LOCAL_FILTER: local}


def rate_limit_filters(limits: RateLimits, authority: str = "") -> list[dict[str, Any]]:
    """The two filters, in their order; what they count is said by the routes, so a new table touches no listener.

    ``authority``: what the service is called, where somebody on the way has to know.
    """
    if not limits.rows:
        return []
    ask = {
        "name": _GLOBAL_FILTER,
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit",
            "domain": DOMAIN,
            "timeout": f"{limits.timeout_seconds:.3f}s",
            # A service that is away must not stop the platform: the local buckets take over.
            "failure_mode_deny": False,
            "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
            "disable_x_envoy_ratelimited_header": True,
            "rate_limit_service": {
                "transport_api_version": "V3",
                "grpc_service": {
                    "envoy_grpc": {
                        "cluster_name": RATE_LIMIT_CLUSTER,
                        **({"authority": authority} if authority else {}),
                    }
                },
            },
        },
    }
    alone = {
        "name": _LOCAL_FILTER,
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
            "stat_prefix": "local_rate_limit",
        },
    }
    return [*([ask] if limits.service else []), alone]


def service_configuration(limits: RateLimits) -> str:
    """What the rate limit service reads: the same descriptors as a tree of keys, each with its limit at the leaf."""
    root: list[dict[str, Any]] = []
    for row in limits.rows:
        for parts, requests in _descriptors(row, limits):
            level = root
            node: dict[str, Any] = {}
            for part in parts:
                own: dict[str, Any] = {"key": part.key, **({"value": part.value} if part.value else {})}
                found = [node for node in level if (node["key"], node.get("value")) == (part.key, own.get("value"))]
                node = found[0] if found else own
                if not found:
                    level.append(node)
                level = node.setdefault("descriptors", [])
            del node["descriptors"]
            node["rate_limit"] = {"unit": row.unit, "requests_per_unit": requests}
    return yaml.safe_dump({"domain": DOMAIN, "descriptors": root}, sort_keys=False, width=120)

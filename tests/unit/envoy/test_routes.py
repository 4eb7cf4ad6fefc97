"""The table of routes: what it becomes, and what is said of a wrong one."""

from __future__ import annotations

import json

import pytest
import yaml
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.configuration import configure

from .conftest import ROUTES, UPSTREAMS, matching, route


def virtual_host(routes=ROUTES, upstreams=UPSTREAMS, **options):
    document = yaml.safe_load(configure(routes, upstreams, **options).files["routes.yaml"])
    return document["resources"][0]["virtual_hosts"][0]


def only_match(match):
    made, unknown = virtual_host([{"name": "x", "match": match, "upstream": "controller"}])["routes"]
    assert (unknown["match"], unknown["direct_response"]) == ({"prefix": "/"}, {"status": 404})
    return made["match"]


@pytest.mark.parametrize(
    "written, made",
    [
        ({"path": "/health"}, {"path": "/health"}),
        ({"prefix": "/"}, {"prefix": "/"}),
        ({"prefix": "/api/"}, {"prefix": "/api/"}),
        ({"prefix": "/api"}, {"path_separated_prefix": "/api"}),
        ({"regex": "/v[0-9]+/.*"}, {"safe_regex": {"regex": "/v[0-9]+/.*"}}),
    ],
)
def test_paths(written, made):
    assert only_match(written) == made


@pytest.mark.parametrize(
    "written, made",
    [
        (
            {"language_title": "nodejs"},
            {"name": "language-title", "string_match": {"prefix": "nodejs-", "ignore_case": True}},
        ),
        (
            {"language_title": "rust-Sum"},
            {"name": "language-title", "string_match": {"exact": "rust-Sum", "ignore_case": True}},
        ),
        ({"methods": ["POST"]}, {"name": ":method", "string_match": {"exact": "POST"}}),
        ({"methods": ["GET", "PUT"]}, {"name": ":method", "string_match": {"safe_regex": {"regex": "GET|PUT"}}}),
        ({"headers": [{"name": "X-A", "exact": "1"}]}, {"name": "x-a", "string_match": {"exact": "1"}}),
        (
            {"headers": [{"name": "x-a", "contains": "b", "ignore_case": True, "invert": True}]},
            {"name": "x-a", "string_match": {"contains": "b", "ignore_case": True}, "invert_match": True},
        ),
        ({"headers": [{"name": "x-a", "present": False}]}, {"name": "x-a", "present_match": False}),
        (
            {"headers": [{"name": "x-a", "regex": "a+"}]},
            {"name": "x-a", "string_match": {"safe_regex": {"regex": "a+"}}},
        ),
    ],
)
def test_headers(written, made):
    assert only_match({"prefix": "/", **written})["headers"] == [made]


def test_a_route_has_its_own_timeout_or_the_edges_and_the_idle_timer_outlasts_it():
    routes = [
        {"name": "long", "match": {"path": "/long"}, "upstream": "controller", "timeout_seconds": 120.5},
        {"name": "api", "match": {"prefix": "/"}, "upstream": "controller"},
    ]
    long, api, _ = virtual_host(routes, timeout_seconds=7)["routes"]
    assert (long["route"]["timeout"], long["route"]["idle_timeout"]) == ("120.5s", "125.5s")
    assert (api["route"]["timeout"], api["route"]["idle_timeout"]) == ("7s", "12s")


def test_only_what_was_not_sent_is_retried():
    assert virtual_host()["retry_policy"]["retry_on"] == "connect-failure,refused-stream,reset-before-request"
    assert "retry_policy" not in json.dumps(virtual_host()["routes"])


def test_response_headers_are_text_and_no_substitutions():
    made = virtual_host(response_headers={"X-Share": "100%", "Strict-Transport-Security": "max-age=1"})
    values = {entry["header"]["key"]: entry["header"]["value"] for entry in made["response_headers_to_add"]}
    assert values == {"x-share": "100%%", "strict-transport-security": "max-age=1"}


API = "ingress_routes[0] (api)"
NARROW_LATER = [matching(prefix="/api"), {**matching(path="/api/x"), "name": "second"}]


@pytest.mark.parametrize(
    "routes, where, found, expected",
    [
        ({}, "ingress_routes", "{}", "list of routes"),
        ([], "ingress_routes", "[]", "at least one"),
        (["api"], "ingress_routes[0]", '"api"', "a dictionary"),
        ([route(name=None)], "ingress_routes[0].name", "nothing", "a value"),
        ([route(name="No Name")], "ingress_routes[0].name", '"No Name"', "lower-case"),
        ([route(match=None)], "ingress_routes[0].match", "nothing", "a value"),
        ([route(upstream=None)], "ingress_routes[0].upstream", "nothing", "a value"),
        ([route(timeout=3)], "ingress_routes[0]", "the key timeout", "timeout_seconds"),
        ([route(upstream="controler")], API + ".upstream", '"controler"', "controller"),
        ([route(upstream=[{"name": "controller", "weight": 0}])], API + ".upstream", "0", "above 0"),
        ([route(upstream=[{"name": "x", "weight": 1}])], API + ".upstream[0].name", '"x"', "controller"),
        ([route(upstream=[{"name": "controller"}])], API + ".upstream[0].weight", "nothing", "a value"),
        ([route(timeout_seconds="35s")], "ingress_routes[0] (api).timeout_seconds", '"35s"', "a number of seconds"),
        ([route(timeout_seconds=0)], "ingress_routes[0] (api).timeout_seconds", "0", "0.001"),
        ([route(timeout_seconds=float("nan"))], "ingress_routes[0] (api).timeout_seconds", "NaN", "a number"),
        ([route(timeout_seconds=True)], "ingress_routes[0] (api).timeout_seconds", "true", "a number"),
        ([route(rewrite_prefix="x")], "ingress_routes[0] (api).rewrite_prefix", '"x"', "begins with /"),
        ([{**matching(path="/x"), "rewrite_prefix": "/y"}], "ingress_routes[0] (api).rewrite_prefix", '"/y"', "prefix"),
        ([matching()], API + ".match", "none of them", "exactly one of path, prefix, regex"),
        ([matching(path="/a", prefix="/b")], API + ".match", "path and prefix", "exactly one"),
        ([matching(path="a")], API + ".match.path", '"a"', "begins with /"),
        ([matching(path="/a?b=c")], API + ".match.path", '"/a?b=c"', "no query"),
        ([matching(path="/a\nb")], API + ".match.path", '"/a\\nb"', "a path"),
        ([matching(prefix=7)], API + ".match.prefix", "7", "begins with /"),
        ([matching(regex="")], API + ".match.regex", '""', "RE2"),
        ([matching(prefix="/", methods="GET")], API + ".match.methods", '"GET"', "a list"),
        ([matching(prefix="/", methods=["get"])], API + ".match.methods[0]", '"get"', "capitals"),
        ([matching(prefix="/", methods=["PUT", "PUT"])], API + ".match.methods", "PUT", "once"),
        ([matching(prefix="/", language_title="a b")], API + ".match.language_title", '"a b"', "nodejs-invoice"),
        ([matching(prefix="/", language_title="nodejs-")], API + ".match.language_title", "nodejs-", "title"),
        ([matching(prefix="/", headers=[{"exact": "1"}])], API + ".match.headers[0].name", "nothing", "a value"),
        (
            [matching(prefix="/", headers=[{"name": "a b", "exact": "1"}])],
            API + ".match.headers[0].name",
            "a b",
            "HTTP header",
        ),
        ([matching(prefix="/", headers=[{"name": "a"}])], API + ".match.headers[0]", "none", "exactly one of"),
        (
            [matching(prefix="/", headers=[{"name": "a", "present": "yes"}])],
            API + ".match.headers[0].present",
            '"yes"',
            "true or false",
        ),
        (
            [matching(prefix="/", headers=[{"name": "a", "regex": "x", "ignore_case": True}])],
            API + ".match.headers[0].ignore_case",
            "true",
            "(?i)",
        ),
        ([ROUTES[0], ROUTES[0]], "ingress_routes[1].name", '"api"', "ingress_routes[0]"),
        (NARROW_LATER, "ingress_routes[1] (second).match", "/api/x", "ingress_routes[0] (api)"),
    ],
)
def test_a_wrong_route_is_named_with_what_was_found_and_expected(routes, where, found, expected):
    with pytest.raises(PlatformError) as caught:
        configure(routes, UPSTREAMS)
    assert caught.value.where == where
    assert found in caught.value.found
    assert expected in caught.value.expected


def test_envoy_refuses_a_regular_expression_that_re2_does_not_know(judge):
    assert "invalid perl operator" in judge(configure([matching(regex="/(?=x).*")], UPSTREAMS))

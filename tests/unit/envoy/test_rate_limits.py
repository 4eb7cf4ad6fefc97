"""The table of rate limits and the options of callers: what they become, and what is said of wrong ones."""

from __future__ import annotations

import json

import pytest
import yaml
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.configuration import configure

UPSTREAMS = [{"name": "controller", "address": "controller.example", "port": 8080}]
ROUTES = [
    {"name": "health", "match": {"path": "/health"}, "upstream": "controller", "public": True},
    {"name": "execute", "match": {"prefix": "/execute/"}, "upstream": "controller"},
    {"name": "rest", "match": {"prefix": "/"}, "upstream": "controller"},
]
LIMIT = {"name": "runs", "routes": ["execute"], "per": ["user"], "requests": 100, "unit": "minute"}
SERVICE = {"address": "ratelimit.ingress.svc.cluster.local", "port": 8081}
KEY = {  # the P-256 key of RFC 7517, A.1
    "kty": "EC",
    "crv": "P-256",
    "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
    "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
}
JWT = {"issuer": "i", "audiences": ["a"], "jwks": {"keys": [KEY]}}


def made(limits=(LIMIT,), **options):
    return configure(ROUTES, UPSTREAMS, rate_limits=list(limits), **{"rate_limit_service": SERVICE, **options})


def resources(configuration, file):
    return {entry["name"]: entry for entry in yaml.safe_load(configuration.files[file])["resources"]}


def routes(configuration):
    (host,) = resources(configuration, "routes.yaml")["edge"]["virtual_hosts"]
    return {route["name"]: route for route in host["routes"]}


def test_the_service_counts_users_and_the_addresses_of_those_without_one():
    assert yaml.safe_load(made([{**LIMIT, "anonymous_requests": 10}]).rate_limits) == {
        "domain": "edge",
        "descriptors": [
            {
                "key": "rule",
                "value": "runs",
                "descriptors": [
                    {"key": "user", "rate_limit": {"unit": "minute", "requests_per_unit": 100}},
                    {
                        "key": "caller",
                        "value": "anonymous",
                        "descriptors": [
                            {
                                "key": "masked_remote_address",
                                "rate_limit": {"unit": "minute", "requests_per_unit": 10},
                            }
                        ],
                    },
                ],
            }
        ],
    }


def descriptors(actions):
    """The keys of a descriptor, as the service and the local buckets see them."""
    for action in actions:
        ((kind, settings),) = action.items()
        yield settings.get("descriptor_key", kind)


def test_what_envoy_asks_is_what_the_service_and_the_buckets_know():
    limit = {**LIMIT, "per": ["user", "language"], "unit": "hour", "requests": 5}
    configuration = made([limit], replicas=3, rate_limit_exempt_users=["probe"])
    route = routes(configuration)["execute"]
    local = route["typed_per_filter_config"]["envoy.filters.http.local_ratelimit"]
    asked = [list(descriptors(rate_limit["actions"])) for rate_limit in route["route"]["rate_limits"]]
    alone = [list(descriptors(rate_limit["actions"])) for rate_limit in local["rate_limits"]]
    assert alone == [[entry["key"] for entry in bucket["entries"]] for bucket in local["descriptors"]]
    assert alone == [[*keys, "service"] for keys in asked]

    def leaves(nodes, above=()):
        for node in nodes:
            keys = (*above, node["key"])
            if "rate_limit" in node:
                yield list(keys)
            yield from leaves(node.get("descriptors", []), keys)

    assert sorted(leaves(yaml.safe_load(configuration.rate_limits)["descriptors"])) == sorted(asked)
    # Five among three Envoys, rounded up.
    assert {bucket["token_bucket"]["max_tokens"] for bucket in local["descriptors"]} == {2}


def test_a_route_without_limits_has_none():
    configuration = made()
    for name in ("health", "rest"):
        assert "rate_limits" not in routes(configuration)[name]["route"]
        assert "typed_per_filter_config" not in routes(configuration)[name]


def test_a_new_table_of_limits_touches_no_listener():
    assert made().files["listeners.yaml"] == made([{**LIMIT, "requests": 7}]).files["listeners.yaml"]


def test_without_the_service_nobody_is_asked():
    configuration = made(rate_limit_service=None)
    assert "ratelimit" not in resources(configuration, "clusters.yaml")
    assert "envoy.filters.http.ratelimit" not in configuration.files["listeners.yaml"]
    assert "rate_limits" not in routes(configuration)["execute"]["route"]
    assert "envoy.filters.http.local_ratelimit" in routes(configuration)["execute"]["typed_per_filter_config"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rate_limit_service": None},
        {"limits": [{**LIMIT, "per": []}, {**LIMIT, "name": "by-address", "per": ["address", "language"]}]},
        {"rate_limit_exempt_users": ["a b", "c.d-e|f", "é"]},
        {"authentication": "jwt", "jwt": JWT},
        {"authentication": "jwt", "jwt": {"issuer": "i", "audiences": ["a"], "jwks_uri": "https://i.example/keys"}},
        {"authentication": "jwt", "jwt": {"issuer": "i", "audiences": ["a"], "jwks_uri": "http://keys:81/x"}},
        {"http3": True},
    ],
    ids=str,
)
def test_envoy_takes_it(judge, options):
    assert judge(made(**options)) == ""


def test_envoy_takes_keys_of_clients_with_its_word_that_the_filter_is_young(judge):
    said = judge(made(authentication="api_key", api_key_clients=["alice"]))
    lines = [json.loads(line) for line in said.splitlines()]
    assert {line["level"] for line in lines} == {"warning"}
    assert all("work-in-progress" in line["message"] for line in lines)


def test_http_3_is_announced_where_it_is_answered():
    configuration = made(http3=True, https_port=8443)
    listeners = resources(configuration, "listeners.yaml")
    assert listeners["https-udp"]["address"]["socket_address"]["protocol"] == "UDP"
    assert 'h3=":8443"' in configuration.files["routes.yaml"]
    assert "https-udp" not in made().files["listeners.yaml"]


def test_the_keys_of_clients_are_references_and_no_values():
    text = made(authentication="api_key", api_key_clients=["alice"], api_key_secret="keys").api_keys
    credentials = json.loads(text)["resources"][0]["typed_config"]["credentials"]
    taken = ("alice", "_before.alice")  # the key, and the one before it
    assert credentials == [{"key": f"{{value:keys/{key}}}", "client": "alice"} for key in taken]


RUNS = "ingress_rate_limits[0] (runs)"


@pytest.mark.parametrize(
    "limits, where, expected",
    [
        ([{**LIMIT, "routes": ["run"]}], RUNS + ".routes[0]", "health, execute, rest"),
        ([{**LIMIT, "routes": []}], RUNS + ".routes", "at least one"),
        ([{**LIMIT, "per": ["caller"]}], RUNS + ".per[0]", "user, address, language"),
        ([{**LIMIT, "per": ["user", "address"]}], RUNS + ".per", "either user or address"),
        ([{**LIMIT, "requests": 0}], RUNS + ".requests", "from 1"),
        ([{**LIMIT, "unit": "month"}], RUNS + ".unit", "second, minute, hour, day"),
        ([{**LIMIT, "per": [], "anonymous_requests": 1}], RUNS + ".anonymous_requests", "user in per"),
        ([{**LIMIT, "limit": 1}], "ingress_rate_limits[0]", "only the keys"),
        ([LIMIT, LIMIT], "ingress_rate_limits[1].name", "a name of its own"),
        ({"execute": 100}, "ingress_rate_limits", "a list"),
    ],
)
def test_a_wrong_limit_is_named(limits, where, expected):
    with pytest.raises(PlatformError) as caught:
        configure(ROUTES, UPSTREAMS, rate_limits=limits)
    assert caught.value.where == where
    assert expected in caught.value.expected


@pytest.mark.parametrize(
    "options, where",
    [
        ({"trust_user_id": True, "authentication": "jwt", "jwt": JWT}, "ingress_trust_user_id"),
        ({"trust_user_id": "yes"}, "ingress_trust_user_id"),
        ({"authentication": "basic"}, "ingress_authentication"),
        ({"authentication": "jwt"}, "ingress_jwt"),
        ({"authentication": "jwt", "jwt": {"issuer": "i", "audiences": ["a"]}}, "ingress_jwt"),
        ({"authentication": "jwt", "jwt": {**JWT, "audiences": []}}, "ingress_jwt.audiences"),
        ({"authentication": "jwt", "jwt": {**JWT, "jwks": "{"}}, "ingress_jwt.jwks"),
        ({"authentication": "jwt", "jwt": {**JWT, "jwks": None, "jwks_uri": "keys"}}, "ingress_jwt.jwks_uri"),
        ({"authentication": "api_key"}, "ingress_api_key_clients"),
        ({"authentication": "api_key", "api_key_clients": ["a", "a"]}, "ingress_api_key_clients"),
        ({"authentication": "api_key", "api_key_clients": ["a b"]}, "ingress_api_key_clients[0]"),
        ({"rate_limit_service": {"address": "x"}, "rate_limits": [LIMIT]}, "ingress_rate_limit_service.port"),
        ({"replicas": 0}, "ingress_replicas"),
        ({"http3": 1}, "ingress_http3"),
    ],
)
def test_a_wrong_option_is_named(options, where):
    with pytest.raises(PlatformError) as caught:
        configure(ROUTES, UPSTREAMS, **options)
    assert caught.value.where == where

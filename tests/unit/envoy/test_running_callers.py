"""Who calls, and how often: header, token, key and limits at a real Envoy. The rate limit service is away here."""

from __future__ import annotations

import base64
import json
import time

import pytest
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.configuration import configure
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.free_ports import free_port

from .conftest import Edge, serving, stopping

ROUTES = [
    {"name": "health", "match": {"path": "/health"}, "upstream": "controller", "public": True},
    {"name": "initialize", "match": {"path": "/initialize"}, "upstream": "controller"},
    {"name": "execute", "match": {"prefix": "/execute/"}, "upstream": "controller"},
    {"name": "rest", "match": {"prefix": "/"}, "upstream": "controller"},
]
LIMITS = [
    {
        "name": "execute",
        "routes": ["execute"],
        "per": ["user"],
        "requests": 8,
        "anonymous_requests": 4,
        "unit": "hour",
    },
    {
        "name": "initialize",
        "routes": ["initialize"],
        "per": ["user", "language"],
        "requests": 4,
        "anonymous_requests": 2,
        "unit": "hour",
    },
]


def configuration(upstream, **options):
    behind = [{"name": "controller", "address": "127.0.0.1", "port": upstream.port}]
    return configure(ROUTES, behind, **options)


def limited(upstream, **options):
    nobody = {"address": "127.0.0.1", "port": free_port()}
    given = {"rate_limits": LIMITS, "rate_limit_service": nobody, "replicas": 2, "trust_user_id": True, **options}
    return configuration(upstream, **given)


@pytest.fixture(scope="module")
def shared(envoy_binary, tmp_path_factory):
    with serving() as behind, stopping(Edge(envoy_binary, tmp_path_factory.mktemp("edge"))) as running:
        running.start(limited(behind, rate_limit_exempt_users=["probe", "load.1"]))
        running.upstream = behind
        yield running


def statuses(edge, number, path="/execute/1", **headers):
    return [edge.get(path, headers=headers).status for _ in range(number)]


def test_without_the_service_each_user_has_the_limit_divided_by_the_replicas(shared):
    assert statuses(shared, 6, **{"X-User-ID": "alice"}) == [200] * 4 + [429] * 2
    assert statuses(shared, 1, **{"X-User-ID": "bob"}) == [200]


def test_without_a_user_the_address_is_counted(shared):
    assert statuses(shared, 3) == [200, 200, 429]


def test_each_language_is_counted_for_itself_and_what_is_none_once(shared):
    def initialize(language, number):
        return statuses(shared, number, "/initialize", **{"X-User-ID": "carol", "Language-Title": language})

    assert initialize("python-a", 2) + initialize("Python-b", 1) == [200, 200, 429]
    assert initialize("rust-a", 1) == [200]
    assert initialize("cobol-a", 2) + initialize("python", 1) == [200, 200, 429]


def test_health_and_exempt_users_are_not_limited(shared):
    assert statuses(shared, 10, "/health") == [200] * 10
    assert statuses(shared, 10, **{"X-User-ID": "probe"}) == [200] * 10
    assert statuses(shared, 10, **{"X-User-ID": "load.1"}) == [200] * 10
    assert 429 in statuses(shared, 6, **{"X-User-ID": "loadx1"})


def test_the_answer_says_when_to_come_back(shared):
    refused = [shared.get("/execute/1", headers={"X-User-ID": "dave"}) for _ in range(5)][-1]
    assert refused.status == 429
    assert refused.json["error"]["code"] == "RATE_LIMITED"
    # Two tokens an hour is the slowest bucket of the route.
    assert refused.headers["retry-after"] == "1800"
    assert refused.headers["x-ratelimit-limit"].startswith("4")
    assert refused.headers["x-ratelimit-remaining"] == "0"
    assert not [name for name in refused.headers if name.startswith("x-envoy")]


def test_a_request_is_not_held_up_by_the_absent_service(shared):
    shared.get("/execute/1", headers={"X-User-ID": "erin"})
    begin = time.monotonic()
    shared.get("/execute/1", headers={"X-User-ID": "erin"})
    assert time.monotonic() - begin < 0.5


def test_a_user_from_outside_counts_only_where_it_is_trusted(edge, upstream):
    edge.start(limited(upstream, trust_user_id=False))
    assert "x-user-id" not in edge.get("/rest", headers={"X-User-ID": "mallory"}).json["headers"]
    # All are the same anonymous address.
    assert [statuses(edge, 1, **{"X-User-ID": name})[0] for name in ("a", "b", "c")] == [200, 200, 429]


def test_a_trusted_user_reaches_the_controller(shared):
    assert shared.get("/rest", headers={"X-User-ID": "alice"}).json["headers"]["x-user-id"] == "alice"


# ---- API keys ------------------------------------------------------------------------------------------------------


def test_api_keys_say_who_calls_and_go_no_further(edge, upstream):
    edge.place_api_keys({"alice": "key-a", "bob": "key-b"})
    edge.start(configuration(upstream, authentication="api_key", api_key_clients=["alice", "bob"]))
    for headers in ({}, {"X-API-Key": "wrong"}, {"X-User-ID": "alice"}):
        answer = edge.get("/rest", headers=headers)
        assert (answer.status, answer.json["error"]["code"]) == (401, "UNAUTHENTICATED")
    seen = edge.get("/rest", headers={"X-API-Key": "key-b", "X-User-ID": "alice"}).json["headers"]
    assert seen["x-user-id"] == "bob"
    assert "x-api-key" not in seen
    assert edge.get("/health").status == 200


def test_a_new_set_of_api_keys_is_taken_over(edge, upstream):
    edge.place_api_keys({"alice": "key-a"})
    edge.start(configuration(upstream, authentication="api_key", api_key_clients=["alice", "bob"]))
    edge.place_api_keys({"alice": "key-new"})
    edge.wait_until(lambda: edge.get("/rest", headers={"X-API-Key": "key-new"}).status == 200, "the new key is valid")
    assert edge.get("/rest", headers={"X-API-Key": "key-a"}).status == 401


# ---- Tokens --------------------------------------------------------------------------------------------------------


def encoded(content):
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


class Issuer:
    """Signs tokens with ES256 (RFC 7518, 3.4)."""

    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())

    @property
    def jwks(self):
        numbers = self.key.public_key().public_numbers()
        point = {name: encoded(getattr(numbers, name).to_bytes(32, "big")) for name in ("x", "y")}
        return {"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "1", **point}]}

    def token(self, **changes):
        claims = {"iss": "https://issuer.example", "aud": "lambda", "sub": "alice", "exp": int(time.time()) + 60}
        claims = {name: value for name, value in {**claims, **changes}.items() if value is not None}
        text = f"{encoded(json.dumps({'alg': 'ES256', 'kid': '1'}).encode())}.{encoded(json.dumps(claims).encode())}"
        r, s = decode_dss_signature(self.key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{text}.{encoded(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def test_a_token_says_who_calls(edge, upstream):
    issuer, other = Issuer(), Issuer()
    jwt = {"issuer": "https://issuer.example", "audiences": ["lambda"], "jwks": issuer.jwks}
    edge.start(configuration(upstream, authentication="jwt", jwt=jwt))

    def call(token, path="/rest"):
        return edge.get(path, headers={"Authorization": f"Bearer {token}", "X-User-ID": "mallory"})

    answer = call(issuer.token())
    assert (answer.status, answer.json["headers"]["x-user-id"]) == (200, "alice")
    assert "authorization" not in answer.json["headers"]
    assert edge.get("/health").status == 200
    refused = {
        "another key": call(other.token()),
        "expired": call(issuer.token(exp=int(time.time()) - 3600)),
        "never expires": call(issuer.token(exp=None)),
        "another issuer": call(issuer.token(iss="https://other.example")),
        "none": edge.get("/rest", headers={"X-User-ID": "mallory"}),
        "in the query": edge.get(f"/rest?access_token={issuer.token()}"),
    }
    assert {name: answer.status for name, answer in refused.items()} == dict.fromkeys(refused, 401)
    assert refused["none"].json["error"]["code"] == "UNAUTHENTICATED"
    elsewhere = call(issuer.token(aud="other"))
    assert (elsewhere.status, elsewhere.json["error"]["code"]) == (403, "FORBIDDEN")

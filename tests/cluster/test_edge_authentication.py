"""The edge asks for an API key, then for a token, then speaks HTTP/3: the role sets each up, and it back at the end.

EDGE_URL and EDGE_CA_FILE name the edge, INVENTORY the inventory, or they are the local one's. The platform must be
disposable: while this runs, nobody else is served without a proof. HTTP/3 needs a way for UDP to a node of the cluster.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.checks import Passed
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.edge import Answer, Edge
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from . import http3
from .checkout import playbook
from .edge_load import AUTHORITY, URL

pytestmark = pytest.mark.cluster

ISSUER, AUDIENCE = "https://issuer.test", "lambda"


def deploy(variables: dict[str, Any]) -> None:
    """The role ingress with these variables over those of the inventory."""
    code, said = playbook("site.yml", "--tags", "ingress", **variables)
    assert code == 0, said


@pytest.fixture(scope="module")
def deployed(kubeconfig: str) -> Iterator[Callable[[dict[str, Any]], None]]:
    """``deployed(variables)``; at the end the inventory's own state again."""
    before = nobody("GET", "/api/v1/sessions/x").status
    yield deploy
    # The role keeps the keys of clients that there are no more; an inventory that has clients gets its own anew.
    command = ["kubectl", "--kubeconfig", kubeconfig, "-n", "ingress", "delete", "secret", "ingress-api-keys"]
    subprocess.run([*command, "--ignore-not-found"], check=True, capture_output=True, timeout=60)
    deploy({})
    wait_until_all(lambda: nobody("GET", "/api/v1/sessions/x").status == before)


@pytest.fixture
def kubectl(kubeconfig: str) -> Callable[..., Any]:
    def run(*arguments: str) -> Any:
        command = ["kubectl", "--kubeconfig", kubeconfig, "--namespace", "ingress", *arguments, "-o", "json"]
        return json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)

    return run


def caller(headers: dict[str, str]) -> Callable[..., Answer]:
    """``call(method, path, body)`` with these headers."""
    edge = Edge(URL, ca_file=AUTHORITY)
    return lambda method, path, body=None, more=None: edge.call(method, path, body, {**headers, **(more or {})})


nobody = caller({})


def wait_until_all(holds: Callable[[], bool]) -> None:
    """A changed file reaches each Envoy in its own time: many calls in a row, each over a new connection, meet all."""
    ends = time.monotonic() + 120
    in_a_row = 0
    while in_a_row < 16:
        assert time.monotonic() < ends, "not every Envoy has the new configuration"
        in_a_row = in_a_row + 1 if holds() else 0
        time.sleep(0.25)


def wait_until_all_ask(proof: Callable[..., Answer]) -> None:
    path = "/api/v1/sessions/x"
    wait_until_all(lambda: nobody("GET", path).status == 401 and proof("GET", path).status != 401)


def assert_refused(answer: Answer) -> None:
    assert answer.status == 401, answer.spoken()
    assert answer.code() == "UNAUTHENTICATED" and answer.message()


def assert_the_proof_says_who_it_is(one: Callable[..., Answer], other: Callable[..., Answer], others_name: str) -> None:
    """``one`` cannot become ``other`` by a header: the session is its own, whatever X-User-ID said."""
    begin = {"script_content": "def handle(params, context):\n    return 7"}
    made = one("POST", "/api/v1/initialize", begin, {"Language-Title": "python-who", "X-User-ID": others_name})
    assert made.status == 200, made.spoken()
    session = made.json()["request_id"]
    mine = one("POST", f"/api/v1/execute/{session}", {"params": {}}, {"X-User-ID": others_name})
    assert (mine.status, mine.json()["result"]) == (200, 7), mine.spoken()
    assert other("POST", f"/api/v1/execute/{session}", {"params": {}}).status in (403, 404)
    assert other("GET", f"/api/v1/sessions/{session}").status in (403, 404)


def test_an_api_key_says_who_calls(deployed: Callable[[dict[str, Any]], None], kubectl: Callable[..., Any]) -> None:
    clients = ["alpha", "beta"]
    off = {"ingress_trust_user_id": False}
    deployed({**off, "ingress_authentication": "api_key", "ingress_api_key_clients": clients})
    data = kubectl("get", "secret", "ingress-api-keys")["data"]
    alpha, beta = (base64.b64decode(data[client]).decode() for client in clients)
    with_alpha, with_beta = caller({"X-API-Key": alpha}), caller({"X-API-Key": beta})
    wait_until_all_ask(with_alpha)

    assert_refused(nobody("POST", "/api/v1/initialize", {"script_content": "return 1"}))
    assert_refused(caller({"X-API-Key": alpha[:-1]})("GET", "/api/v1/sessions/x"))
    assert_refused(caller({"X-User-ID": "alpha"})("GET", "/api/v1/sessions/x"))
    assert nobody("GET", "/health").status == 200
    assert_the_proof_says_who_it_is(with_alpha, with_beta, "beta")
    # The keys are nowhere in the configuration.
    configuration = kubectl("get", "configmap", "envoy-configuration")["data"]
    assert alpha not in str(configuration) and beta not in str(configuration)

    edge = Edge(URL, ca_file=AUTHORITY, api_key=alpha)
    assert isinstance(edge.callers(), Passed)
    assert isinstance(edge.language("python"), Passed)


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    """Signs tokens (RFC 7519, RS256); ``jwks`` is what the edge knows of it (RFC 7517)."""

    def __init__(self, name: str) -> None:
        self.key = rsa.generate_private_key(65537, 2048)
        self.name = name
        numbers = self.key.public_key().public_numbers()
        n, e = (base64url(value.to_bytes((value.bit_length() + 7) // 8, "big")) for value in (numbers.n, numbers.e))
        self.jwks = {"keys": [{"kty": "RSA", "alg": "RS256", "use": "sig", "kid": name, "n": n, "e": e}]}

    def token(self, **claims: Any) -> str:
        now = int(time.time())
        body = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alpha", "iat": now, "exp": now + 600, **claims}
        parts = [{"alg": "RS256", "kid": self.name}, {name: value for name, value in body.items() if value is not None}]
        signed = ".".join(base64url(json.dumps(part).encode()) for part in parts)
        return f"{signed}.{base64url(self.key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def bearer(token: str) -> Callable[..., Answer]:
    return caller({"Authorization": f"Bearer {token}"})


def test_a_token_says_who_calls(deployed: Callable[[dict[str, Any]], None]) -> None:
    issuer, stranger = Issuer("first"), Issuer("first")
    jwt = {"issuer": ISSUER, "audiences": [AUDIENCE], "jwks": issuer.jwks}
    deployed({"ingress_trust_user_id": False, "ingress_authentication": "jwt", "ingress_jwt": jwt})
    alpha, beta = bearer(issuer.token()), bearer(issuer.token(sub="beta"))
    wait_until_all_ask(alpha)

    assert_refused(nobody("POST", "/api/v1/initialize", {"script_content": "return 1"}))
    wrong = {
        "signed by another": stranger.token(),
        "expired": issuer.token(iat=int(time.time()) - 7200, exp=int(time.time()) - 3600),
        "without an end": issuer.token(exp=None),
        "for another audience": issuer.token(aud="another"),
        "of another issuer": issuer.token(iss="https://another.test"),
        "not yet": issuer.token(nbf=int(time.time()) + 3600),
        "no token": secrets.token_hex(16),
    }
    for what, token in wrong.items():
        # A good token for somebody else proves who calls: it is another answer than none.
        expected = (403, "FORBIDDEN") if what == "for another audience" else (401, "UNAUTHENTICATED")
        answer = bearer(token)("GET", "/api/v1/sessions/x")
        assert (answer.status, answer.code()) == expected, (what, answer.spoken())
    assert nobody("GET", "/health").status == 200
    assert_the_proof_says_who_it_is(alpha, beta, "beta")

    edge = Edge(URL, ca_file=AUTHORITY, token=issuer.token())
    assert isinstance(edge.callers(), Passed)
    assert isinstance(edge.language("python"), Passed)


def test_http_3_is_announced_and_answers_on_udp(
    deployed: Callable[[dict[str, Any]], None], kubectl: Callable[..., Any]
) -> None:
    deployed({"ingress_http3": True})
    ends = time.monotonic() + 120
    while True:
        answer = nobody("GET", "/health")
        if "alt-svc" in answer.headers:
            break
        assert time.monotonic() < ends, "no Alt-Svc"
        time.sleep(1)
    assert answer.headers["alt-svc"].startswith('h3=":')

    ports = kubectl("get", "service", "envoy")["spec"]["ports"]
    port = next(port["nodePort"] for port in ports if port["protocol"] == "UDP")
    nodes = kubectl("get", "nodes")["items"]
    addresses = {each["type"]: each["address"] for each in nodes[0]["status"]["addresses"]}
    host = urlsplit(URL).hostname or ""
    udp = os.environ.get("EDGE_UDP_ADDRESS", addresses["InternalIP"])
    assert http3.get(udp, port, host, AUTHORITY, "/health")[":status"] == "200"
    assert http3.get(udp, port, host, AUTHORITY, "/nowhere")[":status"] == "404"

"""The edge from inside its pods, and the examples as a reader pastes them."""

from __future__ import annotations

import base64
import datetime
import http.client
import json
import secrets
import socket
import ssl
import subprocess
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from .pods import ROOT, app_host, containers, kubectl, seen_in

pytestmark = pytest.mark.cluster


def listeners(app: str) -> dict[int, set[str]]:
    """Port -> addresses (hexadecimal, as in /proc/net/tcp) that the app's containers listen on."""
    found: dict[int, set[str]] = {}
    for namespace, name, pod, container in containers():
        if name == app:
            for entry in seen_in(namespace, pod, container)["listens"]:
                address, port = entry.rsplit(":", 1)
                found.setdefault(int(port, 16), set()).add(address)
    return found


def test_envoys_administration_listens_on_the_loopback_address_alone():
    open_ports = listeners("envoy")
    assert set(open_ports) == {8443, 8080, 9090, 9901}
    assert open_ports[9901] == {"0100007F"}


def test_the_rate_limit_service_offers_others_its_answers_and_its_metrics_alone():
    open_ports = listeners("ratelimit")
    assert set(open_ports) == {8081, 9090, 8080, 6070}
    assert open_ports[8080] == open_ports[6070] == {"0100007F"}


@pytest.mark.parametrize("app", ["nodejs-runtime", "python-runtime", "rust-runtime"])
def test_a_service_listens_on_its_two_ports_alone(app):
    assert set(listeners(app)) == {8080, 9090}


def test_envoy_finds_every_replica_of_the_controller():
    addresses = app_host("ingress", "envoy").check_output(
        "getent ahostsv4 controller-headless.controller.svc.cluster.local"
    )
    replicas = {pod for _namespace, app, pod, _container in containers() if app == "controller"}
    assert len({line.split()[0] for line in addresses.splitlines()}) == len(replicas) >= 2


@pytest.mark.parametrize(
    ("example", "result"),
    [("nodejs", "Hello, Node.js!"), ("python", 169), ("rust", 6)],
    ids=["nodejs", "python", "rust"],
)
def test_an_example_works_as_it_is_pasted(example, result, edge):
    url, authority = edge
    text = (ROOT / "docs" / "examples" / f"{example}.sh").read_text()
    assert "https://localhost:8443" in text
    text = text.replace("https://localhost:8443", url).replace(".local/ca.crt", str(authority))
    ran = subprocess.run(["bash", "-eu", "-c", text], capture_output=True, text=True, cwd=ROOT, timeout=90, check=False)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["result"] == result


# ---- Limits --------------------------------------------------------------------------------------------------------

LIMIT, ANONYMOUS_LIMIT = 100, 10
"""Executions in a minute of a user, and of an address without one: the defaults of ingress_rate_limits."""
CONNECTIONS = 6
"""Enough that each of a few Envoys has some; each is a handshake, which costs more than a request."""
NOBODYS = "/api/v1/execute/00000000-0000-4000-8000-000000000000"
"""A session that does not exist: limits count before the controller says so, and no script is needed."""


@pytest.fixture
def send(edge):
    """``send(user, number)``: so many requests over a few new connections; their statuses, headers and texts."""
    url, authority = edge
    trust = ssl.create_default_context(cafile=str(authority))
    address = urlsplit(url)

    def over_one_connection(user, number):
        headers = {"Content-Type": "application/json", **({"X-User-ID": user} if user else {})}
        connection = http.client.HTTPSConnection(address.hostname, address.port, context=trust, timeout=40)
        answers = []
        for _ in range(number):
            connection.request("POST", NOBODYS, "{}", headers)
            answer = connection.getresponse()
            text = answer.read().decode()
            answers.append((answer.status, {name.lower(): value for name, value in answer.getheaders()}, text))
        connection.close()
        return answers

    def over_several(user, number):
        shares = [number // CONNECTIONS + (index < number % CONNECTIONS) for index in range(CONNECTIONS)]
        with ThreadPoolExecutor(CONNECTIONS) as callers:
            return [one for some in callers.map(lambda share: over_one_connection(user, share), shares) for one in some]

    return over_several


def begin_of_a_minute():
    """Limits count in minutes of the clock; one that is about to end would give a second helping."""
    if time.time() % 60 > 5:
        time.sleep(60.5 - time.time() % 60)
    return time.time() // 60


def test_a_users_limit_is_exact_over_all_envoys(send):
    user = f"limits-{secrets.token_hex(4)}"
    minute = begin_of_a_minute()
    answers = send(user, LIMIT + 15)
    assert time.time() // 60 == minute, "the machine is too slow for this test"
    refused = [answer for answer in answers if answer[0] == 429]
    assert len(refused) == 15, Counter(status for status, _headers, _text in answers)

    _status, headers, text = refused[0]
    error = json.loads(text)["error"]
    assert error["code"] == "RATE_LIMITED" and error["message"]
    assert 1 <= int(headers["retry-after"]) <= 60
    assert headers["x-ratelimit-limit"].startswith(str(LIMIT))
    assert headers["x-ratelimit-remaining"] == "0"
    # Others are not touched by it.
    assert send(f"{user}-other", 1)[0][0] != 429


def test_without_the_service_requests_are_served_and_limited_all_the_same(send):
    replicas = int(kubectl("-n", "ingress", "get", "deployment", "ratelimit", "-o", "jsonpath={.spec.replicas}"))
    kubectl("-n", "ingress", "scale", "deployment", "ratelimit", "--replicas=0")
    try:
        kubectl(
            "-n", "ingress", "wait", "pod", "-l", "app.kubernetes.io/name=ratelimit", "--for=delete", "--timeout=50s"
        )
        began = time.monotonic()
        answers = Counter(status for status, _headers, _text in send("", 5 * ANONYMOUS_LIMIT))
        took = time.monotonic() - began
    finally:
        kubectl("-n", "ingress", "scale", "deployment", "ratelimit", f"--replicas={replicas}")
        kubectl("-n", "ingress", "rollout", "status", "deployment", "ratelimit", "--timeout=50s")
    served = answers.total() - answers[429]
    # Each Envoy has its share, and a bucket fills again meanwhile; all connections may have led to one of them.
    assert 1 <= served <= ANONYMOUS_LIMIT + 1 + took * ANONYMOUS_LIMIT / 60, answers


# ---- The certificate -----------------------------------------------------------------------------------------------


def secret(name):
    found = json.loads(kubectl("-n", "ingress", "get", "secret", name, "-o", "json"))
    return {key: base64.b64decode(value) for key, value in found["data"].items()}


def renewed(certificate, authority):
    """A certificate that says the same with a new key and serial number, signed by the authority."""
    old = x509.load_pem_x509_certificate(certificate["tls.crt"])
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(
        issuer_name=old.issuer,
        subject_name=old.subject,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - datetime.timedelta(minutes=5),
        not_valid_after=old.not_valid_after_utc,
    )
    for extension in old.extensions:
        value = extension.value
        if isinstance(value, x509.SubjectKeyIdentifier):
            value = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = builder.add_extension(value, extension.critical)
    signer = serialization.load_pem_private_key(authority["tls.key"], None)
    made = builder.sign(signer, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made.serial_number, {"tls.crt": made.public_bytes(serialization.Encoding.PEM), "tls.key": private}


def test_a_certificate_rotated_in_its_secret_is_served_within_a_minute_and_no_connection_notices(edge):
    url, authority_file = edge
    address = urlsplit(url)
    trust = ssl.create_default_context(cafile=str(authority_file))

    def served():
        with (
            socket.create_connection((address.hostname, address.port), timeout=10) as raw,
            trust.wrap_socket(raw, server_hostname=address.hostname) as connection,
        ):
            return int(connection.getpeercert()["serialNumber"], 16)

    held = http.client.HTTPSConnection(address.hostname, address.port, context=trust, timeout=40)
    held.request("GET", "/health")
    assert held.getresponse().read() is not None
    connection = held.sock

    serial, data = renewed(secret("envoy-tls"), secret("envoy-tls-authority"))
    encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
    patch = subprocess.run(
        ["kubectl", "-n", "ingress", "patch", "secret", "envoy-tls", "--patch-file=/dev/stdin"],
        input=json.dumps({"data": encoded}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert patch.returncode == 0, patch.stderr
    began = time.monotonic()
    in_a_row = 0
    # A handshake meets any of the Envoys: many in a row have met each.
    while in_a_row < 12:
        assert time.monotonic() - began < 60, f"{in_a_row} of 12 handshakes in a row have the new certificate"
        in_a_row = in_a_row + 1 if served() == serial else 0
        time.sleep(0.25)

    held.request("GET", "/health")
    assert held.getresponse().read() is not None
    assert held.sock is connection
    held.close()

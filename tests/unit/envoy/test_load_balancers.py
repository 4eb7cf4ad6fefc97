"""An edge behind a load balancer: whose address a request has, and how the balancer learns that an Envoy is leaving."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import struct
import time

import pytest
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.bootstrap import ADMIN_PORT
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.configuration import configure
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.listeners import (
    HEALTH_PATH,
    HTTP_PORT,
    HTTPS_PORT,
)

from .conftest import ROUTES, UPSTREAMS

CLIENT = "203.0.113.7"


def proxy_header(client: str) -> bytes:
    """Version 2 for TCP over IPv4, as an NLB sends it. https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt"""
    addresses = ipaddress.ip_address(client).packed + ipaddress.ip_address("192.0.2.1").packed
    body = addresses + struct.pack("!HH", 50000, 443)
    return b"\r\n\r\n\x00\r\nQUIT\n" + bytes([0x21, 0x11]) + struct.pack("!H", len(body)) + body


def ask(edge, port: int, path: str, before: bytes = b"", address: str = "127.0.0.1") -> str:
    """The answer's text; empty where the connection is closed instead."""
    with socket.create_connection((address, edge.ports[port]), timeout=20) as plain:
        plain.sendall(before)
        connection = plain
        try:
            if port == HTTPS_PORT:
                context = ssl.create_default_context(cafile=str(edge.root / "certificate" / "tls.crt"))
                connection = context.wrap_socket(plain, server_hostname="localhost")
            connection.sendall(f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
            text = b""
            while part := connection.recv(65536):
                text += part
        except OSError:
            return ""
        return text.decode()


@pytest.fixture
def behind(edge, upstream):
    def start(**options):
        controller = [{"name": "controller", "address": "127.0.0.1", "port": upstream.port}]
        edge.start(configure(ROUTES, controller, **options))
        return edge

    return start


def test_the_balancers_word_on_the_address_is_taken_and_nobody_comes_without_it(behind):
    edge = behind(proxy_protocol=True)
    answer = ask(edge, HTTPS_PORT, "/api/v1/x", proxy_header(CLIENT))
    assert answer.startswith("HTTP/1.1 200") and f'"x-forwarded-for": "{CLIENT}"' in answer
    assert ask(edge, HTTP_PORT, "/x", proxy_header(CLIENT)).startswith("HTTP/1.1 308")
    assert ask(edge, HTTPS_PORT, "/api/v1/x") == ""
    assert ask(edge, HTTP_PORT, "/x") == ""


def test_an_address_that_a_client_makes_up_is_none(behind):
    edge = behind()
    assert ask(edge, HTTPS_PORT, "/api/v1/x", proxy_header(CLIENT)) == ""


@pytest.mark.parametrize("header", [b"", proxy_header(CLIENT)])
def test_health_fails_first_while_requests_are_still_answered(behind, header):
    edge = behind(proxy_protocol=bool(header))
    assert ask(edge, HTTP_PORT, HEALTH_PATH, header).startswith("HTTP/1.1 200")
    assert edge.get("/healthcheck/fail", method="POST", port=ADMIN_PORT).status == 200
    end = time.monotonic() + 10
    while not ask(edge, HTTP_PORT, HEALTH_PATH, header).startswith("HTTP/1.1 503"):
        assert time.monotonic() < end, ask(edge, HTTP_PORT, HEALTH_PATH, header)
    assert ask(edge, HTTPS_PORT, "/api/v1/x", header).startswith("HTTP/1.1 200")


def test_envoy_accepts_it(judge):
    assert judge(configure(ROUTES, UPSTREAMS, proxy_protocol=True, http3=False)) == ""


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this kernel has no IPv6")
def test_both_families_are_served_and_clients_have_their_own_addresses(behind):
    edge = behind()
    for address in ("127.0.0.1", "::1"):
        text = ask(edge, HTTPS_PORT, "/api/v1/x", address=address)
        # Not ::ffff:127.0.0.1: a limit by address would take all of IPv4 for one /64.
        assert f'"x-envoy-external-address": "{address}"' in text
        assert "200" in ask(edge, HTTP_PORT, HEALTH_PATH, address=address).partition("\r\n")[0]

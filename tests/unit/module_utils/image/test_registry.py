"""What a registry has: asked through the real docker, whose word for many troubles is "no such manifest"."""

from __future__ import annotations

import http.server
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.image import image
from ansible_collections.lambda_microservice.platform.plugins.module_utils.programs import Programs


class Registry(http.server.ThreadingHTTPServer):
    """Answers every question for a manifest with this status, headers and body."""

    daemon_threads = True
    answer: tuple[int, dict[str, str], bytes] = (200, {}, b"")

    def refuses(self, status: int, code: str = "", body: str | None = None, **headers: str) -> None:
        text = json.dumps({"errors": [{"code": code, "message": "said the registry"}]}) if body is None else body
        self.answer = (status, {"Content-Type": "application/json", **headers}, text.encode())


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Registry

    def _answer(self) -> None:
        status, headers, body = (200, {}, b"{}") if self.path == "/v2/" else self.server.answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = _answer

    def log_message(self, *arguments: Any) -> None:
        pass


def _serving(address: str) -> Registry:
    return Registry((address, 0), _Handler)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A registry with TLS, at an address that is loopback and not taken for the one of this machine."""
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "1", "-subj", "/CN=registry", "-addext", "subjectAltName=IP:127.0.0.2"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    server = _serving("127.0.0.2")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.2")
    yield from _running(server)


@pytest.fixture
def local_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """One of this machine, without TLS, while a proxy is set that nobody answers at."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    yield from _running(_serving("127.0.0.1"))


def _running(server: Registry) -> Iterator[Registry]:
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def asked(server: Registry) -> str | None:
    host, port = server.server_address[:2]
    return image.registry_digest(Programs(), f"{host!s}:{port}/lambda/edge", "1")


@pytest.mark.parametrize("code", ["MANIFEST_UNKNOWN", "NAME_UNKNOWN"])
def test_an_image_that_the_registry_does_not_have_is_not_pushed(registry: Registry, code: str) -> None:
    registry.refuses(404, code)
    assert asked(registry) is None
    registry.refuses(404, body="<html>not found</html>")
    assert asked(registry) is None


@pytest.mark.parametrize(
    "status, code, found",
    [
        (401, "UNAUTHORIZED", "unauthorized: said the registry"),
        (403, "DENIED", "denied: said the registry"),
        (429, "TOOMANYREQUESTS", "toomanyrequests"),
        (500, "UNKNOWN", "500 Internal Server Error"),
    ],
)
def test_that_it_refuses_to_say_is_an_error_with_its_text(
    registry: Registry, status: int, code: str, found: str
) -> None:
    registry.refuses(status, code)
    with pytest.raises(PlatformError) as caught:
        asked(registry)
    assert found in caught.value.found and "level=debug" not in caught.value.found
    assert "docker login 127.0.0.2" in caught.value.fix


def test_an_answer_of_something_else_is_an_error(registry: Registry) -> None:
    registry.refuses(502, body="<html>bad gateway</html>")
    with pytest.raises(PlatformError, match="502"):
        asked(registry)


def test_a_registry_without_tls_that_docker_does_not_ask_is_an_error() -> None:
    for server in _running(_serving("127.0.0.2")):
        with pytest.raises(PlatformError, match="TLS handshake"):
            asked(server)


def test_a_registry_that_nobody_answers_at_is_an_error(registry: Registry) -> None:
    registry.shutdown()
    registry.socket.close()
    with pytest.raises(PlatformError, match="connection refused"):
        asked(registry)


def test_the_registry_of_this_machine_is_asked_without_a_proxy(local_registry: Registry) -> None:
    local_registry.answer = (200, {"Docker-Content-Digest": "sha256:1"}, b"")
    assert asked(local_registry) == "sha256:1"
    local_registry.refuses(404)
    assert asked(local_registry) is None


def test_an_answer_without_a_digest_is_no_answer(local_registry: Registry) -> None:
    local_registry.answer = (200, {}, b"")
    with pytest.raises(PlatformError, match="without Docker-Content-Digest"):
        asked(local_registry)
    local_registry.refuses(500)
    with pytest.raises(PlatformError, match="refused to say what it has"):
        asked(local_registry)

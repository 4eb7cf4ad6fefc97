"""A server that answers what a test says, over real connections. What it is asked has to be as openapi.yaml says."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.unit.clients import contract


@dataclass
class Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    operation: str

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Reply:
    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    """Instead of body, as it is."""
    wait_seconds: float = 0.0
    broken: bool = False
    """The connection ends without an answer."""


def refusal(status: int, code: str, message: str = "so it is", **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, {"error": {"code": code, "message": message}}, named)


class Edge:
    """``replies`` are given one after the other, or what ``answer`` makes of a request."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.answer: Callable[[Request], Reply] | None = None
        self.requests: list[Request] = []
        self.faults: list[str] = []
        self.url = ""

    def reply(self, request: Request) -> Reply:
        if self.answer:
            return self.answer(request)
        return self.replies.pop(0) if self.replies else refusal(404, "NOT_FOUND")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _handle(self) -> None:
        edge = self.server.edge
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        headers = {name.lower(): value for name, value in self.headers.items()}
        operation = contract.operation(self.command, self.path)
        request = Request(self.command, self.path, headers, body, operation.id if operation else "")
        edge.requests.append(request)
        edge.faults += operation.faults(self.path, headers, body) if operation else [f"no such path: {self.path}"]
        reply = edge.reply(request)
        time.sleep(reply.wait_seconds)
        if reply.broken:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        content = reply.raw if reply.raw is not None else json.dumps(reply.body).encode()
        if operation and reply.raw is None and reply.status != 401:  # the edge alone says that
            edge.faults += operation.answer_faults(reply.status, reply.body)
        self.send_response(reply.status)
        for name, value in {"content-type": "application/json", **reply.headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_DELETE = _handle

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing is said."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    edge: Edge

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is what some tests are about."""


@contextmanager
def running(certificate: Path | None = None) -> Iterator[Edge]:
    """Over TLS with a certificate and its key in one file. It fails where a request or an answer was not as
    openapi.yaml says."""
    edge = Edge()
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.edge = edge
        edge.url = f"http://127.0.0.1:{server.server_address[1]}"
        if certificate:
            trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            trust.load_cert_chain(certificate)
            server.socket = trust.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
            edge.url = f"https://localhost:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield edge
        finally:
            server.shutdown()
            thread.join()
    assert edge.faults == []

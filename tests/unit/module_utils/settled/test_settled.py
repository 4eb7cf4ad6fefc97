"""Servers are asked themselves, in real handshakes; the way through the API server is the cluster tests'."""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.exec import Ran
from ansible_collections.lambda_microservice.platform.plugins.module_utils.secret import certificate as certificates
from ansible_collections.lambda_microservice.platform.plugins.module_utils.settled import settled
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.certificates import (
    certificates_served,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.checks import Doubtful, Passed

from ..stand_in import stands_in_for

CA = certificates.issue(certificates.Wanted("CA", is_ca=True), None)
OLD, NEW = (certificates.issue(certificates.Wanted("server", ("server",)), CA) for dummy in range(2))


class Server:
    """A server with TLS, of PostgreSQL's kind or another, which may want a client's certificate."""

    def __init__(self, folder: Path, pair: certificates.Pair, protocol: str, wants: bool = False) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "crt").write_bytes(pair.certificate)
        (folder / "key").write_bytes(pair.key)
        (folder / "ca").write_bytes(CA.certificate)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(folder / "crt", folder / "key")
        if wants:
            self.context.load_verify_locations(folder / "ca")
            self.context.verify_mode = ssl.CERT_REQUIRED
        self.protocol = protocol
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _address = self.listener.accept()
            with contextlib.suppress(OSError), connection:
                if self.protocol == "postgresql":
                    asked = connection.recv(8)
                    connection.sendall(b"S" if asked == bytes.fromhex("0000000804d2162f") else b"E")
                self.context.wrap_socket(connection, server_side=True).close()

    def connect(self) -> socket.socket:
        return socket.create_connection(self.listener.getsockname(), timeout=5)


@pytest.mark.parametrize("protocol", ["tls", "postgresql"])
@pytest.mark.parametrize("wants", [False, True], ids=["anybody", "members"])
def test_a_server_says_which_certificate_it_serves(tmp_path: Path, protocol: str, wants: bool) -> None:
    server = Server(tmp_path / "server", NEW, protocol, wants)
    with server.connect() as connection:
        served = settled.handshake(connection, protocol)
    assert served == ssl.PEM_cert_to_DER_cert(NEW.certificate.decode())


def test_a_server_without_tls_is_told() -> None:
    here, there = socket.socketpair()
    with here, there:
        there.sendall(b"N")
        with pytest.raises(ssl.SSLError, match="no TLS"):
            settled.handshake(here, "postgresql")


@stands_in_for(Cluster, beside=["pods", "secret"])
class FakeCluster:
    """Pods that are ready or not, and one Secret."""

    def __init__(self, pods: dict[str, bool], secret: bytes = NEW.certificate) -> None:
        self.pods, self.secret = pods, secret

    def list(
        self, api_version: str, kind: str, namespace: str | None = None, label_selector: str | None = None
    ) -> list[Any]:
        return [
            {"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": str(ready)}]}}
            for name, ready in self.pods.items()
        ]

    def get(self, ref: dict[str, Any]) -> dict[str, Any] | None:
        return {"data": {"tls.crt": base64.b64encode(self.secret).decode()}} if self.secret else None


SERVED = {"secret": "redis-tls", "namespace": "data-services", "app": "redis", "port": 6379, "protocol": "tls"}


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    by_pod: dict[str, bytes] = {}

    def certificate_of(cluster: Any, namespace: str, pod: str, port: int, protocol: str) -> bytes:
        if pod not in by_pod:
            raise PlatformError("a pod does not answer", reason="unreachable")
        return ssl.PEM_cert_to_DER_cert(by_pod[pod].decode())

    monkeypatch.setattr(settled, "certificate_of", certificate_of)
    yield by_pod


def test_it_waits_for_every_ready_pod(serving: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster({"redis-0": True, "redis-1": True, "redis-2": False})
    serving.update({"redis-0": NEW.certificate, "redis-1": OLD.certificate})
    assert settled.unsettled(cluster, [SERVED], []) == [
        "Pod data-services/redis-1 (port 6379 serves another certificate)"
    ]
    del serving["redis-1"]
    assert settled.unsettled(cluster, [SERVED], []) == ["Pod data-services/redis-1 (a pod does not answer)"]
    params = {"certificates": [SERVED], "commands": [], "timeout_seconds": 0}
    with pytest.raises(PlatformError, match="servers do not have what their Secrets hold"):
        settled.run(params, connect=lambda auth: cluster)
    serving["redis-1"] = NEW.certificate
    assert settled.run(params, connect=lambda auth: cluster)["waited_for"] == ["data-services/redis"]


def test_a_command_has_to_succeed(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = {"redis-0": 0, "redis-1": 1}
    monkeypatch.setattr(
        settled, "run_in_pod", lambda cluster, namespace, pod, command, container: Ran(codes[pod], "", "")
    )
    entry = {
        "namespace": "data-services",
        "app": "redis",
        "container": None,
        "command": ["sh", "/scripts/probe", "knows", "x"],
    }
    found = settled.unsettled(FakeCluster(dict.fromkeys(codes, True)), [], [entry])
    assert found == ["Pod data-services/redis-1 (sh /scripts/probe knows says not yet)"]


def test_a_secret_without_a_certificate_is_named() -> None:
    with pytest.raises(PlatformError, match="a certificate is missing") as raised:
        settled.held(FakeCluster({}, secret=b""), SERVED)
    assert "data-services/redis-tls" in str(raised.value)


def test_verify_says_when_each_ends_and_warns_before(serving: dict[str, bytes]) -> None:
    cluster = FakeCluster({"redis-0": True})
    serving["redis-0"] = NEW.certificate
    end = certificates.described(NEW.certificate)[1]
    found = certificates_served(cluster, [SERVED], 14, 0)
    assert found == Passed(f"they end: redis-tls {end:%Y-%m-%d}")
    late = certificates_served(cluster, [SERVED], 14, 0, now=end - timedelta(days=13))
    assert isinstance(late, Doubtful) and "CronJob certificates" in late.warning
    serving["redis-0"] = OLD.certificate
    with pytest.raises(PlatformError, match="do not serve the certificates"):
        certificates_served(cluster, [SERVED], 14, 0, now=datetime.now(UTC))

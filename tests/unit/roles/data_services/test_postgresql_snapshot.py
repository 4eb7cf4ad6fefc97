"""The program of the CronJob postgresql-snapshot against a small API server with TLS."""

from __future__ import annotations

import datetime
import http.server
import importlib.machinery
import importlib.util
import json
import re
import ssl
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.secret import certificate as certificates

ROOT = Path(__file__).resolve().parents[4]
PROGRAM = ROOT / "roles/data_services/files/charts/postgresql/files/snapshot/snapshot"
LABELS = {"app.kubernetes.io/name": "postgresql-snapshot", "app.kubernetes.io/part-of": "lambda-microservice-platform"}
COLLECTION = "/apis/snapshot.storage.k8s.io/v1/namespaces/data-services/volumesnapshots"


class Api(http.server.ThreadingHTTPServer):
    """What the API server and a snapshot controller do. ``ready_after`` looks at a snapshot it can be used."""

    def __init__(self, certificate: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.snapshots: dict[str, dict] = {}
        self.leader: str | None = "postgresql-1"
        self.ready_after, self.error, self.known = 2, "", True

    def put(self, name: str, days: float, labels: dict[str, str]) -> None:
        made = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days)
        metadata = {"name": name, "labels": labels, "creationTimestamp": f"{made:%Y-%m-%dT%H:%M:%SZ}"}
        self.snapshots[name] = {"metadata": metadata, "status": {"readyToUse": True}}


class Handler(http.server.BaseHTTPRequestHandler):
    server: Api

    def answer(self, status: int, body: dict) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *arguments: object) -> None:
        """Silent."""

    def allowed(self) -> bool:
        if self.headers["Authorization"] == "Bearer the-token":
            return True
        self.answer(401, {"message": "Unauthorized"})
        return False

    def do_GET(self) -> None:
        if not self.allowed():
            return
        url = urllib.parse.urlsplit(self.path)
        if url.path == "/api/v1/namespaces/data-services/endpoints/postgresql-primary":
            annotations = {"leader": self.server.leader} if self.server.leader else None
            self.answer(200, {"metadata": {"annotations": annotations}})
        elif url.path == COLLECTION:
            [selector] = urllib.parse.parse_qs(url.query)["labelSelector"]
            wanted = dict(pair.split("=") for pair in selector.split(","))
            found = [it for it in self.server.snapshots.values() if wanted.items() <= it["metadata"]["labels"].items()]
            self.answer(200, {"items": found})
        else:
            snapshot = self.server.snapshots[url.path.rpartition("/")[2]]
            self.server.ready_after -= 1
            if self.server.error:
                snapshot["status"] = {"readyToUse": False, "error": {"message": self.server.error}}
            elif self.server.ready_after < 0:
                snapshot["status"] = {"readyToUse": True, "restoreSize": "1Gi"}
            self.answer(200, snapshot)

    def do_POST(self) -> None:
        if not self.allowed():
            return
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.server.known:
            self.send_error(404, "page not found")
        elif body["spec"]["volumeSnapshotClassName"] == "refused":
            self.answer(403, {"message": "exceeded quota: snapshots"})
        else:
            self.server.put(body["metadata"]["name"], 0, body["metadata"]["labels"])
            self.server.snapshots[body["metadata"]["name"]].update(spec=body["spec"], status=None)
            self.answer(201, body)

    def do_DELETE(self) -> None:
        del self.server.snapshots[self.path.rpartition("/")[2]]
        self.answer(200, {})


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    made = certificates.issue(certificates.Wanted("api", ip_addresses=("127.0.0.1",)), None)
    (tmp_path / "server.pem").write_bytes(made.key + made.certificate)
    (tmp_path / "ca.crt").write_bytes(made.certificate)
    (tmp_path / "token").write_text("the-token", encoding="utf-8")
    with Api(tmp_path / "server.pem") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def program(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    for name, value in {
        "POD_NAMESPACE": "data-services",
        "SNAPSHOT_CLASS": "csi",
        "READY_SECONDS": "2",
        "RETENTION_DAYS": "3",
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": str(api.server_port),
    }.items():
        monkeypatch.setenv(name, value)
    loader = importlib.machinery.SourceFileLoader("snapshot", str(PROGRAM))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("snapshot", loader))
    loader.exec_module(module)
    module.ACCOUNT = tmp_path
    return module


def test_the_volume_of_the_primary_is_kept_and_the_old_go(api: Api, program: ModuleType, capsys) -> None:
    api.put("postgresql-old", 4, LABELS)
    api.put("postgresql-young", 2, LABELS)
    api.put("of-somebody-else", 400, {"app.kubernetes.io/name": "postgresql-snapshot"})
    program.main()
    [name] = api.snapshots.keys() - {"postgresql-young", "of-somebody-else"}
    assert re.fullmatch(r"postgresql-\d{8}t\d{6}z", name)
    source = {"persistentVolumeClaimName": "data-postgresql-1"}
    assert api.snapshots[name]["spec"] == {"volumeSnapshotClassName": "csi", "source": source}
    assert "data-postgresql-1, 1Gi" in capsys.readouterr().out


def test_the_new_one_is_never_an_old_one(api: Api, program: ModuleType, monkeypatch) -> None:
    """The API's times have no fractions of a second: what was just made may look older than the program."""
    api.put("postgresql-old", 1, LABELS)
    monkeypatch.setenv("RETENTION_DAYS", "0")
    program.main()
    [name] = api.snapshots
    assert name != "postgresql-old"


def failure(program: ModuleType) -> str:
    with pytest.raises(SystemExit) as caught:
        program.main()
    assert isinstance(caught.value.code, str)
    return caught.value.code


def test_old_ones_stay_while_the_new_one_cannot_be_used(api: Api, program: ModuleType) -> None:
    api.put("postgresql-old", 4, LABELS)
    api.error = "the volume is busy"
    assert "not ready after 2.0 s: the volume is busy" in failure(program)
    assert "postgresql-old" in api.snapshots


def test_what_is_missing_is_said(api: Api, program: ModuleType, tmp_path: Path, monkeypatch) -> None:
    api.leader = None
    assert "names no primary" in failure(program)
    api.leader, api.known = "postgresql-0", False
    assert "no VolumeSnapshots" in failure(program)
    api.known = True
    monkeypatch.setenv("SNAPSHOT_CLASS", "refused")
    assert "403 exceeded quota" in failure(program)
    (tmp_path / "token").write_text("stale", encoding="utf-8")
    assert "401 Unauthorized" in failure(program) and not api.snapshots


def test_a_server_of_another_authority_gets_no_token(program: ModuleType, tmp_path: Path) -> None:
    other = certificates.issue(certificates.Wanted("other", ip_addresses=("127.0.0.1",)), None)
    (tmp_path / "ca.crt").write_bytes(other.certificate)
    with pytest.raises(ssl.SSLCertVerificationError):
        program.main()

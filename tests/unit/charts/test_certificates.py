"""The chart certificates: its rights, and its program against an API server of the test's own."""

from __future__ import annotations

import base64
import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.secret import certificate as certificates

from .conftest import ROOT, Render

CHART = ROOT / "roles/platform/files/charts/certificates"
VALUES = {
    "image": "test/postgresql:1",
    "certificates": {"redis-tls": "redis-authority", "postgresql-tls": "postgresql-authority"},
    "ends": {"redis-tls": "2027-01-01T00:00:00Z"},
}
CA = certificates.issue(certificates.Wanted("CA", is_ca=True, valid_days=3650), None)
WANTED = certificates.Wanted("redis", ("redis-master", "localhost"), valid_days=365)


def issued(days_ago: float) -> certificates.Pair:
    return certificates.issue(WANTED, CA, now=datetime.now(UTC) - timedelta(days=days_ago))


def test_it_may_read_these_secrets_and_change_those_of_the_certificates(render: Render) -> None:
    rules = render(CHART, VALUES).one("Role", "certificates")["rules"]
    names = {(rule["resources"][0], tuple(rule["verbs"])): set(rule["resourceNames"]) for rule in rules}
    leaves = {"redis-tls", "postgresql-tls"}
    assert names == {
        ("secrets", ("get",)): leaves | {"redis-authority", "postgresql-authority"},
        ("secrets", ("patch",)): leaves,
        ("configmaps", ("patch",)): {"certificates"},
    }
    rules = render(CHART, {**VALUES, "renew": False}).one("Role", "certificates")["rules"]
    assert [rule["verbs"] for rule in rules if rule["resources"] == ["secrets"]] == [["get"]]


def test_its_code_is_the_modules(render: Render) -> None:
    code = render(CHART, VALUES).one("ConfigMap", "certificates-code")["data"]
    for key, path in (("certificate.py", "secret/certificate.py"), ("errors.py", "errors.py")):
        assert code[key].strip() == (ROOT / "plugins/module_utils" / path).read_text().strip()


class ApiServer:
    """Secrets and ConfigMaps of one namespace, with merge patches."""

    def __init__(self, folder: Path) -> None:
        pair = certificates.issue(certificates.Wanted("kubernetes", ip_addresses=("127.0.0.1",)), CA)
        for name, text in {"ca.crt": CA.certificate, "tls.crt": pair.certificate, "tls.key": pair.key}.items():
            (folder / name).write_bytes(text)
        (folder / "token").write_text("token")
        self.objects: dict[str, dict[str, Any]] = {}
        self.refused: set[str] = set()
        self.patched: list[tuple[str, dict[str, Any]]] = []
        outer = self

        class Answer(BaseHTTPRequestHandler):
            def _answer(self, status: int, body: dict[str, Any]) -> None:
                text = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def _object(self) -> str:
                return self.path.split("?")[0].removeprefix("/api/v1/namespaces/data-services/")

            def do_GET(self) -> None:
                found = outer.objects.get(self._object())
                self._answer(200 if found else 404, found or {"message": f"{self._object()} not found"})

            def do_PATCH(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert self.headers["Content-Type"] == "application/merge-patch+json"
                if self._object() in outer.refused:
                    self._answer(409, {"message": "the object has been modified"})
                    return
                outer.patched.append((self._object(), body))
                found = outer.objects.setdefault(self._object(), {"data": {}})
                found["data"].update(body["data"])
                self._answer(200, found)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(folder / "tls.crt", folder / "tls.key")
        self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def secret(self, name: str, pair: certificates.Pair, ca: bytes = b"") -> None:
        data = {"tls.crt": pair.certificate, "tls.key": pair.key, **({"ca.crt": ca} if ca else {})}
        self.objects[f"secrets/{name}"] = {
            "metadata": {"name": name, "resourceVersion": "7"},
            "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
        }

    def value(self, place: str, key: str) -> bytes:
        return base64.b64decode(self.objects[place]["data"][key])


@pytest.fixture
def api_server(tmp_path: Path) -> Iterator[ApiServer]:
    made = ApiServer(tmp_path)
    yield made
    made.server.shutdown()


def run(api_server: ApiServer, folder: Path, render: Render, renew: bool = True) -> subprocess.CompletedProcess[str]:
    """The program out of the rendered ConfigMap, in the folders that the pod has."""
    rendered = render(CHART, {**VALUES, "certificates": {"redis-tls": "redis-authority"}, "renew": renew})
    code = rendered.one("ConfigMap", "certificates-code")["data"]
    pod = rendered.one("CronJob", "certificates")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    for item in next(volume["configMap"]["items"] for volume in pod["volumes"] if volume["name"] == "code"):
        path = folder / "code" / item["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        text = code[item["key"]].replace("/var/run/secrets/kubernetes.io/serviceaccount", str(folder))
        path.write_text(text)
    env = {entry["name"]: entry["value"] for entry in pod["containers"][0]["env"] if "value" in entry}
    env |= {"PYTHONPATH": str(folder / "code"), "POD_NAMESPACE": "data-services", "PATH": os.environ["PATH"]}
    env |= {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(api_server.server.server_port)}
    # Not this checkout's collection: what the ConfigMap has must be enough.
    command = [sys.executable, "-P", str(folder / "code/renew")]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60, cwd=folder)


def test_what_has_less_than_a_third_left_is_renewed(api_server: ApiServer, tmp_path: Path, render: Render) -> None:
    old = issued(days_ago=250)
    bundle = CA.certificate + b"another\n"
    api_server.secret("redis-tls", old, CA.certificate)
    api_server.secret("redis-authority", CA, bundle)
    done = run(api_server, tmp_path, render)
    assert done.returncode == 0, done.stdout + done.stderr
    new = certificates.Pair(
        api_server.value("secrets/redis-tls", "tls.crt"), api_server.value("secrets/redis-tls", "tls.key")
    )
    assert new.certificate != old.certificate
    assert certificates.why_renew(new, WANTED, CA) == "" and certificates.said(new.certificate) == WANTED
    # All that its peers' certificates may be signed by at this time.
    assert api_server.value("secrets/redis-tls", "ca.crt") == bundle
    assert dict(api_server.patched)["secrets/redis-tls"]["metadata"] == {"resourceVersion": "7"}
    ends = api_server.objects["configmaps/certificates"]["data"]
    assert ends == {
        "redis-tls": certificates.expires(new.certificate),
        "redis-authority": certificates.expires(CA.certificate),
    }
    assert "redis-tls: renewed, as it expires on" in done.stdout
    assert "PRIVATE" not in done.stdout + done.stderr
    # Once.
    api_server.patched.clear()
    run(api_server, tmp_path, render)
    assert [place for place, _body in api_server.patched] == ["configmaps/certificates"]


def test_where_somebody_else_renews_it_only_writes_down(api_server: ApiServer, tmp_path: Path, render: Render) -> None:
    api_server.secret("redis-tls", issued(days_ago=250), CA.certificate)
    api_server.secret("redis-authority", CA)
    done = run(api_server, tmp_path, render, renew=False)
    assert done.returncode == 0, done.stderr
    assert [place for place, _body in api_server.patched] == ["configmaps/certificates"]


def test_what_fails_is_told_and_the_rest_is_done(api_server: ApiServer, tmp_path: Path, render: Render) -> None:
    api_server.secret("redis-authority", CA)
    done = run(api_server, tmp_path, render)
    assert done.returncode == 1 and "redis-tls: GET secrets/redis-tls: 404 secrets/redis-tls not found" in done.stdout
    assert set(api_server.objects["configmaps/certificates"]["data"]) == {"redis-authority"}
    # Somebody has written it since it was read: the next run looks again.
    api_server.secret("redis-tls", issued(days_ago=250), CA.certificate)
    api_server.refused.add("secrets/redis-tls")
    done = run(api_server, tmp_path, render)
    assert done.returncode == 1 and "409" in done.stdout

"""Certificates of cert-manager for PostgreSQL and for the edge, in a namespace of the test's own.

cert-manager's own controllers issue them (cert_manager/, built with Go), started beside the cluster and for this
namespace alone. Its webhook and its CA injector are not there: what the webhook would refuse is not tried. Where
cert-manager's CustomResourceDefinitions are in the cluster already, the tests are skipped, not to be in another's way.
"""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.settled.settled import unsettled
from cryptography import x509

from .checkout import playbook, run, until
from .postgresql_release import SMALL_ROLE, Release

pytestmark = pytest.mark.cluster

PROGRAM = Path(__file__).resolve().parent / "cert_manager"
MODULE = "github.com/cert-manager/cert-manager"
LEAVES = ("redis-tls", "postgresql-tls", "pgbouncer-tls", "postgresql-repository-tls")
SERVERS = (
    {"secret": "redis-tls", "app": "redis", "port": 6379, "protocol": "tls"},
    {"secret": "redis-tls", "app": "redis-sentinel", "port": 26379, "protocol": "tls"},
    {"secret": "postgresql-tls", "app": "postgresql", "port": 5432, "protocol": "postgresql"},
    {"secret": "postgresql-tls", "app": "postgresql", "port": 8008, "protocol": "tls"},
    {"secret": "pgbouncer-tls", "app": "pgbouncer", "port": 6432, "protocol": "postgresql"},
)
SMALL = {**SMALL_ROLE, "data_services_priority_class": "", "data_services_postgresql_backup": False}
STREAMS = (
    "SELECT client_dn, client_serial FROM pg_stat_replication JOIN pg_stat_ssl USING (pid)"
    " WHERE state = 'streaming' AND application_name LIKE 'postgresql-%'"
)


class DataServices(Release):
    """The role itself, in the namespace."""

    def role(self, source: str, *options: str, tags: str = "data_services", **variables: Any) -> tuple[int, str]:
        """site.yml with the certificates of ``source``."""
        given = {**SMALL, "data_services_tls_source": source, **variables}
        return playbook("site.yml", "--tags", tags, *options, data_services_namespace=self.namespace, **given)

    def read(self, *what: str) -> dict[str, Any]:
        return json.loads(self.kubectl("get", *what, "--output", "json").stdout)

    def certificate(self, secret: str) -> x509.Certificate:
        return x509.load_pem_x509_certificate(base64.b64decode(self.read("secret", secret)["data"]["tls.crt"]))

    def serials(self) -> dict[str, int]:
        return {name: self.certificate(name).serial_number for name in LEAVES}

    def pods(self) -> dict[str, str]:
        """The uid of each pod of PostgreSQL and PgBouncer."""
        labels = "app.kubernetes.io/name in (postgresql, pgbouncer)"
        found = self.read("pods", "--selector", labels)["items"]
        staying = [pod["metadata"] for pod in found if not pod["metadata"].get("deletionTimestamp")]
        return {pod["name"]: pod["uid"] for pod in staying}

    def streams(self) -> list[str]:
        """Of each standby that streams: the subject and the serial number of the certificate that it logged in with."""
        return self.query(STREAMS).stdout.split()


def skip_beside_another(services: DataServices) -> None:
    if services.kubectl("get", "crd", "certificates.cert-manager.io", check=False).returncode == 0:
        pytest.skip("the cluster has a cert-manager already")


@pytest.fixture(scope="module")
def services(kubeconfig: str, own_namespace: str) -> DataServices:
    return DataServices(kubeconfig, own_namespace)


@pytest.fixture(scope="module")
def cert_manager(services: DataServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """cert-manager's kinds and controllers, for half an hour at the most."""
    skip_beside_another(services)
    folder = tmp_path_factory.mktemp("cert-manager")
    program, crds = folder / "cert-manager", folder / "crds"
    # Six minutes of two busy CPUs at first, seconds with Go's cache.
    build = ("go", "-C", PROGRAM, "build", "-trimpath", "-ldflags", "-s -w", "-o", program, ".")
    run("env", "CGO_ENABLED=0", *build, seconds=1800)
    source = run("go", "-C", PROGRAM, "list", "-m", "-f", "{{.Dir}}", MODULE).stdout.strip()
    crds.mkdir()
    for path in Path(source, "deploy", "crds").glob("cert-manager.io_*.yaml"):
        (crds / path.name).write_bytes(path.read_bytes())
    # Server-side: a schema is longer than what kubectl would note on an object.
    services.kubectl("apply", "--server-side", "--filename", str(crds))
    try:
        services.kubectl("wait", "--for=condition=Established", "--timeout=60s", "--filename", str(crds))
        command = [program, "--kubeconfig", services.kubeconfig, "--namespace", services.namespace, "--lifetime", "30m"]
        with (folder / "log").open("w", encoding="utf-8") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            until(lambda: "controllers are started" in (folder / "log").read_text(encoding="utf-8"))
            yield
            assert process.poll() is None, (folder / "log").read_text(encoding="utf-8")
        finally:
            process.terminate()
            process.wait(30)
    finally:
        services.kubectl("delete", "--ignore-not-found", "--wait", "--filename", str(crds))


def test_without_cert_manager_there_is_one_clear_error(services: DataServices) -> None:
    skip_beside_another(services)
    code, said = services.role("cert_manager", tags="data_services_secret")
    assert code != 0
    assert "install cert-manager, or set data_services_tls_source to self_signed" in said
    assert said.count("fatal:") == 1 and "failed=1" in said
    # It may be installed until then.
    code, said = services.role("cert_manager", "--check")
    assert code == 0, said
    assert services.kubectl("get", "statefulsets", "--output", "name").stdout == ""


def test_postgresql(services: DataServices, cert_manager: None, tmp_path: Path) -> None:
    code, said = services.role("cert_manager", "--check")
    assert code == 0 and "changed=0" not in said, said
    assert services.read("certificates,issuers")["items"] == []
    code, said = services.role("cert_manager")
    assert code == 0, said

    # The authority has issued what members and clients ask for.
    first = services.serials()
    authority = tmp_path / "authority.crt"
    for name in LEAVES:
        believed = services.read("secret", "redis-ca" if name == "redis-tls" else "postgresql-ca")
        authority.write_bytes(base64.b64decode(believed["data"]["ca.crt"]))
        secret = services.read("secret", name)
        issuer = "redis" if name == "redis-tls" else "postgresql"
        assert secret["metadata"]["annotations"]["cert-manager.io/issuer-name"] == issuer
        leaf = tmp_path / "leaf.crt"
        leaf.write_bytes(base64.b64decode(secret["data"]["tls.crt"]))
        for purpose in ("sslserver", "sslclient"):
            run("openssl", "verify", "-purpose", purpose, "-CAfile", authority, leaf)
        names = services.certificate(name).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        asked = services.read("certificate", name)["spec"]["dnsNames"]
        assert names.get_values_for_type(x509.DNSName) == asked and name.removesuffix("-tls") in " ".join(asked)

    # Members know each other by them.
    until(lambda: services.streams() == [f"/CN=postgresql|{first['postgresql-tls']}"])
    pods = services.pods()
    code, said = services.role("cert_manager")
    assert code == 0 and "changed=0" in said, said
    assert services.pods() == pods

    # cert-manager renews, here because it is told to; the servers read it as they run.
    for name in LEAVES:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        issuing = {"type": "Issuing", "status": "True", "reason": "Test", "message": "", "lastTransitionTime": now}
        patch = json.dumps([{"op": "add", "path": "/status/conditions/-", "value": issuing}])
        services.kubectl("patch", "certificate", name, "--subresource=status", "--type=json", "--patch", patch)
    until(lambda: not set(services.serials().values()) & set(first.values()))
    second = services.serials()
    servers = [{**server, "namespace": services.namespace} for server in SERVERS]
    ends = time.monotonic() + 240
    while lacking := unsettled(services.cluster, servers, []):
        assert time.monotonic() < ends, lacking
        time.sleep(3)
    code, said = services.role("cert_manager")
    assert code == 0, said
    renewed = services.pods()
    assert renewed == pods
    # Who is connected stays so, with the certificate that it came with.
    assert services.streams() == [f"/CN=postgresql|{first['postgresql-tls']}"]

    # And back: cert-manager has nothing more to do here, what it has issued is good, and nothing restarts.
    code, said = services.role("self_signed")
    assert code == 0, said
    assert services.read("certificates,issuers")["items"] == []
    assert services.serials() == second and services.pods() == renewed
    assert not any("ownerReferences" in services.read("secret", name)["metadata"] for name in LEAVES)
    code, said = services.role("self_signed")
    assert code == 0 and "changed=0" in said, said
    # The role makes them again, as ever.
    services.kubectl("delete", "secret", "pgbouncer-tls")
    code, said = services.role("self_signed", tags="data_services_secret")
    third = services.serials()
    assert code == 0 and third["pgbouncer-tls"] not in second.values(), said
    # Which cert-manager takes over as they are, until they have to be renewed.
    code, said = services.role("cert_manager", tags="data_services_secret")
    assert code == 0 and "changed=1 " in said, said
    assert services.serials() == third


def test_edge(services: DataServices, cert_manager: None, tmp_path: Path) -> None:
    issuer = {"apiVersion": "cert-manager.io/v1", "kind": "Issuer", "spec": {"selfSigned": {}}}
    (tmp_path / "issuer.json").write_text(json.dumps({**issuer, "metadata": {"name": "edge"}}), encoding="utf-8")
    services.kubectl("apply", "--filename", str(tmp_path / "issuer.json"))
    code, said = playbook(
        "site.yml",
        *("--tags", "ingress_policy"),
        ingress_namespace=services.namespace,
        ingress_tls_source="cert_manager",
        ingress_tls_issuer={"kind": "Issuer", "name": "edge", "group": "cert-manager.io"},
    )
    assert code == 0, said
    services.kubectl("wait", "--for=condition=Ready", "--timeout=60s", "certificate/envoy-tls")
    names = services.certificate("envoy-tls").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]

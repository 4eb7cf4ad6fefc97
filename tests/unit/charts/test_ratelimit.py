"""The chart ratelimit: how it reaches Redis, who reaches it, and what restarts it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.secret import certificate as certificates

from tests.free_ports import free_port

from .conftest import ROOT, Manifest, Objects, Render, RenderError

CHART = ROOT / "roles/ingress/files/charts/ratelimit"


@pytest.fixture(scope="module")
def objects(render: Render) -> Objects:
    return render(CHART)


def container(objects: Objects) -> Manifest:
    return objects.one("Deployment", "ratelimit")["spec"]["template"]["spec"]["containers"][0]


def test_the_password_is_the_secrets_and_is_read_before_it_is_used(objects: Objects) -> None:
    names = [entry["name"] for entry in container(objects)["env"]]
    assert names.index("REDIS_PASSWORD") < names.index("REDIS_AUTH")
    env = {entry["name"]: entry for entry in container(objects)["env"]}
    assert env["REDIS_PASSWORD"]["valueFrom"]["secretKeyRef"] == {"name": "redis-ratelimit", "key": "password"}
    assert env["REDIS_AUTH"]["value"] == "$(REDIS_USERNAME):$(REDIS_PASSWORD)"
    assert env["CACHE_KEY_PREFIX"]["value"] == "lambda:ratelimit:"


def test_only_what_others_use_listens_on_the_pods_address(objects: Objects) -> None:
    env = {entry["name"]: entry.get("value") for entry in container(objects)["env"]}
    assert (env["HOST"], env["DEBUG_HOST"]) == ("127.0.0.1", "127.0.0.1")
    assert {port["containerPort"] for port in container(objects)["ports"]} == {8081, 9090}


def test_every_envoy_knows_every_pod(objects: Objects) -> None:
    service = objects.one("Service", "ratelimit")["spec"]
    assert service["clusterIP"] == "None"
    # It checks each itself, a new one before it is ready too.
    assert service["publishNotReadyAddresses"] is True


def test_a_new_table_restarts_it(render: Render, objects: Objects) -> None:
    other = render(CHART, {"configuration": "domain: other\n"})
    assert other.one("ConfigMap", "ratelimit-configuration")["data"] == {"edge.yaml": "domain: other\n"}

    def checksums(found: Objects) -> Manifest:
        return found.one("Deployment", "ratelimit")["spec"]["template"]["metadata"]["annotations"]

    assert checksums(other) != checksums(objects)


def test_without_a_table_nothing_is_rendered(render: Render) -> None:
    with pytest.raises(RenderError, match="configuration is empty"):
        render(CHART, {"configuration": ""})


def waiting(objects: Objects, folder: Path) -> dict[str, Any]:
    """The container that waits, which finds the authority in this folder; a server's certificate is beside it."""
    (waits,) = objects.one("Deployment", "ratelimit")["spec"]["template"]["spec"]["initContainers"]
    authority = certificates.issue(certificates.Wanted("CA", is_ca=True), None)
    pair = certificates.issue(certificates.Wanted("redis", ("redis-master",)), authority)
    made = {"ca.crt": authority.certificate, "tls.crt": pair.certificate, "tls.key": pair.key}
    for name, text in made.items():
        (folder / name).write_bytes(text)
    return {**waits, "command": [word.replace("/run/redis-ca", str(folder)) for word in waits["command"]]}


def test_redis_is_spoken_to_with_tls_where_there_is_an_authority(render: Render, objects: Objects) -> None:
    env = {entry["name"]: entry.get("value") for entry in container(objects)["env"]}
    assert (env["REDIS_TLS"], env["REDIS_TLS_CACERT"]) == ("true", "/run/redis-ca/ca.crt")
    plain = render(CHART, {"redis": {"caSecret": ""}})
    assert "REDIS_TLS" not in {entry["name"] for entry in container(plain)["env"]}
    pod = plain.one("Deployment", "ratelimit")["spec"]["template"]["spec"]
    assert "--tls" not in pod["initContainers"][0]["command"][-1]
    assert "redis-ca" not in {volume["name"] for volume in pod["volumes"]}


def test_a_pod_begins_once_redis_takes_its_password(objects: Objects, tmp_path: Path) -> None:
    waits = waiting(objects, tmp_path)
    assert waits["image"] == "test/redis:1"
    given = environment(port := free_port(), "right")
    assert {entry["name"] for entry in waits["env"]} == set(given)
    log = tmp_path / "log"
    with log.open("wb") as output, subprocess.Popen(waits["command"], env=os.environ | given, stdout=output) as program:
        try:
            eventually(lambda: b"waiting for Redis at 127.0.0.1" in log.read_bytes())
            with subprocess.Popen(redis_server(port), cwd=tmp_path, stdout=subprocess.DEVNULL) as redis:
                try:
                    assert program.wait(60) == 0
                finally:
                    redis.terminate()
        finally:
            program.kill()
    assert "right" not in log.read_text() + " ".join(waits["command"])


def test_a_wrong_password_is_said_and_waited_for(objects: Objects, tmp_path: Path) -> None:
    waits = waiting(objects, tmp_path)
    given = environment(port := free_port(), "wrong")
    log = tmp_path / "log"
    server = redis_server(port)
    with log.open("wb") as output, subprocess.Popen(server, cwd=tmp_path, stdout=subprocess.DEVNULL) as redis:
        try:
            with subprocess.Popen(waits["command"], env=os.environ | given, stdout=output) as program:
                try:
                    eventually(lambda: b"WRONGPASS" in log.read_bytes())
                    assert program.poll() is None
                finally:
                    program.kill()
        finally:
            redis.terminate()


def environment(port: int, password: str) -> dict[str, str]:
    address = {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(port)}
    return {"REDIS_USERNAME": "edge", "REDIS_PASSWORD": password, **address}


def redis_server(port: int) -> list[str]:
    users = ["--user", "edge", "on", ">right", "+ping", "--user", "default", "off"]
    tls = ["--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no", "--tls-ca-cert-file", "ca.crt"]
    return ["redis-server", *tls, "--tls-cert-file", "tls.crt", "--tls-key-file", "tls.key", "--save", "", *users]


def eventually(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)

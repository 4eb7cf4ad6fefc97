"""Each program listens on both families, and on IPv4 alone where it is told so."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.free_ports import free_port

from .conftest import CHARTS, ROOT, Objects, Render

DATA = ROOT / "roles/data_services/files/charts"
IPV4 = {"library": {"listenAddress": "0.0.0.0"}}  # noqa: S104 - what is asked for


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.name)
def test_nothing_listens_on_ipv4_alone(chart: Path, render: Render) -> None:
    text = yaml.safe_dump(list(render(chart)))
    assert "0.0.0.0" not in text  # noqa: S104 - what is looked for
    # VictoriaMetrics' programs are of Go, and use IPv4 alone unless they are told.
    assert text.count("-httpListenAddr=") == text.count("-enableTCP6")


def data_of(objects: Objects, name: str, key: str) -> str:
    return objects.one("ConfigMap", name)["data"][key]


@pytest.fixture(scope="module", params=[{}, IPV4], ids=["both", "ipv4"])
def listening(request: pytest.FixtureRequest, render: Render) -> dict[str, Any]:
    redis, postgresql = (render(DATA / name, request.param) for name in ("redis", "postgresql"))
    return {
        "both": not request.param,
        "haproxy": data_of(redis, "redis-haproxy", "haproxy.cfg"),
        "patroni": yaml.safe_load(data_of(postgresql, "postgresql-configuration", "patroni.yml")),
        "members": data_of(postgresql, "postgresql-configuration", "pgbackrest.conf"),
        "repository": data_of(postgresql, "postgresql-repository", "pgbackrest.conf"),
        "pgbouncer": data_of(postgresql, "pgbouncer-configuration", "pgbouncer.ini"),
    }


def test_haproxy(listening: dict[str, Any]) -> None:
    binds = [line.strip() for line in listening["haproxy"].splitlines() if line.strip().startswith("bind ")]
    both, ipv4 = ["bind :::6379 v4v6", "bind :::8404 v4v6"], ["bind 0.0.0.0:6379", "bind 0.0.0.0:8404"]
    assert binds == (both if listening["both"] else ipv4)
    # A port is behind the last colon: addresses of IPv6 need no brackets here.
    assert '"${REDIS_0_SERVICE_HOST}:6379"' in listening["haproxy"]


def test_postgresql_and_what_stands_around_it(listening: dict[str, Any]) -> None:
    # By * Patroni, PostgreSQL and PgBouncer take what there is; pgBackRest the first of the two families.
    assert listening["patroni"]["restapi"]["listen"] == "*:8008"
    assert listening["patroni"]["postgresql"]["listen"] == "*:5432"
    assert "listen_addr = *" in listening["pgbouncer"]
    wanted = f"tls-server-address={'::' if listening['both'] else '0.0.0.0'}"  # noqa: S104
    for name in ("members", "repository"):
        assert wanted in listening[name].splitlines()


@pytest.mark.parametrize("sentinel", [False, True], ids=["redis", "sentinel"])
def test_redis_takes_both_unless_it_is_told_otherwise(sentinel: bool, tmp_path: Path, render: Render) -> None:
    """Nothing says where it listens: with what the chart says, the real program is asked on both."""
    objects = render(DATA / "redis")
    told = data_of(objects, "redis-configuration", "redis.conf") + data_of(objects, "redis-scripts", "start-sentinel")
    assert "bind " not in told
    if not socket.has_dualstack_ipv6():
        pytest.skip("this kernel has no IPv6")
    program = shutil.which("redis-server")
    assert program, "redis-server is not in the PATH"
    port = free_port()
    (tmp_path / "redis.conf").write_text(f"port {port}\ndir {tmp_path}\nprotected-mode no\n", encoding="utf-8")
    started = subprocess.Popen(
        [program, str(tmp_path / "redis.conf"), *(["--sentinel"] if sentinel else [])], stdout=subprocess.DEVNULL
    )
    try:
        for address in ("127.0.0.1", "::1"):
            until = time.monotonic() + 20
            while True:
                try:
                    with socket.create_connection((address, port), timeout=2) as connection:
                        connection.sendall(b"PING\r\n")
                        assert connection.recv(16).startswith(b"+PONG")
                    break
                except ConnectionRefusedError:
                    assert time.monotonic() < until, f"nobody listens on {address}"
                    time.sleep(0.1)
    finally:
        started.terminate()
        started.wait(10)


def test_a_service_has_both_families_where_it_asks(render: Render) -> None:
    chart = ROOT / "roles/ingress/files/charts/envoy"
    assert "ipFamilyPolicy" not in render(chart).one("Service", "envoy")["spec"]
    objects = render(chart, {"service": {"ipFamilyPolicy": "PreferDualStack"}})
    assert objects.one("Service", "envoy")["spec"]["ipFamilyPolicy"] == "PreferDualStack"

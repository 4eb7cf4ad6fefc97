"""Redis as it runs: its role, its durability and who may do what."""

from __future__ import annotations

import pytest

from .pods import containers, host_of

pytestmark = pytest.mark.cluster

ASK = ". /scripts/topology; ask 127.0.0.1"
"""The pods' own way to ask, as the least-privileged user `pod`."""


def hosts(app: str):
    found = [(n, pod, c) for n, a, pod, c in containers() if (n, a) == ("data-services", app)]
    assert len(found) == 3
    return [host_of(*place) for place in found]


def info(host, section: str) -> dict[str, str]:
    text = host.check_output(f"{ASK} 6379 info {section}").replace("\r", "")
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def test_one_master_and_replicas_in_step():
    found = [info(host, "replication") for host in hosts("redis")]
    masters = [replication for replication in found if replication["role"] == "master"]
    assert len(masters) == 1
    assert masters[0]["connected_slaves"] == "2"
    replicas = [replication for replication in found if replication["role"] == "slave"]
    assert [replication["master_link_status"] for replication in replicas] == ["up", "up"]
    # Counted where a master without replicas has to refuse writes (min-replicas-to-write).
    assert masters[0]["min_slaves_good_slaves"] == "2"
    assert {replication["master_replid"] for replication in replicas} == {masters[0]["master_replid"]}


def test_writes_are_kept_and_memory_is_bounded():
    for host in hosts("redis"):
        assert info(host, "persistence")["aof_enabled"] == "1"
        assert info(host, "persistence")["aof_last_write_status"] == "ok"
        memory = info(host, "memory")
        assert int(memory["maxmemory"]) > 0
        assert memory["maxmemory_policy"] == "allkeys-lru"


@pytest.mark.parametrize(("app", "port"), [("redis", 6379), ("redis-sentinel", 26379)])
def test_nobody_is_served_without_a_password(app, port):
    for host in hosts(app):
        said = host.run(f"redis-cli --tls --cacert /certificate/ca.crt -p {port} ping")
        assert "NOAUTH" in said.stdout + said.stderr


@pytest.mark.parametrize(("app", "port"), [("redis", 6379), ("redis-sentinel", 26379)])
def test_nobody_is_served_without_tls(app, port):
    for host in hosts(app):
        said = host.run(f"timeout 5 redis-cli -p {port} ping")
        assert "PONG" not in said.stdout and "NOAUTH" not in said.stdout + said.stderr


def test_the_probes_user_can_neither_read_nor_change():
    host = hosts("redis")[0]
    for command in ("get lambda:session:x", "set x 1", "config get *", "flushall", "acl list"):
        assert "NOPERM" in host.run(f"{ASK} 6379 {command}").stdout, command


def test_sentinels_agree():
    masters = set()
    for host in hosts("redis-sentinel"):
        lines = host.check_output(f'{ASK} 26379 sentinel master "$MASTER_NAME"').splitlines()
        seen = dict(zip(lines[::2], lines[1::2], strict=True))
        assert (seen["num-slaves"], seen["num-other-sentinels"], seen["quorum"]) == ("2", "2", "2")
        assert seen["flags"] == "master"
        masters.add(seen["ip"])
    assert len(masters) == 1

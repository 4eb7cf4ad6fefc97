"""The exporters in the variables of data_services: what is made where they are wanted, and for whom."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from ansible_collections.lambda_microservice.platform.plugins.module_utils.secret import secret

from .test_postgresql_certificates import rendered

IMAGES = {name: f"{name}:test" for name in ("redis", "haproxy", "postgresql")} | {
    name: f"{name}:test" for name in ("redis-exporter", "postgresql-exporter", "pgbouncer-exporter")
}
SECRETS = {"redis-exporter", "postgresql-exporter", "pgbouncer-exporter"}


def secrets(**given: Any) -> dict[str, Any]:
    return {made["name"]: made for made in rendered("__data_services_wanted_secrets", **given)}


def releases(**given: Any) -> dict[str, Any]:
    found = rendered(
        "__data_services_releases", platform_image=IMAGES, __data_services_secrets={"certificates_expire": {}}, **given
    )
    return {release["name"]: release for release in found}


def users(side: str, **given: Any) -> dict[str, set[str]]:
    lines = secrets(**given)["redis-users"]["render"][side].splitlines()
    return {words[1]: set(words[2:]) for words in map(str.split, lines) if words}


def test_they_are_there_where_there_is_monitoring() -> None:
    for wanted in (True, False):
        assert rendered("__platform.data_services_metrics_enabled", monitoring_enabled=wanted) is wanted
    on, off = (releases(data_services_metrics_enabled=wanted) for wanted in (True, False))
    assert (on["exporters"]["state"], off["exporters"]["state"]) == ("present", "absent")
    assert on["postgresql"]["values"]["metrics"] == {"enabled": True, "pgbouncerImage": "pgbouncer-exporter:test"}
    waited = {
        wanted: {one["name"] for one in rendered("__data_services_workloads", data_services_metrics_enabled=wanted)}
        for wanted in (True, False)
    }
    assert waited[True] - waited[False] == {"redis-exporter", "postgresql-exporter"}
    assert (
        set(secrets(data_services_metrics_enabled=True)) - set(secrets(data_services_metrics_enabled=False)) == SECRETS
    )


def test_without_postgresql_there_is_one_of_redis_alone() -> None:
    given = {"data_services_metrics_enabled": True, "data_services_postgresql_enabled": False}
    assert set(secrets(**given)) & SECRETS == {"redis-exporter"}
    assert releases(**given)["exporters"]["values"]["postgresql"]["enabled"] is False
    assert "postgresql-exporter" not in {one["name"] for one in rendered("__data_services_workloads", **given)}


def test_metrics_that_are_turned_on_restart_no_redis_and_no_postgresql() -> None:
    on, off = (releases(data_services_metrics_enabled=wanted) for wanted in (True, False))
    assert on["redis"]["values"]["redis"] == off["redis"]["values"]["redis"]
    assert on["redis"]["values"]["sentinel"] == off["redis"]["values"]["sentinel"]
    assert on["postgresql"]["values"]["postgresql"] == off["postgresql"]["values"]["postgresql"]


@pytest.mark.parametrize("side", ["users.acl", "sentinel-users.acl"])
def test_its_user_of_redis_reads_no_data_and_no_password(side: str) -> None:
    rights = users(side)["metrics"]
    assert rights == users(side, data_services_metrics_enabled=True)["metrics"]
    assert not [right for right in rights if right[0] in "~&@%" or right in ("allkeys", "allcommands", "nopass")]
    commands = {right[1:] for right in rights if right[0] == "+"}
    # Slow log's entries have arguments, and the configuration has passwords.
    assert not [
        name for name in commands if name.startswith(("config", "slowlog|get", "acl", "get", "scan", "monitor"))
    ]
    assert {"info", "client|setname"} < commands
    assert all("|" in name for name in commands - {"info"})


def test_a_password_is_sent_to_the_pods_alone_whose_it_is() -> None:
    given = {"data_services_metrics_enabled": True, "data_services_redis_replicas": 2}
    render = secrets(**given)["redis-exporter"]["render"]["passwords.json"]
    values = {"redis-users": {"metrics": secret._Value(b"the password", "")}}
    assert json.loads(secret._rendered(render, values)) == {
        f"rediss://metrics@{target}": "the password"
        for target in (
            "redis-0:6379", "redis-1:6379", "redis-sentinel-0:26379", "redis-sentinel-1:26379", "redis-sentinel-2:26379"
        )
    }  # fmt: skip
    # Another number of pods is read at a start.
    targets = {
        replicas: releases(data_services_metrics_enabled=True, data_services_redis_replicas=replicas)["exporters"]
        ["values"]["redis"]["podAnnotations"]
        for replicas in (2, 3)
    }  # fmt: skip
    assert targets[2] != targets[3]


def test_postgresqls_exporter_checks_the_servers_name() -> None:
    made = secrets(data_services_metrics_enabled=True)["postgresql-exporter"]
    values = {"postgresql-exporter": {"password": secret._Value(b"figures", "")}}
    module = yaml.safe_load(secret._rendered(made["render"]["postgres_exporter.yml"], values))["auth_modules"][
        "metrics"
    ]
    assert module == {
        "type": "userpass",
        "userpass": {"username": "metrics", "password": "figures"},
        "options": {"sslmode": "verify-full", "sslrootcert": "/certificate/ca.crt"},
    }


def test_pgbouncer_knows_who_asks_for_figures_by_a_verifier() -> None:
    on, off = (secrets(data_services_metrics_enabled=wanted) for wanted in (True, False))
    values = {
        "postgresql-pgbouncer": {"password": secret._Value(b"own", "")},
        "pgbouncer-exporter": {"password": secret._Value(b"figures", "")},
    }
    lines = {
        wanted: secret._rendered(made["pgbouncer-users"]["render"]["userlist.txt"], values).decode().splitlines()
        for wanted, made in (("on", on), ("off", off))
    }
    assert lines["off"] == ['"pgbouncer" "own"']
    assert lines["on"][0] == lines["off"][0]
    assert len(lines["on"]) == 2 and lines["on"][1].startswith('"stats" "SCRAM-SHA-256$4096:')
    url = secret._rendered(on["pgbouncer-exporter"]["render"]["url"], values).decode()
    assert url.startswith("postgres://stats:figures@127.0.0.1:6432/pgbouncer?sslmode=verify-ca&")

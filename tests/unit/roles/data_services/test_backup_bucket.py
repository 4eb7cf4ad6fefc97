"""The bucket of the backups in the variables of data_services: whose copies go there, by which ways and keys."""

from __future__ import annotations

from typing import Any

from .test_metrics import releases, secrets
from .test_postgresql_certificates import rendered

BUCKET = {"bucket": "backups", "endpoint": "s3.example.com", "region": "eu-1", "secret": "backup-key", "port": 9000}
NAMED: dict[str, Any] = {"data_services_postgresql_backup_s3": BUCKET}


def test_both_charts_are_given_the_same_bucket() -> None:
    made = releases(**NAMED, data_services_postgresql_backup_encrypted=True)
    redis, repository = made["redis"]["values"]["backup"], made["postgresql"]["values"]["repository"]
    assert redis["s3"] == repository["s3"]
    assert (redis["s3"]["bucket"], redis["s3"]["port"], redis["s3"]["keyType"]) == ("backups", 9000, "shared")
    assert redis["cipherSecret"] == repository["cipherSecret"] == "postgresql-backup"
    assert redis["bucketImage"] == "postgresql:test"
    without = releases()["redis"]["values"]["backup"]
    assert (without["s3"]["bucket"], without["bucketImage"], without["cipherSecret"]) == ("", "", "")


def test_who_brings_copies_there_or_back_may_go_there_and_nobody_else() -> None:
    flows = rendered("__data_services_flows", **NAMED, platform_flows=[])
    (flow,) = [flow for flow in flows if 9000 in flow["ports"]]
    callers = ("postgresql-repository", "postgresql-backup", "redis-backup", "redis-restore")
    assert flow == {"from": [f"data-services/{name}" for name in callers], "to": "world", "ports": [443, 9000]}
    assert not rendered("__data_services_flows", platform_flows=[])


def test_there_is_a_passphrase_for_redis_alone() -> None:
    given = {**NAMED, "data_services_postgresql_enabled": False}
    assert "postgresql-backup" not in secrets(**given)
    made = secrets(**given, data_services_postgresql_backup_encrypted=True)["postgresql-backup"]
    assert made == {
        "name": "postgresql-backup",
        "namespaces": ["data-services"],
        "random": {"passphrase": {"length": 64}},
    }

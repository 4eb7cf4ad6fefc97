"""playbooks/restore.yml against the platform's own PostgreSQL: what it refuses, and a copy beside what runs.

The platform must be disposable: a backup is damaged (and mended) and the repository stopped for a while. The restore in
place is a drill (playbooks/drill-restore.yml).
"""

from __future__ import annotations

import subprocess
import time
from datetime import UTC, datetime

import pytest

from .checkout import playbook

pytestmark = pytest.mark.cluster

NAMESPACE = "data-services"
FORMAT = "%Y-%m-%d %H:%M:%S+00"


def run(*arguments: str) -> str:
    command = ["kubectl", "--namespace", NAMESPACE, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(autouse=True)
def _at_the_platform(kubeconfig: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", kubeconfig)


def restore(**values: object) -> tuple[int, str]:
    return playbook("playbooks/restore.yml", **values)


def psql(query: str) -> str:
    primary = run("get", "pods", "-l", "app.kubernetes.io/name=postgresql,role=primary", "-o", "name")
    return run(
        *("exec", primary, "-c", "postgresql", "--", "psql", "-h", "/var/run/postgresql", "-U", "postgres"),
        *("-d", "lambda", "-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-c", query),
    )


def in_repository(*command: str) -> str:
    return run("exec", "postgresql-repository-0", "--", *command)


def pods() -> str:
    return run("get", "pods", "-l", "app.kubernetes.io/name=postgresql", "-o", "jsonpath={.items[*].metadata.uid}")


@pytest.mark.parametrize(
    ("time_given", "told"),
    [
        ("yesterday", "restore_time is no time. Found: yesterday"),
        ("2026-11-24 10:30:00", "restore_time is no time. Found: 2026-11-24 10:30:00"),
        ("2026-13-45 10:30:00+00", "2026-13-45 10:30:00+00"),
        (
            "2001-01-01 00:00:00+00",
            "restore_time cannot be restored. Found: 2001-01-01 00:00:00+00. Expected: a time from 20",
        ),
        ("2099-01-01 00:00:00+00", "restore_time cannot be restored. Found: 2099-01-01 00:00:00+00"),
    ],
)
def test_a_wrong_time_touches_nothing(time_given: str, told: str) -> None:
    before = pods()
    code, said = restore(restore_time=time_given, restore_confirm="yes")
    assert code != 0
    assert told in said
    assert pods() == before


def test_no_answer_touches_nothing() -> None:
    before = pods()
    code, said = restore(restore_confirm="no")
    assert code != 0
    assert "Nothing was touched. Answer yes" in said
    assert pods() == before


def test_a_damaged_backup_is_named_and_not_restored() -> None:
    label = in_repository("sh", "-c", "ls /backup/backup/lambda | grep -E '^[0-9]{8}-[0-9]{6}F' | tail -1")
    bundle = in_repository("sh", "-c", f"find /backup/backup/lambda/{label}/bundle -type f | sort | head -1")
    before = pods()
    in_repository(
        "sh", "-c", f"cp -p {bundle} /backup/kept && printf damaged | dd of={bundle} bs=1 seek=64 conv=notrunc"
    )
    try:
        code, said = restore(restore_confirm="yes")
    finally:
        in_repository("sh", "-c", f"cp -p /backup/kept {bundle} && rm /backup/kept")
    assert code != 0
    assert f"Nothing was touched: the backup {label} is damaged" in said
    assert "checksum invalid" in said
    assert pods() == before


def test_a_gap_in_the_archive_is_named_and_nothing_is_touched() -> None:
    """The newest segments of what is archived: one between them goes, and comes back."""
    for _ in range(3):
        primary = run("get", "pods", "-l", "app.kubernetes.io/name=postgresql,role=primary", "-o", "name")
        run("exec", primary, "-c", "postgresql", "--", "python3", "/scripts/member", "flush")
    listed = in_repository("sh", "-c", "ls -t /backup/archive/lambda/*/*/*.zst | grep -v partial | head -2 | tail -1")
    before = pods()
    in_repository("mv", listed, "/backup/kept-segment")
    try:
        code, said = restore(restore_confirm="yes")
    finally:
        in_repository("mv", "/backup/kept-segment", listed)
    assert code != 0
    assert "Nothing was touched: WAL does not reach from the backup" in said
    assert f"the archive lacks {listed.rpartition('/')[2][:24]}, and reaches to" in said
    assert pods() == before


def test_a_repository_that_is_away_is_named_and_nothing_is_touched() -> None:
    before = pods()
    run("scale", "statefulset/postgresql-repository", "--replicas=0", "--timeout=60s")
    run("wait", "pod/postgresql-repository-0", "--for=delete", "--timeout=60s")
    try:
        code, said = restore(restore_confirm="yes")
    finally:
        run("scale", "statefulset/postgresql-repository", "--replicas=1")
        run("rollout", "status", "statefulset/postgresql-repository", "--timeout=120s")
    assert code != 0
    assert "Nothing was touched: the backup repository is away" in said
    assert pods() == before


def test_a_copy_beside_has_the_rows_of_that_time_and_leaves_what_runs_alone() -> None:
    checksum = "SELECT count(*) || ' ' || md5(string_agg(n || said, ',' ORDER BY n)) FROM drill.beside"
    before = pods()
    psql(
        "CREATE SCHEMA IF NOT EXISTS drill; DROP TABLE IF EXISTS drill.beside;"
        " CREATE TABLE drill.beside AS SELECT n, md5(n::text) AS said FROM generate_series(1, 5000) n"
    )
    try:
        wanted = psql(checksum)
        time.sleep(1.1)
        moment = datetime.now(UTC).strftime(FORMAT)
        time.sleep(1.1)
        psql("UPDATE drill.beside SET said = 'later'")
        primary = run("get", "pods", "-l", "app.kubernetes.io/name=postgresql,role=primary", "-o", "name")
        run("exec", primary, "-c", "postgresql", "--", "python3", "/scripts/member", "flush")
        later = psql(checksum)
        code, said = restore(restore_time=moment, restore_beside="true")
        assert code == 0, said
        copy = (
            "exec",
            "postgresql-restored-0",
            "--",
            "psql",
            "-h",
            "/var/run/postgresql",
            "-U",
            "postgres",
            "-d",
            "lambda",
        )
        assert run(*copy, "-X", "-q", "-t", "-A", "-c", checksum) == wanted
        # It can be written to, and what it writes goes nowhere.
        run(*copy, "-X", "-q", "-c", "UPDATE drill.beside SET said = 'in the copy'")
        assert psql(checksum) == later != wanted
        assert pods() == before
    finally:
        run("delete", "statefulset/postgresql-restored", "pvc/data-postgresql-restored-0", "--ignore-not-found")
        psql("DROP TABLE drill.beside")

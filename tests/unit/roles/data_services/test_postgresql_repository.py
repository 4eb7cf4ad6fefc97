"""The script of PostgreSQL's repository, with pgBackRest and PostgreSQL: backups, room, and how far WAL reaches."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .test_postgresql_roles import _as_postgres

ROOT = Path(__file__).resolve().parents[4]
SCRIPT = ROOT / "roles/data_services/files/charts/postgresql/files/scripts/repository"
PORT = "6543"
QUEUE_BYTES = 40 << 20
# The volume of the test, whatever disk it is on.
VOLUME = """
def room():
    total = int(os.environ["VOLUME_BYTES"])
    held = sum(path.stat().st_size for path in BACKUP.rglob("*") if path.is_file() and not path.is_symlink())
    return total, total - held


if __name__ == "__main__":
"""


class Database:
    """PostgreSQL on timeline 2, with a full backup of timeline 1 and its archive."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.repository = folder, folder / "repo"
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        assert programs and shutil.which("pgbackrest"), "install Debian's packages postgresql and pgbackrest"
        self.bin = programs[-1]
        self.repository.mkdir()
        text = SCRIPT.read_text(encoding="utf-8").replace('Path("/backup")', f"Path({str(self.repository)!r})")
        (folder / "repository").write_text(re.sub('\nif __name__ == "__main__":\n', VOLUME, text))
        (folder / "pgbackrest.conf").write_text(f"""[global]
repo1-path={self.repository}
repo1-cipher-type=aes-256-cbc
repo1-retention-full-type=time
repo1-retention-full=30
repo1-bundle=y
compress-type=zst
start-fast=y
log-level-file=off
log-level-console=warn
lock-path={folder}/lock
archive-timeout=60
archive-push-queue-max={QUEUE_BYTES}
[lambda]
pg1-path={folder}/data
pg1-socket-path={folder}
pg1-port={PORT}
""")
        if os.geteuid() == 0:
            for path in (folder, *folder.iterdir()):
                shutil.chown(path, "postgres", "postgres")
        self.run(str(self.bin / "initdb"), "-D", f"{folder}/data", "-U", "postgres", "-A", "trust", "--no-sync")
        with (folder / "data/postgresql.conf").open("a") as settings:
            settings.write(f"""port = {PORT}
unix_socket_directories = '{folder}'
listen_addresses = ''
archive_mode = on
archive_command = 'pgbackrest --stanza=lambda archive-push "%p"'
restore_command = 'pgbackrest --stanza=lambda archive-get %f "%p"'
fsync = off
max_wal_size = '512MB'
""")
        self.control("start")

    def run(self, *command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        given = {
            "PATH": f"{os.environ['PATH']}:{self.bin}",
            "PGBACKREST_CONFIG": f"{self.folder}/pgbackrest.conf",
            "PGBACKREST_REPO1_CIPHER_PASS": "a passphrase of the test",
            "VOLUME_BYTES": str(1 << 40),
            **environment,
        }
        done = subprocess.run(
            _as_postgres(*command), env=given, cwd="/", capture_output=True, text=True, timeout=240, check=False
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def control(self, *action: str) -> None:
        self.run(str(self.bin / "pg_ctl"), "-D", f"{self.folder}/data", "-l", f"{self.folder}/log", "-w", *action)

    def script(self, *arguments: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run("/usr/bin/python3", f"{self.folder}/repository", *arguments, check=check, **environment)

    def query(self, text: str) -> str:
        command = ("psql", "-h", str(self.folder), "-p", PORT, "-U", "postgres", "-X", "-q", "-t", "-A", "-c", text)
        return self.run(*command).stdout.strip()

    def segment(self, archived: bool = True) -> str:
        """Something is written, and its segment ended."""
        self.query("SELECT pg_logical_emit_message(true, 'test', 'something')")
        name = self.query("SELECT pg_walfile_name(pg_switch_wal())")
        ends = time.monotonic() + 60
        while archived and self.query("SELECT coalesce(last_archived_wal, '') FROM pg_stat_archiver") < name:
            assert time.monotonic() < ends, f"{name} is not archived"
            time.sleep(0.2)
        return name

    def backups(self) -> list[dict[str, Any]]:
        return json.loads(self.run("pgbackrest", "--stanza=lambda", "--output=json", "info").stdout)[0]["backup"]

    def wal(self, label: str = "", target: str = "") -> str:
        """What a restore from that backup, or the newest, to that time is told."""
        arguments = [label or self.backups()[-1]["label"], *([target] if target else [])]
        done = self.script("wal", *arguments, check=False)
        assert (done.returncode == 0) is (not done.stderr)
        return (done.stdout + done.stderr).strip()


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    # A short path: a socket's name has 107 characters at the most.
    folder = Path(tempfile.mkdtemp(prefix="repository-", dir="/tmp"))
    made = Database(folder)
    try:
        made.run("pgbackrest", "--stanza=lambda", "stanza-create")
        yield made
    finally:
        made.run(str(made.bin / "pg_ctl"), "-D", f"{folder}/data", "-m", "immediate", "stop", check=False)
        shutil.rmtree(folder, ignore_errors=True)


def test_the_first_backup_is_a_full_one_and_the_next_what_has_changed(database: Database) -> None:
    database.script("backup")
    assert [one["type"] for one in database.backups()] == ["full"]
    database.segment()
    database.script("backup")
    assert [one["type"] for one in database.backups()] == ["full", "diff"]


def test_wal_reaches_over_a_change_of_the_primary(database: Database) -> None:
    label = database.backups()[0]["label"]
    before = database.segment()
    assert database.wal(label) == f"WAL reaches to {before}"
    (database.folder / "data/standby.signal").touch()
    database.control("-m", "fast", "restart")
    database.control("promote")
    after = database.segment()
    assert after.startswith("00000002")
    assert database.wal(label) == database.wal(label, str(int(time.time()) - 3600)) == f"WAL reaches to {after}"
    # What was written up to then may not be there yet.
    told = database.wal(label, str(int(time.time()) + 3600))
    assert told.startswith(f"the last that is archived is {after}, of 20")


def test_wal_that_is_missing_is_named_and_what_is_before_it_can_be_restored(database: Database) -> None:
    label = database.backups()[0]["label"]
    first, second, third = (database.segment() for _ in range(3))
    (path,) = database.repository.glob(f"archive/lambda/*/*/{second}-*")
    path.rename(database.folder / path.name)
    try:
        told = database.wal(label)
        assert told.startswith(f"the archive lacks {second}, and reaches to {first}, which was archived 20")
        assert database.wal(label, str(int(time.time()) - 3600)) == f"WAL reaches to {first}"
        assert database.wal(label, str(int(time.time()) + 3600)) == told
    finally:
        (database.folder / path.name).rename(path)
    assert database.wal(label) == f"WAL reaches to {third}"


def test_wal_that_waits_for_too_long_is_dropped_and_leaves_a_gap_that_is_seen(database: Database) -> None:
    """The primary's disk has a bound; a restore gets over the gap from the next backup on."""
    folder = database.repository / "archive"
    folder.chmod(0)
    try:
        waiting = [database.segment(archived=False) for _ in range(5)]
        ends = time.monotonic() + 90
        while database.query("SELECT coalesce(last_archived_wal, '') FROM pg_stat_archiver") < waiting[0]:
            assert time.monotonic() < ends, (database.folder / "log").read_text()[-2000:]
            time.sleep(1)
    finally:
        folder.chmod(0o750)
    database.segment()
    assert database.wal().startswith(f"the archive lacks {waiting[0]}, and reaches to ")
    database.script("backup")
    assert database.wal().startswith("WAL reaches to ")


def test_the_oldest_backups_make_room_and_the_last_full_one_stays(database: Database) -> None:
    database.script("backup", FULL_DAYS="0.5")
    before = database.backups()
    assert [one["type"] for one in before].count("full") == 2
    files = (path for path in database.repository.rglob("*") if path.is_file() and path.name != ".reserve")
    held = sum(path.stat().st_size for path in files)
    first = before[0]["info"]["repository"]["delta"]
    # Some room: with what the first full backup and all that stands on it take, there is enough for another.
    volume = str(held + (32 << 20) + first // 2)
    done = database.script("backup", FULL_DAYS="0.5", VOLUME_BYTES=volume)
    assert f"{before[0]['label']} goes before its time" in done.stdout
    after = database.backups()
    assert [one["type"] for one in after] == ["full", "full"]
    assert after[0]["label"] == before[-1]["label"]
    # And of the WAL what was for it alone.
    assert not [*database.repository.glob("archive/lambda/*/0000000100000000/*")]
    # With no room at all one is kept, and it is said what is needed.
    done = database.script("backup", check=False, VOLUME_BYTES=str(20 << 20))
    assert done.returncode == 1 and "no diff backup is made: there is no room for it" in done.stderr
    assert "can spare no backup: enlarge data_services_postgresql_backup_storage" in done.stdout
    assert len([one for one in database.backups() if one["type"] == "full"]) == 1


def test_a_label_that_is_none_is_refused(database: Database) -> None:
    done = database.script("wal", "20000101-000000F", check=False)
    assert done.returncode == 1 and "there is no backup 20000101-000000F; there are: 20" in done.stderr

"""Redis' copies in a bucket: the script with pgBackRest itself and a folder for the bucket, and the chart."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from .conftest import ROOT, Manifest, Render, RenderError

CHART = ROOT / "roles/data_services/files/charts/redis"
STORE = CHART / "files/bucket/store"
PASSPHRASE = "a passphrase of the test"
S3 = {"bucket": "backups", "endpoint": "s3.example.com", "region": "eu-1", "secret": "backup-key"}


class Place:
    """A pod's folders, and a bucket."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.volume, self.bucket = folder, folder / "backup", folder / "bucket"
        for name in ("backup", "bucket", "tmp"):
            (folder / name).mkdir()
        text = STORE.read_text(encoding="utf-8")
        (folder / "store").write_text(re.sub(r"(?<![\w/])/(backup|tmp)\b", rf"{folder}/\1", text))
        (folder / "pgbackrest.conf").write_text(
            f"[global]\nrepo1-path={self.bucket}\nrepo1-cipher-type=aes-256-cbc\nlog-level-file=off\nlock-path={folder}/tmp\n"
        )

    def copy(self, days_old: float, content: bytes = b"", place: Path | None = None) -> str:
        moment = datetime.now(UTC) - timedelta(days=days_old)
        name = f"redis-{moment:%Y%m%dT%H%M%SZ}.rdb"
        content = content or os.urandom(70_000)
        (self.volume / name).write_bytes(content)
        (self.volume / f"{name}.sha256").write_text(f"{hashlib.sha256(content).hexdigest()}  {name}\n")
        return name

    def run(self, *arguments: str, wanted: str = "latest") -> tuple[int, str]:
        environment = {
            "PATH": os.environ["PATH"],
            "PGBACKREST_CONFIG": str(self.folder / "pgbackrest.conf"),
            "PGBACKREST_REPO1_CIPHER_PASS": PASSPHRASE,
            "PGBACKREST_CIPHER_PASS": PASSPHRASE,
            "RETENTION_DAYS": "7",
            "RESTORE_COPY": wanted,
        }
        command = ["sh", str(self.folder / "store"), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert not done.stderr, done.stderr
        return done.returncode, done.stdout

    def held(self) -> list[str]:
        return sorted(path.name for path in (self.bucket / "redis").glob("*.rdb"))

    def lose_the_volume(self) -> None:
        shutil.rmtree(self.volume)
        self.volume.mkdir()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    if shutil.which("pgbackrest") is None:
        pytest.fail("pgbackrest is not installed (tests/run installs it)")
    return Place(tmp_path)


def test_what_the_bucket_lacks_comes_there_once_and_cannot_be_read_there(place: Place) -> None:
    content = b"REDIS0012" + b"a caller's session" * 5000
    older, newer = place.copy(1), place.copy(0, content)
    code, said = place.run()
    assert code == 0, said
    assert place.held() == [older, newer]
    assert [line.split()[0] for line in said.splitlines()] == [older, newer]
    assert b"session" not in (place.bucket / "redis" / newer).read_bytes()
    assert place.run() == (0, "")


def test_a_new_cluster_fetches_the_latest_copy_and_any_other_by_its_name(place: Place) -> None:
    content = os.urandom(200_000)
    older, newer = place.copy(1), place.copy(0, content)
    place.run()
    place.lose_the_volume()
    code, said = place.run("fetch")
    assert (code, said) == (0, f"{newer} was fetched from the bucket\n")
    assert (place.volume / newer).read_bytes() == content
    check = subprocess.run(["sha256sum", "--check", "--status", f"{newer}.sha256"], cwd=place.volume, check=False)
    assert check.returncode == 0
    place.run("fetch", wanted=older)
    assert (place.volume / older).exists()


def test_what_is_on_the_volume_is_not_fetched(place: Place) -> None:
    place.copy(1)
    newest = place.copy(0)
    assert place.run("fetch") == (0, "")
    assert place.run("fetch", wanted=newest) == (0, "")


def test_a_copy_that_is_nowhere_is_left_to_the_restore_to_refuse(place: Place) -> None:
    name = place.copy(0)
    place.run()
    code, said = place.run("fetch", wanted="redis-19700101T000000Z.rdb")
    assert (code, said.strip()) == (0, f"in the bucket there are: {name}")


def test_old_ones_go_after_the_retention_and_the_newest_never(place: Place) -> None:
    old, kept = place.copy(9), place.copy(6)
    place.run()
    # Of the volume's, `backup` removes them.
    place.lose_the_volume()
    newest = place.copy(0)
    code, said = place.run()
    assert code == 0, said
    assert place.held() == [kept, newest]
    assert not (place.bucket / "redis" / f"{old}.sha256").exists()
    shutil.rmtree(place.bucket / "redis")
    place.lose_the_volume()
    alone = place.copy(30)
    assert place.run()[0] == 0
    assert place.held() == [alone]


def test_a_copy_that_was_cut_off_on_its_way_is_brought_again(place: Place) -> None:
    name = place.copy(0)
    place.run()
    # Its checksum comes last.
    (place.bucket / "redis" / f"{name}.sha256").unlink()
    (place.bucket / "redis" / name).write_bytes(b"half")
    code, said = place.run()
    assert (code, said) == (0, f"{name} is in the bucket, and was read back\n")


def test_what_cannot_be_read_back_is_no_copy(place: Place) -> None:
    name = place.copy(0)
    (place.volume / f"{name}.sha256").write_text(f"{'0' * 64}  {name}\n")
    code, said = place.run()
    assert code == 1
    assert f"{name} is not in the bucket as it was written: its checksum differs" in said
    assert not (place.bucket / "redis" / f"{name}.sha256").exists()


def test_a_bucket_that_is_away_is_said_and_the_volume_serves_a_restore(place: Place) -> None:
    name = place.copy(0)
    shutil.rmtree(place.bucket)
    place.bucket.write_text("no folder")
    code, said = place.run()
    assert code == 1
    assert "the copies stay on the volume alone: the bucket cannot be listed: ERROR" in said
    code, said = place.run("fetch")
    assert code == 0 and "the bucket cannot be listed" in said
    assert (place.volume / name).exists()
    assert PASSPHRASE not in said


def pods(rendered: list[Manifest]) -> dict[str, Manifest]:
    jobs = [obj for obj in rendered if obj["kind"] == "CronJob"]
    return {job["metadata"]["name"]: job["spec"]["jobTemplate"]["spec"]["template"]["spec"] for job in jobs}


def test_with_a_bucket_a_copy_is_made_and_then_brought_there(render: Render) -> None:
    values = {"s3": S3, "bucketImage": "test/postgresql:1", "cipherSecret": "passphrase-of-ours"}
    made = render(CHART, {"backup": values})
    text = made.one("ConfigMap", "redis-bucket")["data"]["pgbackrest.conf"]
    assert {"repo1-type=s3", "repo1-s3-bucket=backups", "repo1-cipher-type=aes-256-cbc"} <= set(text.splitlines())
    assert "key" not in text.replace("key-type", "")
    backup, restore = pods(made)["redis-backup"], pods(made)["redis-restore"]
    assert [one["name"] for one in backup["initContainers"] + backup["containers"]] == ["backup", "bucket"]
    assert [one["name"] for one in restore["initContainers"] + restore["containers"]] == ["bucket", "restore"]
    assert restore["initContainers"][0]["command"] == ["sh", "/configuration/store", "fetch"]
    for one in (backup["containers"][0], restore["initContainers"][0]):
        given = {entry["name"]: entry.get("valueFrom", {}).get("secretKeyRef") for entry in one["env"]}
        assert given["PGBACKREST_REPO1_S3_KEY_SECRET"] == {"name": "backup-key", "key": "key-secret"}
        assert given["PGBACKREST_CIPHER_PASS"] == {"name": "passphrase-of-ours", "key": "passphrase"}
        assert (one["image"], one["securityContext"]["readOnlyRootFilesystem"]) == ("test/postgresql:1", True)
        # Passwords of Redis are none of its concern.
        assert {mount["name"] for mount in one["volumeMounts"]} == {"bucket", "backup", "tmp"}


def test_a_bucket_that_comes_restarts_no_redis(render: Render) -> None:
    def templates(**backup: object) -> list[Manifest]:
        return [one["spec"]["template"] for one in render(CHART, {"backup": backup}).workloads()]

    assert templates() == templates(s3=S3, bucketImage="test/postgresql:1")


def test_a_bucket_needs_an_image_with_the_program(render: Render) -> None:
    with pytest.raises(RenderError, match="bucketImage is empty"):
        render(CHART, {"backup": {"s3": S3}})


def test_another_pod_of_a_job_makes_no_second_copy(render: Render, tmp_path: Path) -> None:
    made = render(CHART, {"backup": {"s3": S3, "bucketImage": "test/postgresql:1"}})
    (container,) = pods(made)["redis-backup"]["initContainers"]
    command = [
        word.replace("/backup/.job", f"{tmp_path}/job").replace("/scripts", str(tmp_path))
        for word in container["command"]
    ]
    (tmp_path / "backup").write_text(f"echo copied >> {tmp_path}/log; [ ! -e {tmp_path}/broken ]")

    def run(job: str) -> int:
        return subprocess.run(command, env={"PATH": os.environ["PATH"], "JOB": job}, check=False).returncode

    (tmp_path / "broken").touch()
    assert run("one") != 0
    (tmp_path / "broken").unlink()
    assert [run("one"), run("one"), run("two")] == [0, 0, 0]
    assert (tmp_path / "log").read_text().splitlines() == ["copied"] * 3


def test_the_script_is_clean() -> None:
    done = subprocess.run(["shellcheck", "--shell=sh", str(STORE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout

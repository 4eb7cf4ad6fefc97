"""What stands against an upgrade of PostgreSQL, what a pod does with data of another version, and the way back.

The upgrade itself, with two versions of PostgreSQL: tests/cluster/test_postgresql_upgrade.py.
"""

from __future__ import annotations

import copy
import os
import subprocess
import types
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[4]
FILES = ROOT / "roles/data_services/files/charts/postgresql/files"
MIB = 1 << 20


def found() -> dict[str, Any]:
    """What there is where nothing stands against it."""
    return {
        "live": {
            "major": "15",
            "prepared": [],
            "slots": [{"name": f"postgresql_{number}", "logical": False, "member": True} for number in (1, 2)],
            "subscriptions": [],
            "tablespaces": [],
            "extensions": ["plpgsql"],
            "columns": [],
            "catalog_bytes": 30 * MIB,
            "archive_failed": None,
        },
        "cluster": {
            "members": [
                {"name": "postgresql-0", "role": "leader", "state": "running"},
                {"name": "postgresql-1", "role": "sync_standby", "state": "streaming", "lag": 0},
                {"name": "postgresql-2", "role": "replica", "state": "streaming", "lag": 4096},
            ]
        },
        "free_bytes": 4096 * MIB,
        "backup": [{"status": {"code": 0, "message": "ok"}, "backup": [{"label": "20261124-010000F"}]}],
        "replicas": 3,
        "parameters": {},
    }


def script() -> types.ModuleType:
    module = types.ModuleType("upgrade")
    path = FILES / "upgrade/upgrade"
    exec(compile(path.read_text(encoding="utf-8"), path, "exec"), module.__dict__)  # noqa: S102 - our own
    return module


def test_nothing_stands_against_it() -> None:
    assert [*script().problems(found(), "15", "17")] == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"live": {"prepared": ["one", "two"]}}, "transactions are prepared: one, two"),
        (
            {"live": {"slots": [{"name": "events", "logical": True, "member": False}]}},
            "logical slots would be lost: events",
        ),
        (
            {"live": {"slots": [{"name": "copy", "logical": False, "member": False}]}},
            "slots of others than members would be lost: copy",
        ),
        ({"live": {"subscriptions": ["theirs"]}}, "subscriptions would begin anew: theirs"),
        ({"live": {"tablespaces": ["fast"]}}, "tablespaces beside the volume: fast"),
        (
            {"live": {"columns": ["app.rules.owner aclitem"]}},
            "stored otherwise in another version: app.rules.owner aclitem",
        ),
        ({"live": {"archive_failed": "0000000100000000000000AB"}}, "WAL cannot be archived, 0000000100000000000000AB"),
        ({"live": {"major": "14"}}, "the primary is PostgreSQL 14, and its release says 15"),
        ({"live": {"catalog_bytes": 2048 * MIB}}, "has 4096 MiB free, and the upgrade may take 6656"),
        ({"free_bytes": 600 * MIB}, "has 600 MiB free, and the upgrade may take 602"),
        ({"cluster": {"pause": True}}, "Patroni is paused"),
        ({"replicas": 2}, "there are 3 members, and data_services_postgresql_replicas is 2"),
        ({"backup": []}, "there is no backup: no answer"),
        (
            {"backup": [{"status": {"code": 2, "message": "no valid backups"}, "backup": []}]},
            "there is no backup: no valid backups",
        ),
    ],
)
def test_what_stands_against_it_is_said(change: dict[str, Any], told: str) -> None:
    given = found()
    for key, value in change.items():
        given[key] = {**given[key], **value} if isinstance(value, dict) else value
    (line,) = script().problems(given, "15", "17")
    assert told in line


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"state": "starting"}, "postgresql-1 is starting, not streaming"),
        ({"lag": 17 * MIB}, "postgresql-1 lags behind by 17825792 bytes"),
        ({"lag": "unknown"}, "postgresql-1 lags behind by unknown"),
    ],
)
def test_a_standby_that_is_not_in_step_stands_against_it(change: dict[str, Any], told: str) -> None:
    given = found()
    given["cluster"]["members"][1].update(change)
    (line,) = script().problems(given, "15", "17")
    assert told in line


def test_all_of_it_is_said_at_once() -> None:
    given = found()
    given["live"].update(prepared=["one"], archive_failed="AB", tablespaces=["fast"])
    given.update(free_bytes=0, backup=[])
    assert len([*script().problems(given, "15", "17")]) == 5


@pytest.mark.parametrize(
    ("to", "told"), [("15", "are of PostgreSQL 15 already"), ("14", "14 is an earlier one, which cannot read them")]
)
def test_the_same_version_and_an_earlier_one_are_refused(to: str, told: str) -> None:
    (line,) = script().problems(found(), "15", to)
    assert told in line


def test_what_a_newer_pg_upgrade_takes_along_does_not_stand_against_it() -> None:
    given = copy.deepcopy(found())
    given["live"].update(major="17", subscriptions=["theirs"], slots=[{"name": "a", "logical": True, "member": False}])
    assert [*script().problems(given, "17", "18")] == []


def test_an_image_without_both_versions_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upgrade = script()
    monkeypatch.setattr(upgrade, "PROGRAMS", tmp_path)
    (tmp_path / "17/bin").mkdir(parents=True)
    (tmp_path / "17/bin/postgres").touch()
    (line,) = upgrade.of_image(found(), "15", "17")
    assert "the image has PostgreSQL 17, and lacks 15 (images_postgresql_old_major 15)" in line


class Volume:
    """A volume, and programs of which one is Patroni's."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "volume/pgdata"
        self.data.mkdir(parents=True)
        (folder / "given").mkdir()
        for name, text in {
            "programs/17/bin/postgres": "",
            "bin/patroni": "echo patroni: $*",
            "bin/pg_isready": f"[ -e {folder}/primary ] || {{ touch {folder}/primary; exit 2; }}",
        }.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"#!/bin/sh\n{text}\n")
            path.chmod(0o755)

    def of(self, version: str) -> None:
        (self.data / "PG_VERSION").write_text(f"{version}\n")

    def start(self, pod: str = "postgresql-0", version: str = "17") -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
            "VOLUME": f"{self.folder}/volume",
            "UPGRADE": f"{self.folder}/given",
            "PROGRAMS": f"{self.folder}/programs",
            "TERMINATION_LOG": f"{self.folder}/termination",
            "PG_MAJOR": version,
            "POD_NAME": pod,
        }
        command = ["sh", str(FILES / "scripts/start-postgresql")]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path)


@pytest.mark.parametrize("version", ["", "17"])
def test_data_of_the_version_and_an_empty_volume_are_patroni_s(volume: Volume, version: str) -> None:
    if version:
        volume.of(version)
    assert volume.start().stdout == "patroni: /configuration\n"


@pytest.mark.parametrize(
    ("version", "told"),
    [
        (
            "15",
            "The data are of PostgreSQL 15. Expected: of 17, as data_services_postgresql_version says. To do: ",
        ),
        (
            "18",
            "The data are of PostgreSQL 18, and 17 cannot read them. To do: set data_services_postgresql_version to 18",
        ),
    ],
)
def test_data_of_another_version_are_refused_and_left_alone(volume: Volume, version: str, told: str) -> None:
    volume.of(version)
    done = volume.start()
    assert done.returncode == 1 and "patroni" not in done.stdout
    # What `kubectl describe` and the module rollout show.
    assert told in done.stderr and told in (volume.folder / "termination").read_text()
    assert (volume.data / "PG_VERSION").read_text() == f"{version}\n"


def test_an_image_without_the_version_says_so(volume: Volume) -> None:
    done = volume.start(version="18")
    assert done.returncode == 1 and "The image has no PostgreSQL 18. Found: 17" in done.stderr


@pytest.mark.parametrize("state", ["begun", "switched"])
def test_nothing_starts_in_the_middle_of_an_upgrade(volume: Volume, state: str) -> None:
    """With the folders exchanged as well: until the playbook says that it is final there is a way back."""
    volume.of("17")
    (volume.folder / "volume/upgrade").write_text(f"15 17 {state}\n")
    done = volume.start()
    assert done.returncode == 1 and "An upgrade of PostgreSQL from 15 to 17 was cut short" in done.stderr
    assert (volume.folder / "volume/upgrade").exists()


def test_the_way_back_ends_when_the_upgraded_member_starts(volume: Volume) -> None:
    volume.of("17")
    (volume.folder / "volume/upgrade").write_text("15 17 switched\n")
    (volume.folder / "volume/pgdata.old").mkdir()
    (volume.folder / "given/members").write_text("15 postgresql-0\n")
    assert volume.start().stdout == "upgraded from 15 to 17\npatroni: /configuration\n"
    assert [path.name for path in (volume.folder / "volume").iterdir()] == ["pgdata"]


def test_another_member_keeps_what_it_has_until_the_upgraded_one_answers(volume: Volume) -> None:
    volume.of("15")
    (volume.folder / "given/members").write_text("15 postgresql-0\n")
    done = volume.start(pod="postgresql-1")
    assert done.stdout.splitlines() == [
        "data of 15, to be copied anew from postgresql-0 once it answers",
        "patroni: /configuration",
    ]
    assert (volume.folder / "primary").exists() and not volume.data.exists()


def test_the_member_that_was_upgraded_never_lets_go_of_data_of_the_version_before(volume: Volume) -> None:
    volume.of("15")
    (volume.folder / "given/members").write_text("15 postgresql-0\n")
    assert volume.start().returncode == 1 and volume.data.exists()


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The script on a volume with data of 15, of which an upgrade has made data of 17 and begun to link."""
    upgrade = script()
    for name, folder in {
        "VOLUME": "",
        "DATA": "pgdata",
        "NEW": "pgdata.new",
        "OLD": "pgdata.old",
        "MARK": "upgrade",
    }.items():
        monkeypatch.setattr(upgrade, name, tmp_path / folder)
    for folder, version in ((upgrade.DATA, "15"), (upgrade.NEW, "17")):
        (folder / "global").mkdir(parents=True)
        (folder / "PG_VERSION").write_text(f"{version}\n")
    (upgrade.DATA / "global/pg_control.old").write_text("control of 15")
    upgrade.MARK.write_text("15 17 begun\n")
    return upgrade


@pytest.mark.parametrize("moment", ["linking", "between the names", "switched"])
def test_it_goes_back_from_any_moment(begun: types.ModuleType, moment: str) -> None:
    if moment != "linking":
        begun.DATA.rename(begun.OLD)
    if moment == "switched":
        begun.NEW.rename(begun.DATA)
        begun.MARK.write_text("15 17 switched\n")
    begun.back("15", "17")
    assert begun.version(begun.DATA) == "15"
    assert (begun.DATA / "global/pg_control").read_text() == "control of 15"
    assert [path.name for path in begun.VOLUME.iterdir()] == ["pgdata"]
    # And once more.
    begun.back("15", "17")


def test_there_is_no_way_back_once_it_was_started(begun: types.ModuleType) -> None:
    begun.MARK.unlink()
    begun.DATA.rename(begun.OLD)
    begun.NEW.rename(begun.DATA)
    with pytest.raises(SystemExit, match="there is no way back: PostgreSQL 17 has been started"):
        begun.back("15", "17")
    assert begun.version(begun.DATA) == "17" and begun.OLD.exists()


def test_the_question_to_the_primary_is_one_that_postgresql_answers() -> None:
    """Its keys are those that are judged."""
    text = (FILES / "upgrade/live.sql").read_text(encoding="utf-8")
    assert {key for key in found()["live"] if f"'{key}'," in text} == {*found()["live"]}

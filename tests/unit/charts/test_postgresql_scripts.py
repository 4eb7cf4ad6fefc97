"""What the scripts of the chart postgresql decide, with a pgbackrest that answers from a folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _version(monkeypatch):
    monkeypatch.setenv("PG_MAJOR", "17")


SCRIPTS = Path(__file__).resolve().parents[3] / "roles/data_services/files/charts/postgresql/files/scripts"


def script(name: str) -> types.ModuleType:
    module = types.ModuleType(name)
    exec(compile((SCRIPTS / name).read_text(encoding="utf-8"), name, "exec"), module.__dict__)  # noqa: S102 - our own
    return module


def info(code=0, backups=("000000020000000000000009",), archived=("000000020000000000000010",)):
    return [
        {
            "status": {"code": code},
            "db": [{"id": 1, "version": "17"}],
            "backup": [{"archive": {"stop": stop}, "database": {"id": 1}} for stop in backups],
            "archive": [{"max": segment, "database": {"id": 1}} for segment in archived],
        }
    ]


@pytest.mark.parametrize(
    ("stanzas", "command"),
    [
        ([], ["stanza-create"]),
        (info(code=1, backups=(), archived=()), ["stanza-create"]),
        (info(code=3, backups=(), archived=()), ["stanza-create"]),
        (info(code=2, backups=()), ["--type=full", "backup"]),
        (info(code=2, backups=(), archived=(None,)), ["--type=full", "backup"]),
        (info(), []),
        (info(archived=(None,)), []),
        # A primary has been lost since.
        (info(archived=("000000020000000000000010", "00000003000000000000000A")), ["--type=diff", "backup"]),
        (
            info(
                backups=("000000020000000000000009", "00000003000000000000000B"), archived=("0000000300000000000000AA",)
            ),
            [],
        ),
    ],
)
def test_the_repository_makes_what_is_missing(stanzas, command) -> None:
    assert script("repository").missing(stanzas, "17") == command


def test_a_repository_that_cannot_be_read_is_said_and_no_reason_for_a_backup(monkeypatch, capsys, tmp_path) -> None:
    """pgBackRest's info ends well even then, and lists no backup."""
    (stanza,) = info(code=99, backups=(), archived=())
    stanza["repo"] = [{"status": {"code": 99, "message": "[ProtocolError] NoSuchBucket"}}]
    repository = script("repository")
    called = []

    def pgbackrest(_, *arguments, **options):
        called.append(arguments)
        return subprocess.CompletedProcess(arguments, 0, json.dumps([stanza]))

    class Server:
        returncode = 0
        polls = iter([None, None, 0])

        def poll(self):
            return next(self.polls)

    monkeypatch.setattr(repository, "pgbackrest", pgbackrest)
    monkeypatch.setattr(repository.time, "sleep", lambda _: None)
    monkeypatch.setattr(repository, "CERTIFICATE", tmp_path / "tls.crt")
    (tmp_path / "tls.crt").write_text("one")
    repository.keep(Server(), "lambda")
    assert called == [("info", "--output=json")] * 2
    assert "the repository cannot be read: [ProtocolError] NoSuchBucket" in capsys.readouterr().out


def test_a_new_major_version_gets_its_place_in_the_repository_and_a_full_backup(monkeypatch) -> None:
    """What is of the version before stands beside it, on a timeline with a higher number."""
    (stanza,) = info(archived=("000000090000000000000010",), backups=("000000090000000000000009",))
    missing = script("repository").missing
    assert missing([stanza], "18") == ["stanza-upgrade"]
    stanza["db"].append({"id": 2, "version": "18"})
    assert missing([stanza], "18") == ["--type=full", "backup"]
    stanza["backup"].append({"archive": {"stop": "000000010000000000000012"}, "database": {"id": 2}})
    stanza["archive"].append({"max": "000000010000000000000013", "database": {"id": 2}})
    assert missing([stanza], "18") == []
    stanza["archive"][-1]["max"] = "000000020000000000000013"
    assert missing([stanza], "18") == ["--type=diff", "backup"]


def made(kind: str, days_ago: float = 0, delta: int = 0) -> dict:
    return {"type": kind, "timestamp": {"stop": NOW - days_ago * 86400}, "info": {"repository": {"delta": delta}}}


NOW = 1_800_000_000


@pytest.mark.parametrize(
    ("backups", "kind"),
    [
        ([], "full"),
        # The one after a change of the primary, with no full one before it: there is none to stand on.
        ([made("full", 7)], "full"),
        ([made("full", 8), made("diff", 1)], "full"),
        ([made("full", 6.4), made("diff", 1)], "diff"),
        # Of a week ago, but that run was late.
        ([made("full", 6.6)], "full"),
        ([made("full", 9), made("full", 2), made("diff", 1)], "diff"),
    ],
)
def test_a_full_backup_a_week_and_between_them_what_has_changed(backups, kind) -> None:
    assert script("repository").due(backups, NOW, 7) == kind


def test_with_a_full_backup_a_day_none_stands_on_another() -> None:
    assert script("repository").due([made("full", 1)], NOW, 1) == "full"


@pytest.mark.parametrize(
    ("backups", "kind", "size"),
    [
        ([], "full", 0),
        ([made("full", 8, 1000)], "full", 1200),
        ([made("full", 8, 1000)], "diff", 100),
        ([made("full", 8, 1000), made("diff", 1, 300)], "diff", 600),
    ],
)
def test_what_a_backup_takes_is_judged_by_those_before_it(backups, kind, size) -> None:
    assert script("repository").needed(backups, kind) == size


WAL = {
    f"0000000{timeline}00000000000000{place:02X}": place for timeline, place in ((1, 3), (1, 4), (2, 5), (2, 6), (2, 7))
}


@pytest.mark.parametrize(
    ("start", "times", "left", "newest", "found"),
    [
        ("000000010000000000000003", WAL, {1: 5}, 2, ("000000020000000000000007", None)),
        ("000000020000000000000006", WAL, {1: 5}, 2, ("000000020000000000000007", None)),
        # A gap before and behind the change of the timeline, and the beginning itself.
        ("000000010000000000000003", WAL.keys() - {"000000010000000000000004"}, {1: 5}, 2,
         ("000000010000000000000003", "000000010000000000000004")),
        ("000000010000000000000003", WAL.keys() - {"000000020000000000000005"}, {1: 5}, 2,
         ("000000010000000000000004", "000000020000000000000005")),
        ("000000010000000000000002", WAL, {1: 5}, 2, (None, "000000010000000000000002")),
        # What was written on the timeline that was left leads nowhere.
        ("000000010000000000000003", {**WAL, "000000010000000000000005": 5, "000000010000000000000006": 6}, {1: 5}, 2,
         ("000000020000000000000007", None)),
        # A timeline that has begun, and of which nothing is archived.
        ("000000020000000000000006", WAL, {1: 5, 2: 8}, 3, ("000000020000000000000007", None)),
        # Left twice in one segment.
        ("000000010000000000000003", {"000000010000000000000003": 3, "000000030000000000000004": 4}, {1: 4, 2: 4}, 3,
         ("000000030000000000000004", None)),
        # Of a timeline that nobody goes on from.
        ("000000020000000000000006", WAL, {1: 5}, 3, (None, "000000020000000000000006")),
        # Made before a restore to an earlier time, and behind it.
        ("000000010000000000000006", {**WAL, "000000010000000000000006": 6}, {1: 5}, 2,
         (None, "000000010000000000000006")),
        # Over the boundary of a log.
        ("0000000100000000000000FF", {"0000000100000000000000FF": 1, "000000010000000100000000": 2}, {}, 1,
         ("000000010000000100000000", None)),
    ],
)  # fmt: skip
def test_how_far_wal_reaches(start, times, left, newest, found) -> None:
    assert script("repository").reach(start, times, left, newest) == found


def test_a_gap_counts_when_it_is_seen_twice(monkeypatch) -> None:
    repository = script("repository")
    seen = iter(["A", "B", "B", None, "C"])
    monkeypatch.setattr(repository, "wal", lambda _: {"missing": next(seen)})
    gaps = repository.Gaps()
    looks = [gaps.look("lambda") for _ in range(5 * repository.LOOKS_FOR_A_GAP)]
    assert [look for look in looks if look] == ["B"]
    assert looks.index("B") == 3 * repository.LOOKS_FOR_A_GAP - 1


@pytest.mark.parametrize(("gib", "mib"), [(1, 32), (50, 1024), (300, 2048), (2000, 2048)])
def test_from_when_on_the_repository_makes_room(gib, mib) -> None:
    assert script("repository").low(gib << 30) >> 20 == mib


def test_a_backup_waits_for_another_and_fails_as_pgbackrest_does(monkeypatch) -> None:
    repository = script("repository")
    codes = iter([50, 50, 82])
    asked = []

    def pgbackrest(_, *arguments, **options):
        asked.append(arguments)
        return subprocess.CompletedProcess(arguments, next(codes) if "backup" in arguments else 0, "[]")

    monkeypatch.setattr(repository, "pgbackrest", pgbackrest)
    monkeypatch.setattr(repository, "room", lambda: None)
    monkeypatch.setattr(repository.time, "sleep", lambda _: None)
    with pytest.raises(SystemExit) as end:
        repository.backup("lambda")
    assert end.value.code == 82
    assert asked == [("info", "--output=json"), ("expire",), *[("--type=full", "backup")] * 3]


def test_a_repository_that_is_nearly_full_makes_room_before_anything_else(monkeypatch, tmp_path) -> None:
    repository = script("repository")
    asked = []

    class Server:
        returncode = 0
        polls = iter([None, None, 0])

        def poll(self):
            return next(self.polls)

    (tmp_path / "tls.crt").write_text("one")
    monkeypatch.setattr(repository, "CERTIFICATE", tmp_path / "tls.crt")
    monkeypatch.setattr(repository, "room", lambda: (300 << 30, 1 << 30))
    monkeypatch.setattr(repository, "make_room", lambda stanza, wanted: asked.append((stanza, wanted >> 30)))
    monkeypatch.setattr(repository.time, "sleep", lambda _: None)
    answer = subprocess.CompletedProcess((), 0, json.dumps(list(info())))
    monkeypatch.setattr(repository, "pgbackrest", lambda *arguments, **options: answer)
    repository.keep(Server(), "lambda")
    assert asked == [("lambda", 4)] * 2


def test_a_renewed_certificate_reaches_the_server_of_the_repository(monkeypatch, tmp_path) -> None:
    repository, sent = script("repository"), []

    class Server:
        returncode = 0
        looks = 0

        def poll(self):
            self.looks += 1
            if self.looks == 3:
                (tmp_path / "tls.crt").write_text("another")
            return None if self.looks < 6 else 0

        def send_signal(self, number):
            sent.append((self.looks, number))

    (tmp_path / "tls.crt").write_text("one")
    monkeypatch.setattr(repository, "CERTIFICATE", tmp_path / "tls.crt")
    monkeypatch.setattr(repository.time, "sleep", lambda _: None)
    answer = subprocess.CompletedProcess((), 0, json.dumps(list(info())))
    monkeypatch.setattr(repository, "pgbackrest", lambda *arguments, **options: answer)
    repository.keep(Server(), "lambda")
    assert sent == [(3, signal.SIGHUP)]


def test_a_program_that_reloads_is_told_of_a_changed_certificate_and_keeps_its_signals(tmp_path) -> None:
    text = (SCRIPTS / "reloading").read_text().replace("/certificate", str(tmp_path)).replace("sleep 5", "sleep 0.2")
    # In the pod the program is process 1.
    (tmp_path / "reloading").write_text(text.replace("kill -HUP 1", "kill -HUP $$"))
    for name in ("tls.crt", "ca.crt"):
        (tmp_path / name).write_text("one\ntwo\n")
    program = "trap 'echo reloaded' HUP; trap 'echo ended; exit 7' INT; while :; do sleep 0.1; done"
    command = ["sh", str(tmp_path / "reloading"), "sh", "-c", program]
    # A shell traps no signal that its parent ignored, as a shell's background jobs do with SIGINT.
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as running:
        signal.signal(signal.SIGINT, heard)
        try:
            time.sleep(2)
            (tmp_path / "ca.crt").write_text("one\nthree\n")
            assert running.stdout.readline() == "the certificate is read anew\n"
            assert running.stdout.readline() == "reloaded\n"
            running.send_signal(signal.SIGINT)
            assert running.stdout.readline() == "ended\n"
            assert running.wait(20) == 7
        finally:
            os.killpg(running.pid, signal.SIGKILL)


def members(**reasons):
    """Three of which those named have settings that wait for a restart: name -> {parameter: (old, new)}."""
    roles = {"postgresql_0": "replica", "postgresql_1": "leader", "postgresql_2": "sync_standby"}
    found = []
    for name, role in roles.items():
        member = {"name": name, "role": role, "state": "running" if role == "leader" else "streaming"}
        if name in reasons:
            told = {key: {"old_value": old, "new_value": new} for key, (old, new) in reasons[name].items()}
            member |= {"pending_restart": True, "pending_restart_reason": told}
        found.append(member)
    return found


MORE = {"max_connections": ("99", "200")}
LESS = {"max_connections": ("200", "99"), "shared_buffers": ("16MB", "32MB")}
OTHER = {"shared_buffers": ("512MB", "1GB")}


@pytest.mark.parametrize(
    ("reasons", "who"),
    [
        ({}, None),
        ({"postgresql_0": MORE, "postgresql_1": MORE, "postgresql_2": MORE}, "postgresql_0"),
        ({"postgresql_1": MORE, "postgresql_2": MORE}, "postgresql_2"),
        ({"postgresql_1": MORE}, "postgresql_1"),
        ({"postgresql_0": OTHER, "postgresql_1": OTHER}, "postgresql_0"),
        # A standby may not have less than the primary.
        ({"postgresql_0": LESS, "postgresql_1": LESS, "postgresql_2": LESS}, "postgresql_1"),
        ({"postgresql_0": LESS, "postgresql_2": LESS}, "postgresql_0"),
    ],
)
def test_members_are_restarted_for_settings_one_after_the_other(reasons, who) -> None:
    assert script("member").next_to_restart(members(**reasons)) == who


@pytest.mark.parametrize("state", ["starting", "start failed", "stopped", "in archive recovery"])
def test_nobody_is_restarted_while_a_member_is_not_well(state) -> None:
    """A setting with which PostgreSQL does not start stops at the first standby."""
    found = members(postgresql_1=OTHER, postgresql_2=OTHER)
    found[0]["state"] = state
    assert script("member").next_to_restart(found) is None


def test_a_restart_that_waits_without_a_reason_is_made() -> None:
    found = members(postgresql_1={})
    del found[1]["pending_restart_reason"]
    assert script("member").next_to_restart(found) == "postgresql_1"


@pytest.mark.parametrize(("pod", "asked"), [("postgresql_0", 1), ("postgresql_1", 0)])
def test_each_restarts_itself_alone(pod, asked, monkeypatch) -> None:
    member = script("member")
    called = []

    def call(method, path, body=None):
        if method == "POST":
            called.append((path, body))
        return 200, {"members": members(postgresql_0=OTHER, postgresql_1=OTHER)}

    monkeypatch.setattr(member, "call", call)
    monkeypatch.setenv("POD_NAME", pod)
    member.restart()
    assert called == [("/restart", {"restart_pending": True})] * asked


@pytest.fixture
def wal(tmp_path):
    """A pg_wal of a primary on timeline 3: 1 was left in segment 5, 2 in segment 8."""
    folder = tmp_path / "pg_wal"
    folder.mkdir()
    (folder / "00000002.history").write_text("1\t0/5000148\tno recovery target specified\n")
    (folder / "00000003.history").write_text(
        "1\t0/5000148\tno recovery target specified\n\n2\t0/8000060\tno recovery target specified\n"
    )
    for name in (
        "000000010000000000000003",
        "000000010000000000000004",
        "000000010000000000000005",  # goes on as that of timeline 2
        "000000020000000000000005",
        "000000020000000000000006",
        "000000020000000000000007",
        "000000020000000000000008",  # goes on as that of timeline 3
        "000000020000000000000009",  # of a primary that was cut off: nobody's history
        "000000030000000000000008",
        "000000030000000000000009",
        "000000020000000000000008.partial",
    ):
        (folder / name).write_text(name)
    return folder


def test_what_was_inherited_is_what_leads_to_the_present_timeline(wal) -> None:
    found = script("member").inherited(wal)
    assert found == [
        "000000020000000000000007",
        "000000020000000000000006",
        "000000020000000000000005",
        "000000010000000000000004",
        "000000010000000000000003",
    ]


def test_segments_are_counted_over_the_boundary_of_a_log(wal) -> None:
    (wal / "00000003.history").write_text("2\t2/1000000\tx\n")
    for name in ("0000000200000001000000FF", "000000020000000200000000", "000000020000000200000001"):
        (wal / name).write_text(name)
    assert script("member").inherited(wal)[:2] == ["000000020000000200000000", "0000000200000001000000FF"]


def test_a_first_primary_has_inherited_nothing(wal) -> None:
    for history in wal.glob("*.history"):
        history.unlink()
    assert script("member").inherited(wal) == []


@pytest.fixture
def archive(tmp_path, wal, monkeypatch):
    """``archive(*names, fails="")``: runs `member archive`; the segments pushed, and how it ended."""
    stored, pushed = tmp_path / "stored", tmp_path / "pushed"
    stored.mkdir()
    program = tmp_path / "bin" / "pgbackrest"
    program.parent.mkdir()
    program.write_text(f"""#!{sys.executable}
import os, pathlib, sys
command, name = sys.argv[2:4]
stored = pathlib.Path({str(stored)!r})
if command == "archive-get":
    if os.environ["FAILS"] == "get":
        sys.exit(103)
    if not (stored / name).exists():
        sys.exit(1)
    pathlib.Path(sys.argv[4]).write_bytes((stored / name).read_bytes())
else:
    name = pathlib.Path(name).name
    if os.environ["FAILS"] == name:
        sys.exit(82)
    (stored / name).write_text("")
    open({str(pushed)!r}, "a").write(name[7:8] + name[-1] + " ")
""")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    def run(*names: str, fails: str = "") -> tuple[str, str]:
        for name in names:
            (stored / name).write_text("")
        pushed.write_text("")
        monkeypatch.setenv("FAILS", fails)
        said = ""
        try:
            script("member").archive(wal, tmp_path / "copy")
        except SystemExit as end:
            said = str(end.code)
        return pushed.read_text().strip(), said

    return run


def test_what_the_archive_lacks_is_archived_in_order_from_behind_what_it_has(archive) -> None:
    assert archive("000000020000000000000005", "000000010000000000000004") == ("26 27", "")
    assert archive() == ("", "")


def test_what_was_cut_short_is_found_and_finished(archive) -> None:
    pushed, said = archive("000000010000000000000003", fails="000000020000000000000006")
    assert pushed == "14 25"
    assert said == "000000020000000000000006, of an earlier primary, cannot be archived"
    assert archive() == ("26 27", "")


def test_an_archive_that_does_not_answer_is_no_empty_one(archive) -> None:
    assert archive(fails="get") == ("", "the archive cannot be asked")


@pytest.mark.parametrize(
    ("moment", "options"),
    [
        ("", []),
        ("2026-11-24 10:30:00+00", ["--type=time", "--target=2026-11-24 10:30:00+00", "--target-action=promote"]),
    ],
)
def test_a_copy_is_restored_once_and_served_without_an_archive(tmp_path, moment, options) -> None:
    said = tmp_path / "said"
    for program in (tmp_path / "bin/pgbackrest", tmp_path / "programs/15/bin/postgres"):
        program.parent.mkdir(parents=True)
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" {program.name} "$@" >> {said}\n')
        program.chmod(0o755)
    # The backup is of an earlier version than the cluster may be by now.
    (tmp_path / "pgdata").mkdir()
    (tmp_path / "pgdata/PG_VERSION").write_text("15\n")
    copy = tmp_path / "bin" / "restored"
    text = (SCRIPTS / "restored").read_text(encoding="utf-8").replace("/var/lib/postgresql/data", str(tmp_path))
    copy.write_text(text.replace("/usr/lib/postgresql", f"{tmp_path}/programs"))
    environment = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "PGBACKREST_STANZA": "lambda"}
    for _ in range(2):  # its container ends and starts again
        subprocess.run(["sh", copy, "20261124-132144F", moment], env=environment, check=True)
    lines = said.read_text().splitlines()
    assert lines[: len(options) + 5] == [
        *("pgbackrest", "--stanza=lambda", "--delta", "--set=20261124-132144F", *options, "restore"),
    ]
    assert (lines.count("pgbackrest"), lines.count("postgres"), lines.count("archive_mode=off")) == (1, 2, 2)


def test_the_scripts_are_clean() -> None:
    shellcheck = subprocess.run(
        ["shellcheck", "--shell=sh", *(str(SCRIPTS / name) for name in ("start-postgresql", "steward", "restored"))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert shellcheck.returncode == 0, shellcheck.stdout
    for name in ("member", "repository"):
        compile((SCRIPTS / name).read_text(encoding="utf-8"), name, "exec")


@pytest.fixture
def restore_wal(tmp_path, monkeypatch):
    """``restore_wal(code)``: runs `restore-wal` with an archive that ends so; its exit code, and whether it asked."""
    asked = tmp_path / "asked"
    program = tmp_path / "pgbackrest"
    program.write_text(f"#!/bin/sh\n: > {asked}\nexit $CODE\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    def run(code: int) -> tuple[int, bool]:
        asked.unlink(missing_ok=True)
        command = ["sh", str(SCRIPTS / "restore-wal"), "000000010000000000000001", "pg_wal/RECOVERYXLOG"]
        done = subprocess.run(command, env={**os.environ, "CODE": str(code)}, check=False)
        return done.returncode, asked.exists()

    return run


def test_a_standby_takes_the_archives_word(restore_wal) -> None:
    assert restore_wal(0) == (0, True)
    assert restore_wal(1) == (1, True)
    assert restore_wal(0) == (0, True)


def test_a_standby_does_not_wait_again_for_an_archive_that_did_not_answer(restore_wal, tmp_path) -> None:
    """More than 125 would end the standby."""
    assert restore_wal(124) == (1, True)
    assert restore_wal(0) == (1, False)
    long_ago = time.time() - 11
    os.utime(tmp_path / "archive-away", (long_ago, long_ago))
    assert restore_wal(0) == (0, True)


@pytest.fixture
def heal(tmp_path, monkeypatch):
    """``heal(state, *others)``: a look at a member of that state; what was asked of Patroni to be changed."""
    member = script("member")
    monkeypatch.setattr(member, "FAILED", tmp_path / "failed")
    monkeypatch.setattr(member, "COPIES", tmp_path / "copies")

    def look(state: str, *others: str) -> list[str]:
        changed = []

        def call(method, path, body=None):
            if method == "POST":
                changed.append(path)
                return 200, "reinitialize started"
            if path == "/patroni":
                return 503, {"state": state}
            return 200, {"members": [{"state": other} for other in (state, *others)]}

        monkeypatch.setattr(member, "call", call)
        member.heal()
        return changed

    return look


def test_a_standby_that_does_not_start_is_copied_anew_at_the_third_look(heal) -> None:
    looks = [heal("start failed", "running", "streaming") for _ in range(4)]
    assert looks == [[], [], ["/reinitialize"], []]


def test_a_standby_that_never_starts_is_copied_a_bounded_number_of_times_a_day(heal, tmp_path, capsys) -> None:
    """Each copy is all of the data over the network, and reads all of the primary's disk."""
    looks = [heal("start failed", "running", "streaming") for _ in range(15)]
    assert looks == [[], [], ["/reinitialize"]] * 3 + [[]] * 6
    assert "it was copied anew 3 times within a day, and no more is tried" in capsys.readouterr().out
    # Those of yesterday do not count.
    moments = [float(line) - 90000 for line in (tmp_path / "copies").read_text().split()]
    (tmp_path / "copies").write_text("".join(f"{moment}\n" for moment in moments))
    assert heal("start failed", "running", "streaming") == ["/reinitialize"]


@pytest.mark.parametrize("paused", [True, False, None])
def test_a_pause_survives_a_change_of_settings(paused, monkeypatch, tmp_path) -> None:
    member = script("member")
    put = []
    present = {"ttl": 30} | ({} if paused is None else {"pause": paused})

    def call(method, path, body=None):
        if method == "PUT":
            put.append(body)
        return 200, present

    monkeypatch.setattr(member, "call", call)
    (tmp_path / "settings.json").write_text('{"ttl": 20}')
    member.settings(tmp_path / "settings.json")
    assert put == [{"ttl": 20} | ({} if paused is None else {"pause": paused})]
    put.clear()
    present["ttl"] = 20
    member.settings(tmp_path / "settings.json")
    assert put == []


def test_a_standby_that_starts_in_between_is_left_alone(heal) -> None:
    states = ["start failed", "start failed", "streaming", "start failed", "start failed"]
    assert [heal(state, "running", "streaming") for state in states] == [[]] * 5


@pytest.mark.parametrize("others", [("running",), ("streaming",), ("running", "start failed")])
def test_a_standby_is_not_copied_anew_while_nobody_else_has_all_of_it(heal, others, capsys) -> None:
    assert [heal("start failed", *others) for _ in range(4)] == [[]] * 4
    assert "has no other that streams" in capsys.readouterr().out


@pytest.mark.parametrize(("second", "candidate"), [("sync_standby", {"candidate": "postgresql-1"}), ("replica", {})])
def test_a_primary_hands_over_to_the_synchronous_standby_by_name(monkeypatch, second, candidate) -> None:
    member = script("member")
    asked = []
    members = [
        {"name": "postgresql-0", "role": "leader", "state": "running"},
        {"name": "postgresql-1", "role": second, "state": "streaming"},
        {"name": "postgresql-2", "role": "replica", "state": "streaming"},
    ]

    def call(method, path, body=None):
        if path == "/switchover":
            asked.append(body)
            return 412, "no"
        return 200, {"role": "primary", "members": members}

    monkeypatch.setattr(member, "call", call)
    monkeypatch.setenv("POD_NAME", "postgresql-0")
    member.hand_over()
    assert asked == [{"leader": "postgresql-0"} | candidate]

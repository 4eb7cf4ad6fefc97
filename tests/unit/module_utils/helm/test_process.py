"""Which process works on a release, and how those end that we start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import concurrently
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm import process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are looked at in /proc")


def test_a_process_is_known_to_be_alive_or_dead() -> None:
    script = "import sys; print('ready', flush=True); sys.stdin.read()"
    machine = process.this_run().split(".")[0]
    child = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdout.readline()
    run = "%s.%d.%s" % (machine, child.pid, process._state(child.pid)[1])
    assert process.is_alive(run) is True
    assert process.is_alive("%s.%d.%s" % (machine, child.pid, "1")) is False  # the process id was used again
    child.communicate()
    assert process.is_alive(run) is False
    assert process.is_alive("000000000000.%d.1" % os.getpid()) is None  # another machine
    assert process.is_alive("nonsense") is None


def test_an_orphaned_helm_of_a_dead_run_counts_as_alive() -> None:
    run = "%s.999999999.1" % process.this_run().split(".")[0]
    script = "import sys; print('ready', flush=True); sys.stdin.read()"
    environment = {**os.environ, process.RUN_VARIABLE: run}
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    child.stdout.readline()
    assert process.is_alive(run) is True
    child.communicate()
    assert process.is_alive(run) is False


def test_a_dead_process_that_nobody_asked_for_is_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.DEVNULL)
    until = time.monotonic() + 10
    while process._state(child.pid)[0] != "Z":
        assert time.monotonic() < until
        time.sleep(0.02)
    run = "%s.%d.%s" % (process.this_run().split(".")[0], child.pid, process._state(child.pid)[1])
    assert process.is_alive(run) is False
    child.wait()


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /proc of a user who is not root, in which process 1 is another user's."""
    (tmp_path / "sys/kernel/random").mkdir(parents=True)
    (tmp_path / "sys/kernel/random/boot_id").write_text("boot\n")
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "self/ns/pid").symlink_to("pid:[1]")
    (tmp_path / "self/mountinfo").write_text("22 1 0:5 / /proc rw shared:1 - proc proc rw\n")
    me = os.getpid()
    for pid in (1, me, 77):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text("%d (helm (x)) S %s" % (pid, " ".join(map(str, range(4, 53)))))
        (tmp_path / str(pid) / "environ").write_bytes(b"A=b\0")
        (tmp_path / str(pid) / "cmdline").write_bytes(b"sleep\0300\0")
    monkeypatch.setattr(process, "_PROC", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    return tmp_path


def dead_run() -> str:
    return "%s.999999.1" % process._machine()


def refuse(monkeypatch: pytest.MonkeyPatch, name: str, error: type[OSError]) -> None:
    read = process._read

    def refusing(path: str) -> bytes:
        if path.endswith(name):
            raise error(path)
        return read(path)

    monkeypatch.setattr(process, "_read", refusing)


def test_a_run_whose_processes_all_could_be_seen_is_dead(proc: Path) -> None:
    assert process.is_alive(dead_run()) is False


@pytest.mark.parametrize("error", [FileNotFoundError, PermissionError])  # hidepid=2 and 4, and hidepid=1
def test_where_processes_are_hidden_it_is_unknown(proc: Path, monkeypatch: pytest.MonkeyPatch, error: type) -> None:
    refuse(monkeypatch, "/1/stat", error)
    assert process.is_alive(dead_run()) is None


@pytest.mark.parametrize(
    ("option", "known"), [("hidepid=2", None), ("hidepid=invisible", None), ("hidepid=off", False)]
)
def test_in_a_container_of_ones_own_the_mount_tells(proc: Path, monkeypatch, option: str, known: bool | None) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: (proc / "1").stat().st_uid or 4711)
    if os.getuid() == 0:
        os.chown(proc / "1", 4711, -1)
    (proc / "self/mountinfo").write_text("22 1 0:5 / /proc rw shared:1 - proc proc rw,%s\n" % option)
    assert process.is_alive(dead_run()) is known


@pytest.mark.parametrize(("command", "known"), [(b"helm\0upgrade\0w", None), (b"sleep\0300", False)])
def test_another_users_process_matters_if_it_may_be_a_helm(proc: Path, monkeypatch, command, known) -> None:
    refuse(monkeypatch, "/77/environ", PermissionError)
    (proc / "77/cmdline").write_bytes(command)
    assert process.is_alive(dead_run()) is known


STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"


@pytest.mark.parametrize("program", ["import time; time.sleep(60)", STUBBORN])
def test_a_program_that_takes_too_long_is_ended(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "ENDING_SECONDS", 0.5)
    began = time.monotonic()
    code, _output, _errors = process.run([sys.executable, "-c", program], dict(os.environ), "", 1)
    assert code is None and time.monotonic() - began < 10


def test_who_is_late_to_read_gets_all_of_much_text() -> None:
    """Later than the first look at it; a pipe holds 64 KiB."""
    program = "import sys, time; time.sleep(1); print(len(sys.stdin.read()))"
    assert process.run([sys.executable, "-c", program], dict(os.environ), "x" * 100_000, 20)[:2] == (0, "100000\n")


def test_who_reads_nothing_of_it_ends_by_itself() -> None:
    assert process.run([sys.executable, "-c", "pass"], dict(os.environ), "x" * 1_000_000, 20) == (0, "", "")


def test_much_text_goes_in_and_out() -> None:
    text = "x" * 1_000_000
    program = "import sys; text = sys.stdin.read(); print(text, end=''); print(len(text), file=sys.stderr)"
    assert process.run([sys.executable, "-c", program], dict(os.environ), text, 60) == (0, text, "1000000\n")


@pytest.mark.parametrize("number", [1, 3])
def test_what_interrupts_the_run_ends_its_programs(number: int, tmp_path: Path) -> None:
    """As Ansible does it: the handler of an alarm raises in the main thread."""
    program = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)"
    files = [tmp_path / str(index) for index in range(number)]

    def interrupt(_number: int, _frame: object) -> None:
        if not all(file.exists() and file.read_text() for file in files):
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            return
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            concurrently(
                lambda file: process.run([sys.executable, "-c", program, str(file)], dict(os.environ), "", 60), files
            )
    finally:
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - began < 20
    for file in files:
        with pytest.raises(ProcessLookupError):
            os.kill(int(file.read_text()), 0)

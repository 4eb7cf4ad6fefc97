"""Nothing that was started is left when its task is ended."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils import programs as programs_module
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.programs import Programs

# A build has others work for it; each notes itself.
FAMILY = 'sleep 600 & echo $! > "$0/child"; echo $$ > "$0/leader"; wait'
STUBBORN = 'trap "" TERM; sleep 600 & echo $! > "$0/child"; echo $$ > "$0/leader"; while :; do sleep 0.1; done'


class Stop(BaseException):
    """What Ansible raises from an alarm is no Exception either."""


def members(folder: Path) -> list[int]:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        texts = [(folder / name).read_text() for name in ("child", "leader") if (folder / name).exists()]
        if len(texts) == 2 and all(texts):
            return [int(text) for text in texts]
        time.sleep(0.01)
    raise AssertionError("the program did not start")


def runs(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def gone(folder: Path) -> bool:
    """Whether they end; one that is killed is not gone at once."""
    deadline = time.monotonic() + 10
    while any(map(runs, members(folder))):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@pytest.fixture
def stopped_when_it_runs(tmp_path):
    """An alarm, as Ansible's for ``timeout:``, that raises Stop once the family is there."""

    def on_alarm(number, frame):
        raise Stop

    def watch():
        members(tmp_path)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, on_alarm)
    thread = threading.Thread(target=watch)
    thread.start()
    yield
    thread.join()
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("way", ["run", "follow"])
def test_an_interrupted_program_ends_with_all_that_it_started(tmp_path, stopped_when_it_runs, way):
    began = time.monotonic()
    with pytest.raises(Stop), Programs() as programs:
        if way == "run":
            programs.run(["sh", "-c", FAMILY, str(tmp_path)])
        else:
            programs.follow(["sh", "-c", FAMILY, str(tmp_path)], lambda line: None)
    assert gone(tmp_path)
    assert time.monotonic() - began < 30


def test_what_does_not_listen_is_killed_after_the_grace(tmp_path, stopped_when_it_runs, monkeypatch):
    monkeypatch.setattr(programs_module, "GRACE_SECONDS", 0.5)
    with pytest.raises(Stop), Programs() as programs:
        programs.run(["sh", "-c", STUBBORN, str(tmp_path)])
    assert gone(tmp_path)


def test_those_of_a_pools_threads_end_and_no_more_are_started(tmp_path, stopped_when_it_runs):
    """The main thread is the one that is interrupted; the threads wait for their programs."""
    programs, errors = Programs(), []

    def work(number):
        try:
            programs.run(["sh", "-c", FAMILY, str(tmp_path)])
            programs.run(["touch", str(tmp_path / "more")])
        except PlatformError as error:
            errors.append(error)

    began = time.monotonic()
    with pytest.raises(Stop), ThreadPoolExecutor(2) as pool, programs:
        list(pool.map(work, range(6)))
    assert gone(tmp_path)
    assert not (tmp_path / "more").exists()
    assert {error.reason for error in errors} == {"interrupted"}
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("way", ["run", "follow"])
def test_a_time_limit_ends_the_group(tmp_path, way):
    argv = ["sh", "-c", FAMILY, str(tmp_path)]
    with pytest.raises(PlatformError, match=r"took longer than 0\.5 s and was ended") as caught:
        if way == "run":
            Programs().run(argv, timeout_seconds=0.5)
        else:
            Programs().follow(argv, lambda line: None, timeout_seconds=0.5)
    assert caught.value.reason == "timeout"
    assert gone(tmp_path)


def test_a_program_in_the_background_outlives_the_one_that_ended_well(tmp_path):
    """The local cluster's Docker is one. That it keeps the output open holds nobody up."""
    lines = []
    code = Programs().follow(["sh", "-c", 'sleep 600 & echo $! > "$0/child"; echo done', str(tmp_path)], lines.append)
    child = int((tmp_path / "child").read_text())
    assert (code, lines, runs(child)) == (0, ["done\n"], True)
    os.kill(child, signal.SIGKILL)


def test_what_cannot_be_started_is_named(tmp_path):
    programs = Programs()
    with pytest.raises(PlatformError, match=r"^no-such-program is missing\. To do: install it"):
        programs.run(["no-such-program"])
    with pytest.raises(PlatformError, match=r"the folder to run true in is missing\. Where: /nowhere"):
        programs.run(["true"], "/nowhere")
    (tmp_path / "text").write_text("no program")
    with pytest.raises(PlatformError, match=r"text cannot be started\. Found: .*Permission denied"):
        programs.run([str(tmp_path / "text")])


def test_output_errors_and_exit_code(tmp_path):
    done = Programs().run(["sh", "-c", 'pwd; echo "$A" >&2; exit 3'], tmp_path, {"A": "b"})
    assert (done.stdout, done.stderr, done.returncode) == (f"{tmp_path}\n", "b\n", 3)
    lines = []
    assert Programs().follow(["sh", "-c", "echo a; echo b >&2; exit 4"], lines.append) == 4
    assert lines == ["a\n", "b\n"]

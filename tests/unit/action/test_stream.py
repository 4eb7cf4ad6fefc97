"""stream in real runs of ansible-playbook: what is shown, and that nothing is left of what was started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
# A build that has another process work for it, in the background, where a shell ignores Ctrl-C.
BUILD = ["sh", "-c", 'echo begun; sleep 600 & echo $! > "$0/child"; echo $$ > "$0/leader"; wait']


@pytest.fixture
def playbook(tmp_path):
    def write(argv, task=None, options=(), **arguments):
        module = {"argv": argv, **arguments}
        tasks = [{"lambda_microservice.platform.stream": module, **(task or {})}]
        (tmp_path / "play.yml").write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "-c", "local"]
        settings = {
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_NOCOLOR": "1",
        }
        return {"args": [*command, *options, "play.yml"], "cwd": tmp_path, "env": {**os.environ, **settings}}

    return write


def ran(command):
    return subprocess.run(**command, capture_output=True, text=True, timeout=120)


def runs(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def started(folder: Path) -> list[int]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        texts = [(folder / name).read_text() for name in ("child", "leader") if (folder / name).exists()]
        if len(texts) == 2 and all(texts):
            return [int(text) for text in texts]
        time.sleep(0.05)
    raise AssertionError("the command was not started")


def gone(processes: list[int]) -> bool:
    deadline = time.monotonic() + 20
    while any(map(runs, processes)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_lines_are_shown_and_kept(playbook):
    done = ran(playbook(["sh", "-c", "echo one; printf '\\033[1mtwo\\033[0m\\r\\n'; echo three >&2"]))
    assert done.returncode == 0, done.stdout
    assert "  one\n  two\n  three\n" in done.stdout
    assert "changed=1" in done.stdout


def test_no_log_shows_no_line(playbook):
    done = ran(playbook(["sh", "-c", "echo sesame; exit 1"], {"no_log": True}))
    assert done.returncode == 2
    assert "sesame" not in done.stdout + done.stderr


def test_a_failure_shows_the_last_lines(playbook):
    done = ran(playbook(["sh", "-c", "echo no room left; exit 3"]))
    assert done.returncode == 2
    assert "sh ended with 3. Its last lines: \\nno room left" in done.stdout


def test_a_program_that_is_missing_is_named(playbook):
    done = ran(playbook(["no-such-program"]))
    assert done.returncode == 2
    assert "no-such-program is missing. To do: install it and put it on PATH." in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_check_mode_runs_only_what_is_meant_for_it(playbook, tmp_path):
    done = ran(playbook(["touch", "made"], options=["--check"], chdir=str(tmp_path)))
    assert done.returncode == 0 and not (tmp_path / "made").exists()
    assert "skipped=1" in done.stdout
    done = ran(playbook(["touch", "made"], options=["--check"], check_argv=["echo", "would be made"]))
    assert "  would be made\n" in done.stdout and "changed=1" in done.stdout


def test_its_own_time_limit_ends_all(playbook, tmp_path):
    done = ran(playbook([*BUILD, str(tmp_path)], timeout_seconds=2))
    assert gone(started(tmp_path))
    assert done.returncode == 2
    assert "sh took longer than 2 s and was ended. Its last lines: \\nbegun" in done.stdout


def test_ansibles_time_limit_ends_all(playbook, tmp_path):
    began = time.monotonic()
    done = ran(playbook([*BUILD, str(tmp_path)], {"timeout": 4}))
    assert gone(started(tmp_path))
    assert done.returncode == 2
    assert "Timed out after 4 second(s)" in done.stdout + done.stderr
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all(playbook, tmp_path, number):
    """Ctrl-C reaches the process group of ansible-playbook, which its workers are not in."""
    run = subprocess.Popen(
        **playbook([*BUILD, str(tmp_path)]),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    processes = started(tmp_path)
    os.killpg(run.pid, number)
    assert run.wait(60) != 0
    assert gone(processes)

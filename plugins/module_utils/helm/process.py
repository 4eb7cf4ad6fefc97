# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that work on releases: which one made a record, whether it still runs, and how ours end."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import threading
import time
from typing import IO

from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import sleep

RUN_VARIABLE = "LAMBDA_PLATFORM_RUN"
"""In the environment of each helm that a run starts: the name of the run."""

ENDING_SECONDS = 4.0
"""How long a helm that was asked to end may take. It marks its release as failed then; killed, it leaves it pending."""

_LOOK_SECONDS = 0.2
_PROC = "/proc"
_WRITING = (b"install", b"upgrade", b"rollback", b"uninstall", b"delete")


# --- who is at work ---------------------------------------------------------------------------------------------------


def _state(pid: int) -> tuple[str, str]:
    """State and start time of a process (proc_pid_stat(5), fields 3 and 22): a reused process id has another time."""
    with open("%s/%d/stat" % (_PROC, pid), encoding="utf-8", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return fields[0], fields[19]


def _machine() -> str:
    """This machine since its boot, and in it this space of process ids."""
    with open(_PROC + "/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot = file.read().strip()
    return hashlib.sha256((boot + os.readlink(_PROC + "/self/ns/pid")).encode()).hexdigest()[:12]


def this_run() -> str:
    """A name for this process, fit for a label value: machine (and its boot), process id, start time."""
    try:
        return "%s.%d.%s" % (_machine(), os.getpid(), _state(os.getpid())[1])
    except (OSError, IndexError):
        return ""


def is_alive(run: str) -> bool | None:
    """Whether the process that :func:`this_run` named, or a helm that it started, still runs.

    None if that is unknown: it is another machine's, or this user may not see every process.
    """
    try:
        machine, pid, started = run.split(".")
        if machine != _machine():
            return None
        if run != this_run() and _runs(int(pid), started):
            return True
        return _is_someone_at_work(("%s=%s" % (RUN_VARIABLE, run)).encode())
    except (OSError, ValueError, IndexError):
        return None


def _runs(pid: int, started: str) -> bool:
    try:
        state, since = _state(pid)
    except FileNotFoundError:
        return False
    # A dead process whose parent has not asked for it does nothing more.
    return since == started and state not in "ZX"


def _is_someone_at_work(mark: bytes) -> bool | None:
    unknown = not _sees_all_processes()
    for name in os.listdir(_PROC):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            if mark in _read("%s/%s/environ" % (_PROC, name)).split(b"\0"):
                return True
        except PermissionError:
            # Somebody else's process. It can only matter if it is a helm.
            unknown = unknown or _may_be_helm(name)
        except OSError:
            continue
    return None if unknown else False


def _may_be_helm(pid: str) -> bool:
    try:
        arguments = _read("%s/%s/cmdline" % (_PROC, pid)).split(b"\0")
    except OSError:
        return True
    return any(word in _WRITING for word in arguments[1:])


def _sees_all_processes() -> bool:
    """Whether /proc is mounted so that this user sees the processes of others (proc(5), hidepid)."""
    if os.geteuid() == 0:
        return True
    try:
        _read(_PROC + "/1/stat")
        if os.stat(_PROC + "/1").st_uid != os.geteuid():
            return True
        mounts = _read(_PROC + "/self/mountinfo").decode(errors="replace").splitlines()
    except OSError:
        return False
    options = [line.split(" - ")[-1] for line in mounts if line.split()[4:5] == ["/proc"]]
    return not any("hidepid=" in text and "hidepid=off" not in text and "hidepid=0" not in text for text in options)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


# --- how ours run and end ---------------------------------------------------------------------------------------------


class _Program(subprocess.Popen[str]):
    """A program that is given a text and says texts, in the environment that it is given and no other."""

    def __init__(self, argv: list[str], environment: dict[str, str]) -> None:
        super().__init__(
            argv,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
        )

    def end(self) -> None:
        """Ask it to end, and kill it where it takes too long."""
        self.terminate()
        try:
            # Its pipes are read on: it may have more to say than they hold.
            self.communicate(timeout=ENDING_SECONDS)
        except (subprocess.TimeoutExpired, ValueError):
            self.kill()
            self.wait()


def run(
    argv: list[str], environment: dict[str, str], stdin: str, timeout_seconds: float
) -> tuple[int | None, str, str]:
    """Run a program: its exit code (None if it took longer and was ended), stdout and stderr. What interrupts us (a
    signal, a task's time limit) ends it too.
    """
    process = _Program(argv, environment)
    # By a thread: communicate() called again after its time writes no more of what it was given first (CPython before
    # 3.15), and a program that was slow to read more than a pipe holds would wait for ever.
    pipe, process.stdin = process.stdin, None
    threading.Thread(target=_feed, args=(pipe, stdin), daemon=True).start()
    ends = time.monotonic() + timeout_seconds
    try:
        while True:
            # In a thread of ours only a look tells that whoever waits for it has been interrupted.
            sleep(0)
            left = ends - time.monotonic()
            try:
                output, errors = process.communicate(timeout=max(0.0, min(_LOOK_SECONDS, left)))
                return process.returncode, output, errors
            except subprocess.TimeoutExpired:
                if left <= 0:
                    process.end()
                    output, errors = process.communicate()
                    return None, output, errors
    except BaseException:
        process.end()
        raise


def _feed(pipe: IO[str] | None, text: str) -> None:
    # A program that ends without reading closes its end.
    with contextlib.suppress(OSError):
        if pipe is not None:
            with pipe:
                pipe.write(text)

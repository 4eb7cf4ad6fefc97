# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that do not outlive what started them.

A task ends early by an exception in the main thread: Ansible's TaskTimeoutError for its ``timeout:``, and Interrupted
for Ctrl-C and TERM (interruption.py). A build has started others by then, so its whole process group is ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError

_LAST_WORDS_SECONDS = 2
"""For the lines that a program has written when it has ended."""

GRACE_SECONDS = 5
"""From TERM to KILL. Ansible waits 10 s for its workers after Ctrl-C, then they are ended too."""


class Program(subprocess.Popen[str]):
    """A program that leads a process group of its own, which whatever it starts belongs to. Its output is text."""

    def __init__(
        self,
        argv: Sequence[str],
        folder: Path | str | None = None,
        environment: Mapping[str, str] | None = None,
        stdout: int | IO[Any] = subprocess.PIPE,
        stderr: int | IO[Any] = subprocess.PIPE,
    ) -> None:
        super().__init__(
            argv,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            text=True,
            errors="replace",
            # No terminal either, that it could ask for a password.
            start_new_session=True,
        )


class Programs:
    """Starts programs, from any thread, and ends those that still run when its block is left by an exception.

    The block belongs inside that of a pool whose threads start them: ``with pool, programs:``. The pool waits for
    its threads, and they for their programs.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[Program] = set()
        self._over = False

    def __enter__(self) -> Programs:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None:
            self.end()

    def end(self) -> None:
        """End all that runs, and start nothing more."""
        with self._lock:
            self._over = True
            running = list(self._running)
        end_groups(running)

    def run(
        self,
        argv: Sequence[str],
        folder: Path | str | None = None,
        environment: Mapping[str, str] | None = None,
        timeout_seconds: float | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run the program to its end; ``environment`` is added to that of this process.

        Raises PlatformError where it cannot be started or takes longer than that (reason ``timeout``).
        """
        with self._process(argv, folder, environment, subprocess.PIPE) as process:
            try:
                output, errors = process.communicate(timeout=timeout_seconds)
            except subprocess.TimeoutExpired as failure:
                raise _took_too_long(argv, timeout_seconds) from failure
        return subprocess.CompletedProcess(list(argv), process.returncode, output, errors)

    def follow(
        self,
        argv: Sequence[str],
        line: Callable[[str], None],
        folder: Path | str | None = None,
        environment: Mapping[str, str] | None = None,
        timeout_seconds: float | None = None,
    ) -> int:
        """As ``run``, but ``line`` gets each line of its output and errors as it comes. The exit code."""
        with self._process(argv, folder, environment, subprocess.STDOUT) as process:

            def read(output: IO[str]) -> None:
                with output:
                    for text in output:
                        line(text)

            # In a thread, as a program in the background that it leaves behind may keep the stream open for ever.
            reader = threading.Thread(target=read, args=(process.stdout,), daemon=True)
            reader.start()
            try:
                code = process.wait(timeout_seconds)
            except subprocess.TimeoutExpired as failure:
                raise _took_too_long(argv, timeout_seconds) from failure
            reader.join(_LAST_WORDS_SECONDS)
        return code

    @contextlib.contextmanager
    def _process(
        self,
        argv: Sequence[str],
        folder: Path | str | None,
        environment: Mapping[str, str] | None,
        stderr: int,
    ) -> Iterator[Program]:
        def start() -> None:
            with self._lock:
                if self._over:
                    raise PlatformError("%s was not started: the task was ended" % argv[0], reason="interrupted")
                started.append(Program(argv, folder, environment, stderr=stderr))
                self._running.add(started[0])

        started: list[Program] = []
        try:
            _uninterrupted(start)
        except FileNotFoundError as failure:
            if folder is not None and not os.path.isdir(folder):
                raise PlatformError(
                    "the folder to run %s in is missing" % argv[0], where=str(folder), reason="argument"
                ) from failure
            raise PlatformError(
                "%s is missing" % argv[0], fix="install it and put it on PATH", reason="program"
            ) from failure
        except OSError as error:
            raise PlatformError("%s cannot be started" % argv[0], found=str(error), reason="program") from error
        process = started[0]
        try:
            yield process
        except BaseException:
            end_groups([process])
            raise
        finally:
            with self._lock:
                self._running.discard(process)


def _uninterrupted(function: Callable[[], None]) -> None:
    """Call it in a thread, where what interrupts the main thread cannot: a program would be started and not noted."""
    errors: list[BaseException] = []

    def call() -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def _took_too_long(argv: Sequence[str], seconds: float | None) -> PlatformError:
    return PlatformError("%s took longer than %g s and was ended" % (" ".join(argv), seconds or 0), reason="timeout")


def end_groups(processes: Sequence[Program]) -> None:
    """TERM to the process group that each of them leads, and KILL to what is left of it after the grace."""
    left = list(processes)
    try:
        left = [process for process in left if _signalled(process, signal.SIGTERM)]
        ends = time.monotonic() + GRACE_SECONDS
        while left and time.monotonic() < ends:
            time.sleep(0.05)
            left = [process for process in left if _signalled(process, 0)]
    finally:
        for process in left:
            _signalled(process, signal.SIGKILL)
            process.wait()


def _signalled(process: Program, number: int) -> bool:
    """Whether the group is still there to get the signal."""
    # Reaped here, so that a leader that has ended does not count as one that runs.
    process.poll()
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True

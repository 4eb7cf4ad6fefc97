# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ctrl-C and TERM as an exception, so that what was started or broken is ended and mended before the process goes."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any


class Interrupted(BaseException):
    """Ctrl-C or a TERM signal, whose ``number`` it has."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


_NUDGE = signal.SIGURG
"""Does nothing where no handler is, so the programs that are started do not care for it."""

_NUDGES_AFTER_SECONDS = (0.01, 0.1, 0.5, 1, 2, 4)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Turn the first signal that would end this process into Interrupted and hold back further ones until the end of
    the block. Ansible's own handler in a worker ends it at once: no ``finally`` would run.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)

    def interrupt(number: int, frame: Any) -> None:
        for other in numbers:
            signal.signal(other, signal.SIG_IGN)
        raise Interrupted(number)

    with _signals_wake_waits():
        before = {number: signal.signal(number, interrupt) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def _signals_wake_waits() -> Iterator[None]:
    """Until the end of the block, a signal that has a handler in Python reaches the main thread in its waits.

    Python runs handlers in the main thread, between two steps of it. A signal that comes just before the thread begins
    to wait for another one, or that the kernel gives to another one, is noted and wakes nobody: on a busy machine one
    Ctrl-C in five was lost while helm ran. The wait is nudged then.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    over = threading.Event()
    main = threading.main_thread().ident or 0

    def watch() -> None:
        while not over.is_set():
            if set(os.read(reader, 64)) <= {_NUDGE}:
                continue
            began = 0.0
            for after in _NUDGES_AFTER_SECONDS:
                if over.wait(after - began):
                    return
                began = after
                signal.pthread_kill(main, _NUDGE)

    watcher = threading.Thread(target=watch, daemon=True)
    handler = signal.signal(_NUDGE, lambda number, frame: None)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(before)
        with contextlib.suppress(BlockingIOError):  # full: it is awake
            os.write(writer, bytes([_NUDGE]))
        watcher.join()
        os.close(reader)
        os.close(writer)
        signal.signal(_NUDGE, handler or signal.SIG_DFL)

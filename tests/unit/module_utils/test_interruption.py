"""Ctrl-C and TERM as an exception."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.interruption import (
    Interrupted,
    interruptible,
)


def test_further_signals_do_not_stop_the_mending():
    mended = []
    with pytest.raises(Interrupted), interruptible():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(5)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
            mended.append(True)
    assert mended == [True]


def test_a_thread_leaves_signals_alone():
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def look():
        with interruptible():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [before]


ANOTHER_THREAD_GETS_IT = """
import os, signal, threading, time
from ansible_collections.lambda_microservice.platform.plugins.module_utils import interruption

def send():
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGALRM)
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)

threading.Thread(target=send, daemon=True).start()
# What the main thread blocks, the kernel gives to the other one: nothing ends the wait of the main thread.
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGALRM})
try:
    with interruption.interruptible():
        # The handler of another signal, such as that of a task's time limit, is called as well.
        signal.signal(signal.SIGALRM, lambda number, frame: print("alarm"))
        threading.Event().wait()
except interruption.Interrupted as interrupted:
    print(interrupted)
"""


def test_a_signal_that_another_thread_got_ends_a_wait():
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3] / "collections")}
    command = [sys.executable, "-c", ANOTHER_THREAD_GETS_IT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20, check=False)
    assert (done.stdout, done.stderr) == ("alarm\nSIGTERM\n", "")


def test_nothing_of_it_is_left():
    def held():
        return threading.active_count(), sorted(path.name for path in Path("/proc/self/fd").iterdir())

    before = held()
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGURG)]
    for _ in range(3):
        with interruptible():
            pass
    assert held() == before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGURG)] == handlers
    assert signal.set_wakeup_fd(-1) == -1


def test_a_sleep_is_not_shortened_by_another_signal():
    signal.signal(signal.SIGUSR1, lambda number, frame: None)
    began = time.monotonic()
    with interruptible():
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0.3)
    assert time.monotonic() - began >= 0.3
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)

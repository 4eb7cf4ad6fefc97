"""Ctrl-C and TERM as an exception."""

from __future__ import annotations

import os
import signal
import threading

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

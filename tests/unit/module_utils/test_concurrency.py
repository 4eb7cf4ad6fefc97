"""Calls side by side, and what becomes of them when their caller is interrupted."""

from __future__ import annotations

import threading
import time

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import (
    Abandoned,
    concurrently,
    side_by_side,
    sleep,
    wait_until,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from hypothesis import given
from hypothesis import strategies as st


class TimeIsOver(BaseException):
    """As Ansible's own, it is no Exception."""


@given(st.lists(st.integers(min_value=0, max_value=99)), st.integers(min_value=1, max_value=9))
def test_results_have_the_order_of_the_items_and_errors_take_their_place(numbers, limit):
    def call(number):
        if number % 3 == 0:
            raise PlatformError(str(number))
        return number

    found = concurrently(call, numbers, limit)
    assert [int(result.what) if isinstance(result, PlatformError) else result for result in found] == numbers


@pytest.mark.parametrize("nested", [False, True])
def test_an_interruption_ends_what_runs_and_what_has_not_begun_never_does(nested):
    begun, ended, running = [], [], threading.Event()

    def call(number):
        begun.append(number)
        if len(begun) == 2:
            running.set()
        try:
            if nested:
                concurrently(lambda _item: sleep(30), "ab")
            sleep(30)
        except Abandoned:
            ended.append(number)
            raise

    began = time.monotonic()
    with pytest.raises(TimeIsOver), side_by_side(2) as begin:
        for number in range(5):
            begin(call, number)
        assert running.wait(5)
        raise TimeIsOver
    assert time.monotonic() - began < 4
    assert sorted(ended) == sorted(begun)
    assert len(begun) == 2


def test_a_bug_in_a_call_is_raised_and_ends_the_others():
    began = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        concurrently(lambda number: sleep(30) if number else 1 / number, [0, 1, 2])
    assert time.monotonic() - began < 4


def test_what_does_not_look_is_not_waited_for_for_ever(monkeypatch):
    module = side_by_side.__wrapped__.__globals__
    monkeypatch.setitem(module, "_END_SECONDS", 0.1)
    release = threading.Event()
    began = time.monotonic()
    with pytest.raises(TimeIsOver), side_by_side(2) as begin:
        begin(release.wait, 30)
        raise TimeIsOver
    assert time.monotonic() - began < 4
    release.set()


def test_a_sleep_that_nobody_interrupts_takes_its_time():
    began = time.monotonic()
    concurrently(lambda _item: sleep(0.1), "ab")
    assert time.monotonic() - began >= 0.1


def test_a_wait_gives_what_it_saw_last():
    clock, seen = [0.0], iter([(True, 1), (True, 2), (False, 3), (True, 4)])

    def pause(seconds):
        clock[0] += seconds

    wait = {"clock": lambda: clock[0], "sleep": pause}
    assert wait_until(lambda: next(seen), 10, 4, done=lambda found: not found[0], **wait) == (False, 3)
    assert clock[0] == 8
    # The last look comes when the time is over.
    assert wait_until(lambda: None, 10, 4, **wait) is None
    assert clock[0] == 18

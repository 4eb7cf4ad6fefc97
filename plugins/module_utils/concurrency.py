# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many calls at once, and the one way to wait."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

CONCURRENCY = 8
"""Requests in flight at once. The API server's fairness queues take this from one user without delay."""


_END_SECONDS = 5.0
"""How long what interrupted a caller waits for the calls that it had begun."""


class Abandoned(BaseException):
    """Who waited for this call was interrupted: it ends at its next pause or request."""


_call = threading.local()


def sleep(seconds: float) -> None:
    """Sleep. Raises Abandoned at once where the caller that this thread works for was interrupted (Ctrl-C, a task's
    time limit); with 0, it only does that.
    """
    abandoned: threading.Event | None = getattr(_call, "abandoned", None)
    if abandoned is not None and abandoned.wait(seconds):
        raise Abandoned
    if abandoned is None and seconds:
        time.sleep(seconds)


@contextlib.contextmanager
def side_by_side(limit: int = CONCURRENCY) -> Iterator[Callable[..., Future[Any]]]:
    """Give a function that begins calls, ``begin(function, *arguments)``, up to limit at once; the block ends when they
    have ended.

    What interrupts the block is raised once the calls that run have seen it (see :func:`sleep`), or after a few
    seconds; calls that have not begun never do.
    """
    # Calls that begin further ones are interrupted with them.
    abandoned: threading.Event = getattr(_call, "abandoned", None) or threading.Event()
    futures: list[Future[Any]] = []
    pool = ThreadPoolExecutor(limit)

    def called(function: Callable[..., _Result], *arguments: Any) -> _Result:
        _call.abandoned = abandoned
        return function(*arguments)

    def begin(function: Callable[..., _Result], *arguments: Any) -> Future[_Result]:
        futures.append(pool.submit(called, function, *arguments))
        return futures[-1]

    try:
        yield begin
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        abandoned.set()
        wait([future for future in futures if not future.cancelled()], _END_SECONDS)
        raise
    pool.shutdown()


def concurrently(
    function: Callable[[_Item], _Result], items: Iterable[_Item], limit: int = CONCURRENCY
) -> list[_Result | PlatformError]:
    """Call function for each item, up to limit at once. The result has the items' order; a PlatformError is a result.

    Any other exception is a bug and is raised. It ends the other calls, as an interruption of the caller does: see
    :func:`side_by_side`.
    """

    def call(item: _Item) -> _Result | PlatformError:
        try:
            return function(item)
        except PlatformError as failure:
            return failure

    everything = list(items)
    if len(everything) < 2:
        return [call(item) for item in everything]
    with side_by_side(min(limit, len(everything))) as begin:
        return [future.result() for future in [begin(call, item) for item in everything]]


def all_or_error(what: str, results: list[_Result | PlatformError]) -> list[_Result]:
    """The results, unless some are errors: then one error that names them all (``3 of 7 objects cannot be read``)."""
    errors = [result for result in results if isinstance(result, PlatformError)]
    if errors:
        raise PlatformError.of_many("%d of %d %s" % (len(errors), len(results), what), errors)
    return [result for result in results if not isinstance(result, PlatformError)]


def wait_until(
    look: Callable[[], _Result],
    timeout_seconds: float,
    pause_seconds: float = 0.2,
    done: Callable[[_Result], Any] = bool,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Any] = sleep,
) -> _Result:
    """Call ``look`` until it gives something that is ``done``, or the time is over; what it gave last.

    It is called at least once, and once more when the time is over: what happened in the last pause is seen.
    """
    ends = clock() + timeout_seconds
    while not done(found := look()):
        left = ends - clock()
        if left <= 0:
            break
        sleep(min(pause_seconds, left))
    return found

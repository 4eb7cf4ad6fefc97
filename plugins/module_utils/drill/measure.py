# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drill measured, out of the load generator's records, and whether that keeps the drill's bounds.

Times are seconds since the epoch, by the clock of the machine that runs the drill. Nothing here reads a clock or a
cluster.
"""

from __future__ import annotations

import base64
import binascii
import csv
import io
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object

IN_FLIGHT = "in_flight"
"""A bound of failed requests: as many as were under way when the failure happened."""

_ERRORS_SHOWN = 5


@dataclass(frozen=True)
class Request:
    """One request of the load. ``seq`` is its number in the run; ``error`` is empty for one that was acknowledged."""

    seq: int
    began: float
    ended: float
    error: str = ""
    body: bytes = b""

    @property
    def acknowledged(self) -> bool:
        """Whether the caller was told that it succeeded."""
        return not self.error


def parse_results(text: str, clock_ahead: float = 0.0) -> list[Request]:
    """The records of a file in vegeta's CSV form, by their beginning.

    Columns (vegeta v12, lib/results.go): timestamp in ns, status code, latency in ns, bytes out, bytes in, error, body
    in base64, attack, sequence number, method, URL, headers. ``clock_ahead`` is by how many seconds the clock that
    wrote them is ahead of ours.
    """
    requests = []
    for row in csv.reader(io.StringIO(text)):
        if len(row) < 9:
            continue
        began = int(row[0]) / 1e9 - clock_ahead
        requests.append(
            Request(
                seq=int(row[8]),
                began=began,
                ended=began + int(row[2]) / 1e9,
                error=row[5],
                body=base64.b64decode(row[6]),
            )
        )
    return sorted(requests, key=lambda request: (request.began, request.seq))


def longest_gap(requests: Iterable[Request], since: float, until: float) -> float:
    """The longest time without an acknowledgement that had not ended at ``since``, in seconds; the time up to
    ``until`` counts like any other. This is how long a caller that tries all the time is not served.
    """
    acknowledged = sorted(request.ended for request in requests if request.acknowledged and request.ended <= until)
    moments = [*acknowledged, until]
    # A load without a single acknowledgement had its gap begin no later than the failure.
    begin = min(since, moments[0])
    return max(
        (later - earlier for earlier, later in itertools.pairwise([begin, *moments]) if later > since), default=0.0
    )


def last_failure(requests: Iterable[Request], since: float, until: float) -> float:
    """Seconds from ``since`` to the end of the last failed request that began before ``until``; 0 without one."""
    ends = [request.ended for request in requests if request.error and since <= request.ended and request.began < until]
    return max(ends, default=since) - since


def in_flight(requests: Iterable[Request], begin: float, end: float) -> int:
    """How many requests were under way at some moment between begin and end."""
    return sum(request.began <= end and request.ended >= begin for request in requests)


def lost(requests: Iterable[Request], stored: set[int]) -> list[int]:
    """The numbers of the acknowledged writes that the store does not hold."""
    return sorted(request.seq for request in requests if request.acknowledged and request.seq not in stored)


def unclear(requests: Iterable[Request]) -> list[Request]:
    """The failed requests whose answer does not say why, in the API's own form."""
    return [request for request in requests if request.error and not _error_code(request.body)]


def second_runs(requests: Iterable[Request], failed_at: float, margin: float) -> list[Request]:
    """The requests under way at the failure whose script ran twice, or would for a client that believes the answer.

    A script begins within milliseconds where a place is free: one whose request is older than ``margin`` at the moment
    of the failure had begun. If the answer then tells of a beginning after the failure, the script ran twice. The
    script gives the time of its beginning as ``began`` in its result. If the answer promises that nothing ran, a client
    sends the same again.
    """
    twice = []
    for request in requests:
        if request.began < failed_at - margin and request.ended > failed_at:
            began = _began(request.body) if request.acknowledged else None
            again = not request.acknowledged and _error_code(request.body) in NOTHING_RAN
            if again or (began is not None and began > failed_at):
                twice.append(request)
    return twice


NOTHING_RAN = frozenset(("UNAVAILABLE", "RATE_LIMITED"))
"""The codes of answers that are sent only where no script has begun (images/controller/openapi.yaml)."""


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, binascii.Error):
        return None


def _error_code(body: bytes) -> str:
    answer = _json(body)
    error = answer.get("error") if isinstance(answer, dict) else None
    return str(error.get("code") or "") if isinstance(error, dict) else ""


def _began(body: bytes) -> float | None:
    answer = _json(body)
    result = answer.get("result") if isinstance(answer, dict) else None
    began = result.get("began") if isinstance(result, dict) else None
    return float(began) if isinstance(began, (int, float)) else None


# --- bounds ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """What one drill measured. None is for what its load cannot show."""

    sent: int
    acknowledged: int
    failed: int
    in_flight: int
    longest_gap_seconds: float
    last_failure_seconds: float
    lost: int | None = None
    unclear: int = 0
    second_runs: int | None = None
    errors: list[str] = field(default_factory=list)


def measure(
    requests: list[Request], failure: tuple[float, float], healed: float, until: float, stored: set[int] | None = None
) -> Measured:
    """All figures of a run. ``failure`` is the time in which the failure was brought about, ``healed`` when mending it
    began, and ``until`` when the load was stopped.
    """
    began, ended = failure
    failures = [request for request in requests if request.error]
    return Measured(
        sent=len(requests),
        acknowledged=len(requests) - len(failures),
        failed=len(failures),
        in_flight=in_flight(requests, began, ended),
        longest_gap_seconds=longest_gap(requests, began, until),
        last_failure_seconds=last_failure(requests, began, healed),
        lost=None if stored is None else len(lost(requests, stored)),
        unclear=len(unclear(requests)),
        second_runs=None if stored is not None else len(second_runs(requests, ended, 0.5)),
        errors=[
            f"{count} x {text}"
            for text, count in Counter(_of_its_kind(request.error) for request in failures).most_common(_ERRORS_SHOWN)
        ],
    )


def _of_its_kind(error: str) -> str:
    """An error without the address that it happened at, which differs from request to request."""
    return re.sub(r'\b[A-Z][a-z]+ "[a-z]+://[^"]*": ', "", " ".join(error.split()))


def missed(measured: Measured, bounds: Object) -> list[str]:
    """Each bound that was not kept, in words."""
    found = []

    def at_most(name: str, value: float | None, limit: float | None, text: str) -> None:
        if limit is None:
            return
        if value is None:
            found.append(f"{name}: the load does not show it")
        elif value > limit:
            found.append(text % (value, limit))

    at_most(
        "resumes_within_seconds",
        measured.longest_gap_seconds,
        bounds.get("resumes_within_seconds"),
        "nothing was acknowledged for %.1f s, at most %g s are allowed",
    )
    at_most(
        "recovers_within_seconds",
        measured.last_failure_seconds,
        bounds.get("recovers_within_seconds"),
        "the last request failed after %.1f s, at most %g s are allowed",
    )
    at_most(
        "lost_at_most", measured.lost, bounds.get("lost_at_most"), "%d acknowledged writes are lost, at most %d may be"
    )
    limit = bounds.get("failed_at_most")
    if limit == IN_FLIGHT:
        limit = measured.in_flight
    at_most(
        "failed_at_most", measured.failed, None if limit is None else int(limit), "%d requests failed, at most %d may"
    )
    at_most(
        "unclear_at_most", measured.unclear, bounds.get("unclear_at_most"), "%d errors do not say why, at most %d may"
    )
    at_most(
        "second_runs_at_most",
        measured.second_runs,
        bounds.get("second_runs_at_most"),
        "%d scripts ran twice, or were said not to have run, at most %d may be",
    )
    return found


# --- the table -------------------------------------------------------------------------------------------------------

HELD = "held"
MISSED = "MISSED"
BROKEN = "ERROR"


def bounds_text(bounds: Object) -> str:
    """The bounds in a few words."""
    said = []
    if bounds.get("resumes_within_seconds") is not None:
        said.append(f"resumes in {bounds['resumes_within_seconds']:g} s")
    if bounds.get("recovers_within_seconds") is not None:
        said.append(f"recovers in {bounds['recovers_within_seconds']:g} s")
    if bounds.get("lost_at_most") is not None:
        said.append(f"{bounds['lost_at_most']} lost")
    if bounds.get("failed_at_most") is not None:
        limit = bounds["failed_at_most"]
        said.append("those in flight fail" if limit == IN_FLIGHT else f"{limit} fail")
    if bounds.get("unclear_at_most") is not None:
        said.append("clear errors")
    if bounds.get("second_runs_at_most") is not None:
        said.append("none runs twice")
    return ", ".join(said)


def table(rows: list[Object]) -> list[str]:
    """The lines of an aligned table. A row has drill, load, verdict, bounds (text) and, once measured, the figures."""
    head = ("drill", "load", "sent", "failed", "lost", "resumed in", "last failure", "bound", "verdict")
    cells = [head]
    for row in rows:
        seconds = [
            "" if row.get(name) is None else f"{row[name]:.1f} s"
            for name in ("longest_gap_seconds", "last_failure_seconds")
        ]
        counts = ["" if row.get(name) is None else str(row[name]) for name in ("sent", "failed", "lost")]
        cells.append((row["drill"], row["load"], *counts, *seconds, row["bounds"], row["verdict"]))
    widths = [max(len(cell[column]) for cell in cells) for column in range(len(head))]
    right = {2, 3, 4, 5, 6}
    lines = [
        "  ".join(
            text.rjust(width) if column in right else text.ljust(width)
            for column, (text, width) in enumerate(zip(cell, widths, strict=True))
        ).rstrip()
        for cell in cells
    ]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


# --- a load under way ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tick:
    """A line of the generator's progress: counts since its start."""

    at: float
    acknowledged: int
    failed: int
    last_error: str = ""
    done: bool = False


def parse_ticks(text: str) -> list[Tick]:
    """The lines of progress in a log; what is none is left out."""
    ticks = []
    for line in text.splitlines():
        answer = _json(line.encode())
        if isinstance(answer, dict) and {"at", "acknowledged", "failed"} <= answer.keys():
            ticks.append(
                Tick(
                    float(answer["at"]),
                    int(answer["acknowledged"]),
                    int(answer["failed"]),
                    str(answer.get("last_error") or ""),
                    bool(answer.get("done")),
                )
            )
    return ticks


def steady_for(ticks: list[Tick], rate: float) -> float:
    """For how many seconds, up to the last tick, nothing failed and nine tenths of the rate were acknowledged."""
    seconds = 0.0
    for earlier, later in itertools.pairwise(reversed(ticks)):
        # reversed: `earlier` is the later tick of the two
        span = earlier.at - later.at
        if earlier.failed > later.failed or earlier.acknowledged - later.acknowledged < 0.9 * rate * span - 1:
            break
        seconds += span
    return seconds

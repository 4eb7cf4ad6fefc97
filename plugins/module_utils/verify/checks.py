# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks, run side by side, and what is said of them.

A check is a function that looks at something and returns what it found (:class:`Passed`, or :class:`Doubtful` where
the platform works and a person should know something), or raises a PlatformError. A check that has nothing to stand on,
such as one that calls an edge that does not answer, is not made: the table says so, and the cause is told once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Any, TypeAlias

from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import side_by_side
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError

PASSED = "ok"
DOUBTFUL = "warning"
FAILED = "FAILED"
SKIPPED = "not made"

REPORT_SECONDS = 10.0
"""How often a run that takes long says what it waits for."""


@dataclass(frozen=True)
class Passed:
    """All is as it should be; ``detail`` is what was seen, on one line."""

    detail: str


@dataclass(frozen=True)
class Doubtful:
    """It works, but somebody should know: ``detail`` goes into the table, ``warning`` is the whole sentence."""

    detail: str
    warning: str


Found: TypeAlias = "Passed | Doubtful"


@dataclass(frozen=True)
class Check:
    """``name`` is ``PART: WHAT``. ``needs`` names a check without which this one cannot be made."""

    name: str
    look: Callable[[], Found]
    needs: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of a check. ``detail`` is one line, ``error`` the failure."""

    name: str
    result: str
    detail: str
    seconds: float = 0.0
    warning: str = ""
    error: PlatformError | None = None

    def summary(self) -> dict[str, Any]:
        """For the task's result."""
        return {"check": self.name, "result": self.result, "detail": self.detail, "seconds": round(self.seconds, 2)}


def make(check: Check, clock: Callable[[], float] = time.monotonic) -> Outcome:
    """Make one check. Any other exception than a PlatformError is a bug and is raised."""
    began = clock()
    try:
        found = check.look()
    except PlatformError as failure:
        text = ": ".join(part for part in (failure.what, failure.found) if part)
        return Outcome(check.name, FAILED, one_line(text), clock() - began, error=failure)
    if isinstance(found, Doubtful):
        return Outcome(check.name, DOUBTFUL, one_line(found.detail), clock() - began, warning=found.warning)
    return Outcome(check.name, PASSED, one_line(found.detail), clock() - began)


def make_all(
    checks: Iterable[Check],
    concurrency: int = 8,
    progress: Callable[[str], None] | None = None,
    report_seconds: float = REPORT_SECONDS,
) -> list[Outcome]:
    """Make the checks side by side, each as soon as what it needs has passed. The outcomes have the checks' order."""
    everything = list(checks)
    waiting = {check.name: check for check in everything}
    if len(waiting) != len(everything):
        raise ValueError("two checks have the same name")
    done: dict[str, Outcome] = {}
    running: dict[Future[Outcome], str] = {}
    with side_by_side(concurrency) as begin:
        while waiting or running:
            for check in list(waiting.values()):
                base = done.get(check.needs)
                if check.needs and base is None:
                    if check.needs not in waiting and check.needs not in running.values():
                        raise ValueError(f"{check.name} needs {check.needs}, which is not among the checks")
                    continue
                del waiting[check.name]
                if base is not None and base.result in (FAILED, SKIPPED):
                    done[check.name] = Outcome(check.name, SKIPPED, f"because of {check.needs}")
                else:
                    running[begin(make, check)] = check.name
            if not running:
                continue
            ended = wait(running, timeout=report_seconds, return_when=FIRST_COMPLETED).done
            for future in ended:
                done[running.pop(future)] = future.result()
            if not ended and progress:
                names = ", ".join(running.values())
                progress(f"verify: {len(done)} of {len(everything)} checks made, waiting for {names}")
    return [done[check.name] for check in everything]


def table(outcomes: list[Outcome], width: int = 160) -> list[str]:
    """The lines of an aligned table, check | result | detail, none longer than width."""
    head = ("check", "result", "detail")
    rows = [(outcome.name, outcome.result, outcome.detail) for outcome in outcomes]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in (0, 1)]
    room = max(20, width - sum(widths) - 4)
    lines = []
    for name, result, detail in [head, tuple("-" * length for length in (*widths, min(room, 40))), *rows]:
        lines.append(f"{name:<{widths[0]}}  {result:<{widths[1]}}  {cut(detail, room)}".rstrip())
    return lines


def one_line(text: str) -> str:
    """The text with every run of white space made one space."""
    return " ".join(text.split())


def cut(text: str, limit: int) -> str:
    """The text, shortened to limit characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"

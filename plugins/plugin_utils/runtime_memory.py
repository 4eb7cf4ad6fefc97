# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory of a runtime's container: what each of its parts may take at most, and so how many executions fit.

Files are memory too: they lie in a tmpfs, whose pages count in the container's limit and cannot be given back. Past the
limit the kernel ends processes, with cgroup v2 by default all of the container's, so the sum of all that is allowed
stays within it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.quantities import quantity

MIB = 1 << 20

# As the supervisor (images/runtime/src/config.rs) counts them.
SUPERVISOR = 64 * MIB
WAITING = {"nodejs": 48 * MIB, "python": 16 * MIB}
"""An interpreter that waits for its script."""
MOST_WAITING = 4
PLACES_OF_A_CPU = 8
DEFAULTS = {
    "MEMORY_LIMIT_BYTES": 256 * MIB,
    "SCRATCH_LIMIT_BYTES": 64 * MIB,
    "COMPILE_CONCURRENCY": 1,
    "COMPILE_MEMORY_LIMIT_BYTES": 640 * MIB,
    "COMPILE_CACHE_BYTES": 128 * MIB,
    "COMPILE_PROGRAM_BYTES": 16 * MIB,
}

SNAPSHOT = 8 * MIB
"""Node.js's worker.snapshot: 4.2 MiB with Node.js 18.20.8, 4.0 MiB with 20.20.2."""


@dataclass(frozen=True)
class Memory:
    """Bytes. ``scratch`` is the tmpfs, of which each place fills ``files``."""

    places: int
    supervisor: int
    waiting: int
    compiler: int
    kept_files: int
    execution: int
    files: int

    @property
    def scratch(self) -> int:
        """What may lie in the tmpfs at most; whole MiB."""
        return math.ceil((self.kept_files + self.places * self.files) / MIB) * MIB

    @property
    def sum(self) -> int:
        """All of it."""
        return self.supervisor + self.waiting + self.compiler + self.places * self.execution + self.scratch

    def spoken(self) -> str:
        """The sum in words."""
        parts = [f"{_mib(self.supervisor)} (the supervisor)"]
        if self.waiting:
            parts.append(f"{_mib(self.waiting)} (interpreters that wait)")
        if self.compiler:
            parts.append(f"{_mib(self.compiler)} (the compiler)")
        parts.append(f"{self.places} x {_mib(self.execution)} (executions)")
        parts.append(f"{_mib(self.scratch)} (files)")
        return f"{' + '.join(parts)} = {_mib(self.sum)}"


def memory(language: str, limit: object, cpu_limit: object, environment: Mapping[str, Any]) -> Memory:
    """What the container of a language holds, of whose supervisor ``environment`` has the settings. ``MAX_CONCURRENCY``
    among them sets the places; else they are as many as fit into the limit (one at least), and 8 for each processor.
    """
    number = {name: _number(name, environment.get(name, default)) for name, default in DEFAULTS.items()}
    whole = _number("the memory limit", limit)
    cpus = max(1, _number("the CPU limit", cpu_limit))
    compilers = number["COMPILE_CONCURRENCY"] if language == "rust" else 0

    def with_places(places: int) -> Memory:
        waiting = min(max(places, 1), MOST_WAITING) if language in WAITING else 0
        return Memory(
            places,
            SUPERVISOR,
            _number("WARM_PROCESSES", environment.get("WARM_PROCESSES", waiting)) * WAITING.get(language, 0),
            compilers * number["COMPILE_MEMORY_LIMIT_BYTES"],
            # The compiler's folder holds a program and what it is linked from, four times a program at most.
            compilers * 4 * number["COMPILE_PROGRAM_BYTES"] + number["COMPILE_CACHE_BYTES"]
            if compilers
            else SNAPSHOT * (language == "nodejs"),
            number["MEMORY_LIMIT_BYTES"],
            number["SCRATCH_LIMIT_BYTES"],
        )

    given = _number("MAX_CONCURRENCY", environment.get("MAX_CONCURRENCY", 0))
    if given:
        return with_places(given)
    most = min(PLACES_OF_A_CPU * cpus, whole // (number["MEMORY_LIMIT_BYTES"] + number["SCRATCH_LIMIT_BYTES"]))
    fitting = (each for each in (with_places(places) for places in range(most, 0, -1)) if each.sum <= whole)
    return next(fitting, with_places(1))


def _number(name: str, value: object) -> int:
    number = quantity(value)
    if number is None or number < 0:
        raise PlatformError(
            f"{name} of a runtime is no quantity",
            found=repr(value),
            expected="a number with a unit, such as 256Mi",
            fix=f"correct {name}",
            reason="argument",
        )
    return int(number)


def _mib(size: int) -> str:
    return f"{size / MIB:g}Mi"

# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CPU, memory and space: whether they are quantities, and requests against limits."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.quantities import quantity
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.runtime_memory import MIB, memory
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.contradictions.finding import (
    Values,
    as_quantity,
    contradiction,
)

_QUANTITY = re.compile(r"(?!__).*_(cpu|memory|storage)(_limit)?|runtimes_script_(output|files)")
_OF_A_LANGUAGE = ("cpu", "cpu_limit", "memory", "memory_limit")


def _are_quantities(values: Values) -> Iterator[PlatformError]:
    given = {name: value for name, value in values.items() if _QUANTITY.fullmatch(name)}
    for language in values.get("runtimes_languages", ()):
        given.update(
            {
                f"runtimes_languages, {language['name']}, {key}": language[key]
                for key in _OF_A_LANGUAGE
                if key in language
            }
        )
    for name, value in given.items():
        number = quantity(value)
        if number is None or number <= 0:
            yield contradiction(
                f"{name} is no quantity",
                repr(value),
                "a number above 0 with a unit, such as 16Gi or 500m",
                f"correct {name}",
            )


def _requests_fit_into_limits(values: Values) -> Iterator[PlatformError]:
    for limit in sorted(name for name in values if name.endswith(("_memory_limit", "_cpu_limit")) and name[0] != "_"):
        request = limit.removesuffix("_limit")
        if request in values and quantity(values[request]) and quantity(values[limit]):
            yield from _fits(request, values[request], limit, values[limit])
    for language in values.get("runtimes_languages", ()):
        for kind in ("cpu", "memory"):
            if kind not in language and f"{kind}_limit" not in language:
                continue
            request = language.get(kind, values[f"runtimes_{kind}"])
            # As the role's template: a language's own memory is its limit too, where it gives none.
            otherwise = (
                language.get("memory", values["runtimes_memory_limit"])
                if kind == "memory"
                else values["runtimes_cpu_limit"]
            )
            place = f"runtimes_languages, {language['name']}, "
            yield from _fits(place + kind, request, f"{place}{kind}_limit", language.get(f"{kind}_limit", otherwise))


def _fits(request: str, requested: str, limit: str, limited: str) -> Iterator[PlatformError]:
    if as_quantity(requested) > as_quantity(limited):
        yield contradiction(
            f"a pod asks for more than it may have: {request}",
            f"{request} {requested}, {limit} {limited}",
            f"{request} of at most {limit}",
            f"lower {request} or raise {limit}",
        )


def _what_runs_at_once_fits_into_its_pod(values: Values) -> Iterator[PlatformError]:
    for language in values["runtimes_languages"]:
        name = language["name"]
        limit = language.get("memory_limit", language.get("memory", values["runtimes_memory_limit"]))
        environment = {
            "MEMORY_LIMIT_BYTES": values["runtimes_script_memory"],
            "SCRATCH_LIMIT_BYTES": values["runtimes_script_files"],
            "MAX_CONCURRENCY": values["runtimes_concurrency"],
            **values["runtimes_env"],
            **language.get("env", {}),
        }
        try:
            needed = memory(name, limit, language.get("cpu_limit", values["runtimes_cpu_limit"]), environment)
        except PlatformError as error:
            yield contradiction(
                error.what, error.found, error.expected, "correct it in runtimes_env or runtimes_languages"
            )
            continue
        if needed.sum > as_quantity(limit):
            yield contradiction(
                f"what scripts of {name} may take at once does not fit into their pod, which the kernel would end",
                f"{needed.spoken()}, and a memory limit of {limit}",
                f"a memory limit of at least {needed.sum // MIB}Mi",
                "raise runtimes_memory_limit, or lower runtimes_script_memory, runtimes_script_files or "
                "runtimes_concurrency (or the language's own in runtimes_languages)",
            )


CHECKS = (_are_quantities, _requests_fit_into_limits, _what_runs_at_once_fits_into_its_pod)

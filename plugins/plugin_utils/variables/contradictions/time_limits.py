# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nested time limits: whoever waits for an answer waits longer than the one who makes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.contradictions.finding import (
    Values,
    contradiction,
)

LONGEST_SECONDS = 3600
"""The most that the controller takes for RUNTIME_TIMEOUT_SECONDS (images/controller)."""
CONTROLLER_WAITS_SECONDS = 2
"""How much longer than the runtime the controller waits (images/controller)."""
EXECUTE = "/api/v1/execute/"


def _script(values: Values) -> Iterator[PlatformError]:
    longest, default = values["runtimes_timeout_seconds"], values["runtimes_default_timeout_seconds"]
    if not 1 <= longest <= LONGEST_SECONDS:
        yield contradiction(
            "runtimes_timeout_seconds is out of range",
            str(longest),
            f"1 to {LONGEST_SECONDS}",
            "correct runtimes_timeout_seconds",
        )
    if not 1 <= default <= longest:
        yield contradiction(
            "a script that asks for no time would get more than is allowed",
            f"runtimes_default_timeout_seconds {default}, runtimes_timeout_seconds {longest}",
            "runtimes_default_timeout_seconds of 1 to runtimes_timeout_seconds",
            "lower runtimes_default_timeout_seconds or raise runtimes_timeout_seconds",
        )


def _controller(values: Values) -> Iterator[PlatformError]:
    runtime, controller = values["runtimes_timeout_seconds"], values["controller_runtime_timeout_seconds"]
    if not runtime <= controller <= LONGEST_SECONDS:
        yield contradiction(
            "the controller gives up before the runtime does",
            f"controller_runtime_timeout_seconds {controller}, runtimes_timeout_seconds {runtime}",
            f"controller_runtime_timeout_seconds of runtimes_timeout_seconds to {LONGEST_SECONDS}",
            "leave controller_runtime_timeout_seconds out, it follows runtimes_timeout_seconds; or raise it",
        )


def _edge(values: Values) -> Iterator[PlatformError]:
    waits = values["controller_runtime_timeout_seconds"] + CONTROLLER_WAITS_SECONDS
    limits = {"ingress_timeout_seconds": values["ingress_timeout_seconds"]}
    for route in values["ingress_routes"]:
        if _executes(route) and "timeout_seconds" in route:
            limits[f"ingress_routes, {route.get('name')}, timeout_seconds"] = route["timeout_seconds"]
    for name, limit in limits.items():
        try:
            seconds = float(limit)
        except (TypeError, ValueError):
            continue  # The filter envoy_configuration says so.
        if seconds <= waits:
            yield contradiction(
                "the edge gives up before the controller does",
                f"{name} {limit}, and the controller waits {waits} s (controller_runtime_timeout_seconds and 2)",
                f"more than {waits}",
                f"leave {name} out, it follows runtimes_timeout_seconds; or raise it",
            )


def _executes(route: dict[str, Any]) -> bool:
    match = route.get("match")
    prefix = match.get("prefix") if isinstance(match, dict) else None
    return isinstance(prefix, str) and (EXECUTE.startswith(prefix) or prefix.startswith(EXECUTE))


def _grace(values: Values) -> Iterator[PlatformError]:
    longest = max(
        [values["ingress_timeout_seconds"]]
        + [
            route["timeout_seconds"]
            for route in values["ingress_routes"]
            if isinstance(route.get("timeout_seconds"), int | float)
        ]
    )
    controller = values["controller_runtime_timeout_seconds"] + CONTROLLER_WAITS_SECONDS
    needed = {
        "runtimes_values": (values["runtimes_timeout_seconds"], "a script's time"),
        "controller_values": (
            values["controller_shutdown_delay_seconds"] + controller,
            "its delay and its longest request",
        ),
        "ingress_values": (longest, "its longest request"),
    }
    for name, (seconds, whose) in needed.items():
        given = values[name].get("terminationGracePeriodSeconds")
        if isinstance(given, int) and given <= seconds:
            yield contradiction(
                "a pod that ends is killed before its requests are answered",
                f"{name}.terminationGracePeriodSeconds {given}, {whose} {seconds} s",
                f"more than {seconds}",
                f"leave it out of {name}, it follows runtimes_timeout_seconds; or raise it",
            )


CHECKS = (_script, _controller, _edge, _grace)

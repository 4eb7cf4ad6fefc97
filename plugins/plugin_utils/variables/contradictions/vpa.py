# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Vertical autoscaling: which workloads it may change, how, and between which bounds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.quantities import quantity
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.contradictions.finding import (
    NotChecked,
    Values,
    contradiction,
)
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.workloads import Workload, workloads

MODES = ("Off", "Initial", "Recreate", "InPlaceOrRecreate")
_ENDS = ("min", "max")
_RESOURCES = ("cpu", "memory")
_FORM = "{min: {cpu: 100m, memory: 64Mi}, max: {cpu: '2', memory: 1Gi}}"


def _watched(values: Values) -> dict[str, Workload]:
    if not values["vpa_enabled"]:
        raise NotChecked("vpa_enabled")
    return {one.name: one for one in workloads(values)}


def _names(values: Values) -> Iterator[PlatformError]:
    watched = _watched(values)
    for variable in ("vpa_mode", "vpa_bounds"):
        for name in sorted(values[variable].keys() - watched.keys()):
            yield contradiction(
                f"{variable} names what is no workload of this platform", str(name),
                ", ".join(sorted(watched)), f"correct {variable}, or turn on what brings {name}",
            )  # fmt: skip


def _modes(values: Values) -> Iterator[PlatformError]:
    watched = _watched(values)
    for name, mode in sorted(values["vpa_mode"].items()):
        # YAML reads Off without quotes as a boolean.
        if mode is False:
            continue
        if mode not in MODES:
            yield contradiction(f"vpa_mode.{name} is no mode", repr(mode), ", ".join(MODES), f"correct vpa_mode.{name}")
        elif name in watched and mode != "Off" and watched[name].scaled_by:
            yield contradiction(
                f"two autoscalers would move {name} against each other",
                f"vpa_mode.{name} {mode}, and a HorizontalPodAutoscaler adds pods by "
                f"{' and '.join(watched[name].scaled_by)}, in percent of what is requested",
                f"Off for {name}, which goes on recommending",
                f"take {name} out of vpa_mode, and set its requests in the inventory by what is recommended",
            )


def _bounds(values: Values) -> Iterator[PlatformError]:
    _watched(values)
    for name, bounds in sorted(values["vpa_bounds"].items()):
        yield from _of_one(f"vpa_bounds.{name}", bounds)
    for name, mode in sorted(values["vpa_mode"].items()):
        bounds = values["vpa_bounds"].get(name)
        missing = [
            f"{end}.{resource}"
            for end in _ENDS
            for resource in _RESOURCES
            if not (isinstance(bounds, Mapping) and isinstance(bounds.get(end), Mapping) and resource in bounds[end])
        ]
        if mode in MODES and mode != "Off" and missing:
            yield contradiction(
                f"nothing bounds what {name} may be given",
                f"vpa_mode.{name} {mode}, and vpa_bounds.{name} without {', '.join(missing)}",
                _FORM,
                f"complete vpa_bounds.{name}: quotas and nodes are counted with its maximum",
            )


def _of_one(where: str, bounds: Any) -> Iterator[PlatformError]:
    if not isinstance(bounds, Mapping) or set(bounds) - set(_ENDS):
        yield contradiction(f"{where} is no pair of bounds", repr(bounds), _FORM, f"correct {where}")
        return
    read: dict[str, dict[str, Decimal]] = {end: {} for end in _ENDS}
    for end, given in bounds.items():
        if not isinstance(given, Mapping) or set(given) - set(_RESOURCES):
            yield contradiction(
                f"{where}.{end} names something else than resources", repr(given), "cpu and memory", f"correct {where}"
            )
            continue
        for resource, value in given.items():
            number = quantity(value)
            if number is None or number <= 0:
                yield contradiction(
                    f"{where}.{end}.{resource} is no quantity", repr(value),
                    "a number above 0 with a unit, such as 500m or 1Gi", f"correct {where}",
                )  # fmt: skip
            else:
                read[end][resource] = number
    for resource in _RESOURCES:
        least, most = (read[end].get(resource) for end in _ENDS)
        if least is not None and most is not None and least > most:
            yield contradiction(
                f"{where}: the bounds of {resource} are the wrong way round",
                f"min {bounds['min'][resource]}, max {bounds['max'][resource]}",
                "a minimum of at most the maximum", f"correct {where}",
            )  # fmt: skip


CHECKS = (_names, _modes, _bounds)

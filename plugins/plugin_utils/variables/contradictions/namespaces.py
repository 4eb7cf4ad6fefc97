# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles' namespaces: one each, which the role foundation makes."""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.contradictions.finding import (
    DNS_LABEL,
    Values,
    contradiction,
)

# Its role makes the policies of its own apps alone, as monitoring's does.
_SHARED = frozenset({"logging_namespace"})


def _of_roles(values: Values) -> dict[str, str]:
    without = set() if values.get("mesh_enabled") else {"mesh_namespace"}
    return {
        name: value
        for name, value in values.items()
        if name.endswith("_namespace") and name[0] != "_" and name not in without
    }


def _are_names(values: Values) -> Iterator[PlatformError]:
    made = {
        f"foundation_namespaces, {entry['name']}": entry["name"] for entry in values.get("foundation_namespaces", ())
    }
    for place, name in {**_of_roles(values), **made}.items():
        if len(name) > 63 or not DNS_LABEL.fullmatch(name):
            yield contradiction(
                f"{place} is no name of a namespace", repr(name),
                "lower-case letters, digits and hyphens, at most 63", f"correct {place}",
            )  # fmt: skip


def _one_each(values: Values) -> Iterator[PlatformError]:
    owners: dict[str, list[str]] = {}
    for variable, name in _of_roles(values).items():
        if variable != "foundation_record_namespace" and variable not in _SHARED:
            owners.setdefault(name, []).append(variable)
    for name, variables in owners.items():
        if len(variables) > 1:
            yield contradiction(
                "roles share a namespace, and would undo each other's policies",
                f"{' and '.join(variables)} are {name}", "a namespace for each role", f"give {variables[-1]} another",
            )  # fmt: skip


def _are_made(values: Values) -> Iterator[PlatformError]:
    names = [entry["name"] for entry in values["foundation_namespaces"]]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield contradiction(
            "a namespace is described twice", f"{name} in foundation_namespaces", "each once", "take one of them out"
        )
    for variable, name in _of_roles(values).items():
        if variable != "foundation_record_namespace" and name not in names:
            yield contradiction(
                f"nobody makes the namespace of {variable}",
                f"{name}, and foundation_namespaces has {', '.join(names)}",
                "that foundation_namespaces names it",
                f"add {name} to foundation_namespaces, or leave foundation_namespaces out",
            )  # fmt: skip
    for table in ("foundation_resource_quotas", "foundation_limit_ranges"):
        for key in values[table]:
            name = values.get(f"{key}_namespace", key)
            if name not in names:
                yield contradiction(
                    f"{table} names a namespace that nobody makes", f"{key}",
                    f"a role, or one of {', '.join(names)} (foundation_namespaces)", f"correct {table}",
                )  # fmt: skip


CHECKS = (_are_names, _one_each, _are_made)

# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway for functions: whose it is, where functions are, and what its queue may keep."""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.contradictions.finding import (
    DNS_LABEL,
    NotChecked,
    Values,
    contradiction,
)


def _wanted(values: Values) -> None:
    if not values["openfaas_enabled"]:
        raise NotChecked("openfaas_enabled")


_LICENCES = {
    "community": "OpenFaaS Community Edition's, as it was in April 2026: commercial use for 60 days, in one "
    "installation of a company and once; not to be installed for clients, changed or passed on. It runs at most 15 "
    "functions of at most 5 replicas, from public images, and needs the internet when it starts "
    "(https://github.com/openfaas/faas/blob/master/EULA.md)",
    "pro": "OpenFaaS Pro's, which is bought (https://www.openfaas.com/pricing), and whose text has to be the key "
    "license of the Secret openfaas-license in openfaas_namespace",
}
"""In our words, and no advice on law. Both are the vendor's to change."""


def _vendors(values: Values) -> None:
    _wanted(values)
    if values["openfaas_edition"] == "compatible":
        raise NotChecked("openfaas_edition")


def _licence(values: Values) -> Iterator[PlatformError]:
    _vendors(values)
    edition, accepted = values["openfaas_edition"], values["openfaas_accept_license"]
    if accepted != edition:
        yield contradiction(
            f"the licence of OpenFaaS {edition} is not accepted",
            f"openfaas_edition {edition}, openfaas_accept_license {accepted or 'empty'}",
            f"that you have read and accept {_LICENCES[edition]}",
            f"read it, and set openfaas_accept_license to {edition}; or take openfaas_edition compatible, which is the "
            "platform's own and has none of these limits",
        )


def _exceptions(values: Values) -> Iterator[PlatformError]:
    """What of the vendor's cannot be restricted is in namespaces that the inventory lowers by name."""
    _vendors(values)
    levels = {
        entry["name"]: entry.get("pod_security") or values["foundation_pod_security"]
        for entry in values["foundation_namespaces"]
    }
    functions = values["openfaas_vendor_functions_in"]
    if levels.get(functions, "restricted") == "restricted" or functions == values["runtimes_namespace"]:
        yield contradiction(
            "the vendor's functions have no namespace that would let them in",
            f"openfaas_vendor_functions_in {functions}, which "
            + (
                "is the runtimes'"
                if functions == values["runtimes_namespace"]
                else f"foundation_namespaces makes {levels[functions]}"
                if functions in levels
                else "foundation_namespaces does not make"
            ),
            "a namespace of its own with pod_security baseline: their containers drop no capabilities",
            f"add {{name: {functions}, pod_security: baseline}} to foundation_namespaces",
        )
    own = values["openfaas_namespace"]
    queue = values["openfaas_edition"] == "community" and values["openfaas_vendor_async"]
    if queue and levels.get(own) == "restricted":
        yield contradiction(
            "the worker of OpenFaaS community would not be let in",
            f"openfaas_vendor_async true, and foundation_namespaces makes {own} restricted",
            "pod_security baseline there: its container names no security context, and the chart takes none for it",
            f"give {own} pod_security baseline in foundation_namespaces, or set openfaas_vendor_async to false",
        )


def _namespaces(values: Values) -> Iterator[PlatformError]:
    _wanted(values)
    names = values["openfaas_function_namespaces"]
    if not names or names[0] != values["runtimes_namespace"] or len(set(names)) != len(names):
        yield contradiction(
            "the first namespace of functions is not the runtimes'",
            f"openfaas_function_namespaces {', '.join(names) or 'empty'}, runtimes_namespace "
            f"{values['runtimes_namespace']}",
            "runtimes_namespace first, and each once",
            "correct openfaas_function_namespaces",
        )
    made = [entry["name"] for entry in values["foundation_namespaces"]]
    roles = {value: name for name, value in values.items() if name.endswith("_namespace")}
    for name in names[1:]:
        if name not in made or name in roles:
            yield contradiction(
                f"functions cannot be in the namespace {name}",
                f"it is that of {roles[name]}" if name in roles else "foundation_namespaces does not make it",
                "a namespace of foundation_namespaces that is no role's",
                f"add {name} to foundation_namespaces, or take it out of openfaas_function_namespaces",
            )


def _flows(values: Values) -> Iterator[PlatformError]:
    _wanted(values)
    names = [flow["name"] for flow in values["openfaas_function_flows"]]
    for flow in values["openfaas_function_flows"]:
        name = flow["name"]
        if not DNS_LABEL.fullmatch(name) or len(name) > 63:
            yield contradiction(
                "a function's way out has no name for an annotation", f"{name!r} in openfaas_function_flows",
                "lower-case letters, digits and hyphens, at most 63", "rename it",
            )  # fmt: skip
        if "kubernetes-api" in (flow["to"] if isinstance(flow["to"], list) else [flow["to"]]):
            yield contradiction(
                "a function's way out leads to the Kubernetes API", f"{name} in openfaas_function_flows",
                "addresses or pods: functions have no account there", f"take kubernetes-api out of {name}",
            )  # fmt: skip
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield contradiction(
            "two ways out have one name", f"{name} in openfaas_function_flows", "each once",
            "list the addresses of one of them in the other",
        )  # fmt: skip


def _storage(values: Values) -> Iterator[PlatformError]:
    _wanted(values)
    queue, store = values["openfaas_queue_max_bytes"], values.quantity("openfaas_nats_max_store")
    volume = values.quantity("openfaas_nats_storage")
    if not 0 < queue < store < volume:
        yield contradiction(
            "NATS has no room for what it should keep",
            f"openfaas_queue_max_bytes {queue}, openfaas_nats_max_store {values['openfaas_nats_max_store']}, "
            f"openfaas_nats_storage {values['openfaas_nats_storage']}",
            "each less than the next: results and dead letters are beside the queue, and the volume is not all of it",
            "raise openfaas_nats_storage, or lower the others",
        )


def _time(values: Values) -> Iterator[PlatformError]:
    _wanted(values)
    longest, default = values["openfaas_function_max_timeout_seconds"], values["openfaas_function_timeout_seconds"]
    if not 1 <= default <= longest:
        yield contradiction(
            "a function that asks for no time would get more than is allowed, or none",
            f"openfaas_function_timeout_seconds {default}, openfaas_function_max_timeout_seconds {longest}",
            "openfaas_function_timeout_seconds of 1 to openfaas_function_max_timeout_seconds",
            "lower the first or raise the second",
        )


CHECKS = (_licence, _exceptions, _namespaces, _flows, _storage, _time)

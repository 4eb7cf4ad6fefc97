# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers of pods: what an autoscaler may do between, and what is one at least."""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.contradictions.finding import (
    DNS_LABEL,
    Values,
    contradiction,
)

_ONE_AT_LEAST = (
    "controller_min_replicas",
    "runtimes_min_replicas",
    "ingress_replicas",
    "ingress_rate_limit_replicas",
    "data_services_redis_replicas",
    "data_services_redis_sentinels",
    "data_services_redis_haproxy_replicas",
    "data_services_postgresql_replicas",
    "data_services_postgresql_pgbouncer_replicas",
    "monitoring_alertmanager_replicas",
    "monitoring_adapter_replicas",
    "logging_elasticsearch_replicas",
    "logging_logstash_replicas",
    "openfaas_gateway_min_replicas",
    "openfaas_worker_replicas",
    "vpa_admission_replicas",
    "mesh_istiod_min_replicas",
)


def _one_at_least(values: Values) -> Iterator[PlatformError]:
    for name in _ONE_AT_LEAST:
        if name in values and values[name] < 1:
            yield contradiction(f"{name} leaves no pod", str(values[name]), "1 or more", f"raise {name}")


def _controller(values: Values) -> Iterator[PlatformError]:
    yield from _range(
        "the controller", "controller_min_replicas", values["controller_min_replicas"],
        "controller_max_replicas", values["controller_max_replicas"],
    )  # fmt: skip


def _gateway(values: Values) -> Iterator[PlatformError]:
    yield from _range(
        "the gateway for functions", "openfaas_gateway_min_replicas", values["openfaas_gateway_min_replicas"],
        "openfaas_gateway_max_replicas", values["openfaas_gateway_max_replicas"],
    )  # fmt: skip


def _mesh(values: Values) -> Iterator[PlatformError]:
    yield from _range(
        "the mesh's control plane", "mesh_istiod_min_replicas", values["mesh_istiod_min_replicas"],
        "mesh_istiod_max_replicas", values["mesh_istiod_max_replicas"],
    )  # fmt: skip


def _runtimes(values: Values) -> Iterator[PlatformError]:
    languages = values["runtimes_languages"]
    own = [language for language in languages if "min_replicas" in language or "max_replicas" in language]
    for language in [{}, *own] if len(own) < len(languages) else own:
        place = f"runtimes_languages, {language['name']}, " if language else ""
        names = [place + key if key in language else f"runtimes_{key}" for key in ("min_replicas", "max_replicas")]
        least, most = names[0], names[1]
        minimum = language.get("min_replicas", values["runtimes_min_replicas"])
        maximum = language.get("max_replicas", values["runtimes_max_replicas"])
        yield from _range(
            f"the runtime {language['name']}" if language else "the runtimes", least, minimum, most, maximum
        )


def _range(whose: str, least: str, minimum: int, most: str, maximum: int) -> Iterator[PlatformError]:
    if minimum > maximum:
        yield contradiction(
            f"{whose}: the autoscaler's minimum is above its maximum",
            f"{least} {minimum}, {most} {maximum}",
            f"{least} of at most {most}",
            f"lower {least} or raise {most}",
        )


def _languages(values: Values) -> Iterator[PlatformError]:
    names = [language["name"] for language in values["runtimes_languages"]]
    for name in sorted(set(names)):
        if not DNS_LABEL.fullmatch(name) or len(f"{name}-runtime") > 63:
            yield contradiction(
                "a language cannot name its Service", f"{name!r} in runtimes_languages",
                "lower-case letters, digits and hyphens, at most 55", "rename it in runtimes_languages",
            )  # fmt: skip
        if names.count(name) > 1:
            yield contradiction(
                "two languages have one name", f"{name!r} {names.count(name)} times in runtimes_languages",
                "each once", "take one of them out of runtimes_languages",
            )  # fmt: skip


CHECKS = (_one_at_least, _controller, _gateway, _mesh, _runtimes, _languages)

# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Monitoring: room for what is kept, receivers that lack something, and who needs its figures."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.contradictions.finding import (
    Values,
    contradiction,
)

# https://prometheus.io/docs/prometheus/latest/storage/: units are powers of 2, whatever they are called.
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)([KMGTP]?)B")
_FACTORS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4, "P": 1024**5}
_NEEDED = {
    "slack": ("secret",),
    "webhook": ("secret",),
    "email": ("to", "from", "smarthost"),
}


def _retention(values: Values) -> Iterator[PlatformError]:
    kept, volume = values["monitoring_prometheus_retention_size"], values.quantity("monitoring_prometheus_storage")
    match = _SIZE.fullmatch(kept)
    if not match:
        yield contradiction(
            "monitoring_prometheus_retention_size is no size", repr(kept), "a number with MB, GB or TB",
            "correct monitoring_prometheus_retention_size",
        )  # fmt: skip
    elif float(match[1]) * _FACTORS[match[2]] > 0.9 * float(volume):
        yield contradiction(
            "Prometheus' volume would be full before it lets go of anything",
            f"monitoring_prometheus_retention_size {kept}, monitoring_prometheus_storage "
            f"{values['monitoring_prometheus_storage']}",
            "at most nine tenths of the volume: the log of the last hours is not counted",
            "lower monitoring_prometheus_retention_size or raise monitoring_prometheus_storage",
        )


def _receivers(values: Values) -> Iterator[PlatformError]:
    receivers = values["monitoring_receivers"]
    names = [receiver["name"] for receiver in receivers]
    for name in sorted({name for name in names if names.count(name) > 1} | ({"nobody"} & set(names))):
        yield contradiction(
            "a receiver's name is taken", f"{name} in monitoring_receivers", "each once, and not nobody", "rename it"
        )
    for receiver in receivers:
        needed = _NEEDED[receiver["type"]] + (("secret",) if receiver.get("username") else ())
        missing = [key for key in needed if not receiver.get(key)]
        if missing:
            yield contradiction(
                f"the receiver {receiver['name']} lacks something",
                f"{receiver['type']} without {', '.join(missing)}",
                f"{receiver['type']} with {', '.join(needed)}",
                f"give {receiver['name']} in monitoring_receivers what it lacks; a secret is {{name, key}} of a Secret "
                "in monitoring_namespace, never the value",
            )


def _places(values: Values) -> Iterator[PlatformError]:
    percent = values["runtimes_places_percent"]
    if percent < 0:
        yield contradiction("runtimes_places_percent is below nothing", str(percent), "0 or more", "raise it")
    if percent > 0 and not values["monitoring_enabled"]:
        yield contradiction(
            "nobody would tell the autoscalers how many places are used",
            f"runtimes_places_percent {percent}, monitoring_enabled false",
            "monitoring, whose Prometheus has the figure, or 0",
            "set monitoring_enabled to true or runtimes_places_percent to 0",
        )


CHECKS = (_retention, _receivers, _places)

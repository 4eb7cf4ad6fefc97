# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the edge accepts: time, bytes, connections and memory, and whose word on a client's address."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.checks import (
    UINT32,
    flag_of,
    number_of,
    quantity_bytes,
)

LONGEST_TIMEOUT_SECONDS = 3600


class Limits(NamedTuple):
    """What the edge accepts; the fields have the names and units of the filter's options."""

    timeout_seconds: float
    max_request_bytes: int
    max_connections: int
    max_heap_bytes: int
    trusted_proxies: int
    proxy_protocol: bool


def checked_limits(
    timeout_seconds: Any,
    max_request_bytes: Any,
    max_connections: Any,
    memory_limit: Any,
    trusted_proxies: Any,
    proxy_protocol: Any,
) -> Limits:
    """The options as they are used."""
    return Limits(
        timeout_seconds=number_of(
            timeout_seconds, "ingress_timeout_seconds", 0.001, LONGEST_TIMEOUT_SECONDS, "seconds"
        ),
        max_request_bytes=number_of(max_request_bytes, "ingress_max_request_bytes", 1, UINT32, "bytes", whole=True),
        max_connections=number_of(max_connections, "ingress_max_connections", 1, UINT32, "connections", whole=True),
        # The rest is for what the allocator does not count: stacks, TLS sessions, the binary itself.
        max_heap_bytes=math.floor(quantity_bytes(memory_limit, "the memory limit of Envoy") * 0.8),
        trusted_proxies=number_of(trusted_proxies, "ingress_trusted_proxies", 0, 16, "proxies", whole=True),
        proxy_protocol=flag_of(proxy_protocol, "ingress_proxy_protocol"),
    )

# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Redis: memory, replicas, votes, volumes and users."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.contradictions.finding import (
    DNS_LABEL,
    Values,
    as_quantity,
    contradiction,
    deep,
)

_SIZE = re.compile(r"([0-9]+)(b|kb?|mb?|gb?)?", re.IGNORECASE)
# https://github.com/redis/redis/blob/8.0/redis.conf: 1k is 1000 bytes, 1kb 1024.
_FACTORS = {"": 1, "b": 1, "k": 1000, "kb": 1024, "m": 1000**2, "mb": 1024**2, "g": 1000**3, "gb": 1024**3}
_MAXMEMORY = "data_services_redis_maxmemory"


def size(text: str) -> int | None:
    """Bytes, of a size as redis.conf has it; None if it is none."""
    match = _SIZE.fullmatch(text)
    return int(match[1]) * _FACTORS[(match[2] or "").lower()] if match else None


def _memory(values: Values) -> Iterator[PlatformError]:
    text = values[_MAXMEMORY]
    most = size(text)
    if not most:
        yield contradiction(
            f"{_MAXMEMORY} is no size",
            repr(text),
            "a number above 0 with kb, mb or gb, such as 6gb",
            f"correct {_MAXMEMORY}",
        )
        return
    limit = deep(values["data_services_redis_values"], "redis", "resources", "limits", "memory")
    has = limit or values["data_services_redis_memory"]
    if most * 4 > as_quantity(has) * 3:
        yield contradiction(
            "Redis would be killed for its memory before it lets go of keys",
            f"{_MAXMEMORY} {text}, data_services_redis_memory {has}",
            f"{_MAXMEMORY} of at most three quarters of data_services_redis_memory, as a rewrite of the append-only "
            "file takes a copy",
            f"lower {_MAXMEMORY} or raise data_services_redis_memory",
        )
    volumes = ["data_services_redis_storage"] + ["data_services_redis_backup_storage"] * values[
        "data_services_redis_backup"
    ]
    storage = "data_services_redis_storage"
    # The file is written anew when it has doubled (auto-aof-rewrite-percentage 100), and the old one stays until then.
    if values.quantity(storage) >= most and values.quantity(storage) < 3 * most:
        yield contradiction(
            "a rewrite of the append-only file does not fit into Redis' volume, which refuses writes then",
            f"{_MAXMEMORY} {text}, {storage} {values[storage]}",
            f"three times {_MAXMEMORY}: what was written last, as much again since, and the next one",
            f"raise {storage} (a volume grows only where its class allows it) or lower {_MAXMEMORY}",
        )
    for volume in volumes:
        if most > values.quantity(volume):
            yield contradiction(
                f"the data do not fit into their volume: {volume}", f"{_MAXMEMORY} {text}, {volume} {values[volume]}",
                f"more than {_MAXMEMORY}", f"raise {volume} (a volume grows only where its class allows it)",
            )  # fmt: skip


def _votes(values: Values) -> Iterator[PlatformError]:
    quorum, sentinels = values["data_services_redis_quorum"], values["data_services_redis_sentinels"]
    if not 1 <= quorum <= sentinels:
        yield contradiction(
            "the Sentinels can never agree that the master is down",
            f"data_services_redis_quorum {quorum}, data_services_redis_sentinels {sentinels}",
            "a quorum of 1 to the number of Sentinels",
            "lower data_services_redis_quorum or raise data_services_redis_sentinels",
        )


def _replicas(values: Values) -> Iterator[PlatformError]:
    servers = values["data_services_redis_replicas"]
    wanted = values["data_services_redis_min_replicas_to_write"]
    if not 0 <= wanted < servers:
        yield contradiction(
            "no write would ever be taken",
            f"data_services_redis_min_replicas_to_write {wanted}, data_services_redis_replicas {servers}, the master "
            "among them",
            f"0 to {servers - 1}",
            "lower data_services_redis_min_replicas_to_write or raise data_services_redis_replicas",
        )


def _confirmations(values: Values) -> Iterator[PlatformError]:
    servers, confirm = values["data_services_redis_replicas"], values["controller_redis_confirm_replicas"]
    if _is_ours(values) and not 0 <= confirm < servers:
        yield contradiction(
            "no session could ever be initialized",
            f"controller_redis_confirm_replicas {confirm}, data_services_redis_replicas {servers}, the master among "
            "them",
            f"0 to {servers - 1}",
            "lower controller_redis_confirm_replicas or raise data_services_redis_replicas",
        )


def _callers(values: Values) -> Iterator[PlatformError]:
    most = size(values[_MAXMEMORY])
    if not most or not _is_ours(values):
        return
    for who, name, parts in (
        ("one caller", "controller_max_kept_bytes_per_caller", 4),
        ("the callers without a user", "controller_max_kept_bytes_anonymous", 2),
    ):
        if values[name] * parts > most:
            yield contradiction(
                f"{who} could fill Redis, and nobody else would get a session",
                f"{name} {values[name]}, {_MAXMEMORY} {values[_MAXMEMORY]}",
                f"at most a {'quarter' if parts == 4 else 'half'} of {_MAXMEMORY}: {most // parts}",
                f"lower {name} or raise {_MAXMEMORY}",
            )


def _is_ours(values: Values) -> bool:
    """Whether the controller's Redis is the role's, by its address."""
    if values["controller_redis_mode"] == "sentinel":
        places = values["controller_redis_sentinels"]
    else:
        places = [values["controller_redis_url"].rpartition("/")[2].rpartition("@")[2]]
    names = tuple(f"{name}.{values['data_services_namespace']}" for name in ("redis-master", "redis-sentinel"))
    return any(place.startswith(names) for place in places)


def _times(values: Values) -> Iterator[PlatformError]:
    lag, down = (
        values["data_services_redis_min_replicas_max_lag_seconds"],
        values["data_services_redis_down_after_milliseconds"],
    )
    if lag < 1 or lag * 1000 >= down:
        yield contradiction(
            "a master that is cut off would take writes when there is another already",
            f"data_services_redis_min_replicas_max_lag_seconds {lag}, "
            f"data_services_redis_down_after_milliseconds {down}",
            "a lag of 1 s or more, and shorter than the time after which the master is taken for down",
            "lower data_services_redis_min_replicas_max_lag_seconds or raise "
            "data_services_redis_down_after_milliseconds",
        )


def _clients(values: Values) -> Iterator[PlatformError]:
    # users, exporter: the Secrets redis-users and redis-exporter; default: the user that Redis itself has, and that
    # is off.
    taken = {
        "users",
        "exporter",
        "default",
        *values["__data_services_redis_own_users"],
        *values["__data_services_redis_admin"],
    }
    if values["data_services_drill_client"]:
        taken |= set(values["__data_services_redis_drill"])
    for name, client in values["data_services_redis_clients"].items():
        if name in taken:
            yield contradiction(
                f"the client {name} of Redis would take the place of the platform's own user",
                f"{name} in data_services_redis_clients",
                f"another name than {', '.join(sorted(taken))}",
                "rename it in data_services_redis_clients",
            )
        elif len(name) > 63 or not DNS_LABEL.fullmatch(name):
            yield contradiction(
                "a client of Redis cannot name its Secret redis-NAME", f"{name!r} in data_services_redis_clients",
                "lower-case letters, digits and hyphens, at most 63", "rename it in data_services_redis_clients",
            )  # fmt: skip
        if not (client.get("redis") or client.get("sentinel")) or any(
            "\n" in client.get(side, "") for side in ("redis", "sentinel")
        ):
            yield contradiction(
                f"the client {name} of Redis has no rules", "no redis and no sentinel, or more than one line",
                "rules of Redis ACLs on one line", f"correct data_services_redis_clients.{name}",
            )  # fmt: skip


CHECKS = (_memory, _votes, _replicas, _confirmations, _callers, _times, _clients)

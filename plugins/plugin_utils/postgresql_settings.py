# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL's memory and WAL settings out of a pod's memory, CPU and disk, and the budget of its connections.

Sources are chapters of PostgreSQL 17's manual (https://www.postgresql.org/docs/17/): runtime-config-resource (20.4),
runtime-config-wal (20.5), runtime-config-replication (20.6), runtime-config-query (20.7) and
runtime-config-connection (20.3); and https://www.pgbouncer.org/config.html for the pools.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes import quantities

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

LEAST_MEMORY = 128 * MIB
LEAST_STORAGE = 512 * MIB
# Patroni takes less for a mistake, and gives PostgreSQL 100 without a word.
LEAST_CONNECTIONS = 25
WAL_SEGMENT = 16 * MIB
"""The default of initdb, https://www.postgresql.org/docs/17/app-initdb.html."""


def _wrong(what: str, found: object, expected: str, fix: str) -> PlatformError:
    return PlatformError(what, found=str(found), expected=expected, fix=fix, reason="argument")


def quantity(name: str, value: object) -> Decimal:
    """A Kubernetes quantity as a number, of bytes or of CPUs."""
    number = quantities.quantity(value)
    if number is None or number < 0:
        raise _wrong(
            f"{name} is no quantity", repr(value), "a number with a unit, such as 16Gi or 500m", f"correct {name}"
        )
    return number


def settings(
    memory: object, cpu: object, storage: object, max_connections: int, overrides: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Parameters of PostgreSQL; ``overrides`` win, and a null there leaves PostgreSQL's own default."""
    memory_bytes, storage_bytes = quantity("memory", memory), quantity("storage", storage)
    cpus = max(1, math.ceil(quantity("cpu", cpu)))
    if memory_bytes < LEAST_MEMORY:
        raise _wrong(
            "PostgreSQL has too little memory", memory, "128Mi or more", "raise data_services_postgresql_memory"
        )
    if storage_bytes < LEAST_STORAGE:
        raise _wrong(
            "PostgreSQL has too small a volume", storage, "512Mi or more", "raise data_services_postgresql_storage"
        )
    if max_connections < LEAST_CONNECTIONS:
        raise _wrong(
            "PostgreSQL has too few connections",
            max_connections,
            f"{LEAST_CONNECTIONS} or more",
            "raise data_services_postgresql_max_connections",
        )
    # 20.4: "a reasonable starting value for shared_buffers is 25% of the memory".
    shared_buffers = memory_bytes / 4
    # 20.5: max_wal_size is a soft limit, so a tenth of the volume leaves room for the load that goes over it.
    max_wal_size = min(max(storage_bytes / 10, Decimal(4 * WAL_SEGMENT)), Decimal(16 * GIB))
    derived = {
        "max_connections": max_connections,
        "shared_buffers": _size(shared_buffers),
        # 20.7: what both PostgreSQL and the kernel can keep of its files; the page cache counts to the pod's memory.
        "effective_cache_size": _size(memory_bytes * 3 / 4),
        # 20.4: each sort of each session may take so much, a hash twice as much (hash_mem_multiplier 2). A quarter of
        # the memory that is left leaves room for the page cache when every session has one of either.
        "work_mem": _size(
            min(max((memory_bytes - shared_buffers) / 4 / max_connections, Decimal(64 * KIB)), Decimal(256 * MIB))
        ),
        # 20.4: one session has only one such operation at a time; autovacuum's three workers may have one each.
        "maintenance_work_mem": _size(min(max(memory_bytes / 32, Decimal(MIB)), Decimal(GIB))),
        # 20.4: limits of the whole server, by what can run at once.
        "max_worker_processes": max(8, cpus + 4),
        "max_parallel_workers": cpus,
        "max_parallel_workers_per_gather": cpus // 2,
        "max_parallel_maintenance_workers": max(1, cpus // 2),
        "max_wal_size": _size(max_wal_size, MIB),
        "min_wal_size": _size(max(max_wal_size / 4, Decimal(2 * WAL_SEGMENT)), MIB),
        # 20.6: a slot whose standby is away keeps WAL; without a limit it fills the volume, and the primary stops.
        "max_slot_wal_keep_size": _size(max(storage_bytes / 5, Decimal(4 * WAL_SEGMENT)), MIB),
    }
    wanted = {**derived, **(overrides or {})}
    return {name: value for name, value in wanted.items() if value is not None}


def _size(number: Decimal, unit: int = KIB) -> str:
    """Rounded down to whole units, as postgresql.conf reads it (20.1.1)."""
    whole = int(number) // unit * unit
    for factor, suffix in ((GIB, "GB"), (MIB, "MB")):
        if whole % factor == 0:
            return f"{whole // factor}{suffix}"
    return f"{whole // KIB}kB"


def connections(
    clients: Mapping[str, Mapping[str, Any]],
    poolers: int,
    max_client_connections: int,
    max_connections: int,
    reserve: int,
    rotated: Collection[str] = (),
) -> dict[str, int]:
    """What each client's role may open at PostgreSQL; an error with the numbers where they do not fit.

    A client's ``connections`` are those that all its pods open at PgBouncer, and ``pool`` is the most that each
    PgBouncer makes of them at PostgreSQL. Two things must hold: one PgBouncer alone can take every client, as the other
    may be away; and PostgreSQL has room for the pools of all PgBouncers, or for the clients themselves where they are
    fewer, and for ``reserve`` (superusers, PgBouncer's own queries, members, backups). Clients in ``rotated`` have the
    pools of two logins for a while.
    """
    limits = {}
    for name, client in clients.items():
        opened, pool = client["connections"], client["pool"]
        if opened < 1 or pool < 1:
            raise _wrong(
                f"the client {name} could not connect", f"connections {opened}, pool {pool}", "1 or more of each",
                f"correct data_services_postgresql_clients.{name}",
            )  # fmt: skip
        # While a PgBouncer is replaced there is one more of them.
        limits[name] = pool * (poolers + 1)
    wanted = {name: client["connections"] for name, client in clients.items()}
    told = " + ".join(f"{name} {count}" for name, count in wanted.items())
    if sum(wanted.values()) > max_client_connections:
        raise _wrong(
            "PgBouncer cannot take all clients",
            f"{told} = {sum(wanted.values())} client connections, max_client_conn {max_client_connections}",
            "that one PgBouncer can take all of them",
            "raise data_services_postgresql_pgbouncer_max_client_connections, or lower the clients' replicas or pools",
        )
    needed = {name: min(limits[name] * (1 + (name in rotated)), wanted[name]) for name in wanted}
    told = " + ".join(
        f"{name} {needed[name]} (of {wanted[name]} at PgBouncer, {poolers} + 1 pools of {clients[name]['pool']}"
        + (", for both logins)" if name in rotated else ")")
        for name in wanted
    )
    if sum(needed.values()) + reserve > max_connections:
        raise _wrong(
            "the connections do not fit into PostgreSQL",
            f"{told} + reserve {reserve} = {sum(needed.values()) + reserve}, max_connections {max_connections}",
            f"at most {max_connections}",
            "raise data_services_postgresql_max_connections, or lower the clients' pools "
            "(data_services_postgresql_clients) or controller_max_replicas and controller_database_pool_size",
        )
    return limits

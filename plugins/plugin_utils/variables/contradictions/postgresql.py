# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PostgreSQL: its clients, its connections, its parameters and Patroni's times."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils import postgresql_settings
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.contradictions.finding import (
    DNS_LABEL,
    NotChecked,
    Values,
    contradiction,
)
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.contradictions.parameters import (
    OF_PATRONI,
    OF_THE_CHART,
    PARAMETERS,
    VERSION,
)

DATABASE = "lambda"
_LONGEST_ROLE = 63
# Roles that PostgreSQL or the platform has, and the database, of which an owner would be taken for a client.
_ROLES = {"postgres", "standby", "rewind", "client", "pgbouncer", "metrics", DATABASE, "public", "none"}
# Secrets postgresql-NAME of the platform's own.
_SECRETS = {"authority", "ca", "tls", "repository-tls", "roles", "backup", "exporter"}
_SCHEMA = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,62}")
_SCHEMAS = {"public", "pgbouncer", "information_schema"}
_CLIENTS = "data_services_postgresql_clients"


def _wanted(values: Values) -> None:
    if not values["data_services_postgresql_enabled"]:
        raise NotChecked(_CLIENTS)


def _is_there(values: Values) -> Iterator[PlatformError]:
    if values["data_services_postgresql_enabled"] or not values["controller_database_enabled"]:
        return
    hosts = {
        f"pgbouncer.{values['data_services_namespace']}",
        f"postgresql-primary.{values['data_services_namespace']}",
    }
    for name in ("controller_database_url", "controller_database_primary_url"):
        host = urlsplit(values[name]).hostname or ""
        if host.removesuffix(".svc.cluster.local").removesuffix(".svc") in hosts:
            yield contradiction(
                "the controller wants a PostgreSQL that nobody makes",
                f"data_services_postgresql_enabled false, controller_database_enabled true, {name} {values[name]}",
                "a PostgreSQL at that address",
                "leave controller_database_enabled out, it follows data_services_postgresql_enabled; or name another "
                "PostgreSQL",
            )


def _names(values: Values) -> Iterator[PlatformError]:
    _wanted(values)
    taken = _ROLES | _SECRETS | ({"drill"} if values["data_services_drill_client"] else set())
    for name in values[_CLIENTS]:
        if name in taken:
            yield contradiction(
                f"the client {name} of PostgreSQL has a name that is taken", f"{name} in {_CLIENTS}",
                f"another name than {', '.join(sorted(taken))}", f"rename it in {_CLIENTS}",
            )  # fmt: skip
        elif len(f"{name}_2") > _LONGEST_ROLE or not DNS_LABEL.fullmatch(name):
            yield contradiction(
                "a client of PostgreSQL cannot name its logins NAME and NAME_2 and its Secret postgresql-NAME",
                f"{name!r} in {_CLIENTS}",
                f"lower-case letters, digits and hyphens, at most {_LONGEST_ROLE - 2}",
                f"rename it in {_CLIENTS}",
            )


def _schemas(values: Values) -> Iterator[PlatformError]:
    _wanted(values)
    owners: dict[str, list[str]] = {}
    for name, client in values[_CLIENTS].items():
        for schema in client.get("schemas", ()):
            owners.setdefault(schema, []).append(name)
    if values["data_services_drill_client"]:
        owners.setdefault("drill", []).append("drill")
    for schema, clients in owners.items():
        if schema in _SCHEMAS or not _SCHEMA.fullmatch(schema):
            yield contradiction(
                f"the schema {schema} cannot be a client's", f"{schema!r} of {clients[0]} in {_CLIENTS}",
                "lower-case letters, digits and underscores, at most 63, not pg_..., not "
                + ", ".join(sorted(_SCHEMAS)),
                f"rename it in {_CLIENTS}",
            )  # fmt: skip
        if len(clients) > 1:
            yield contradiction(
                f"the schema {schema} would have several owners", f"{' and '.join(clients)} in {_CLIENTS}", "one owner",
                f"take it out of the others in {_CLIENTS}",
            )  # fmt: skip


def _connections(values: Values) -> Iterator[PlatformError]:
    _wanted(values)
    clients = {
        **values[_CLIENTS],
        **(values["__data_services_postgresql_drill"] if values["data_services_drill_client"] else {}),
    }
    try:
        postgresql_settings.connections(
            clients,
            values["data_services_postgresql_pgbouncer_replicas"],
            values["data_services_postgresql_pgbouncer_max_client_connections"],
            values["data_services_postgresql_max_connections"],
            values["data_services_postgresql_reserved_connections"],
        )
    except PlatformError as error:
        yield error


def _sizes(values: Values) -> Iterator[PlatformError]:
    _wanted(values)
    for name in ("memory", "cpu", "storage"):
        values.quantity(f"data_services_postgresql_{name}")
    try:
        postgresql_settings.settings(
            values["data_services_postgresql_memory"],
            values["data_services_postgresql_cpu"],
            values["data_services_postgresql_storage"],
            values["data_services_postgresql_max_connections"],
        )
    except PlatformError as error:
        yield error


def _parameters(values: Values) -> Iterator[PlatformError]:
    _wanted(values)
    known = {name.lower(): name for name in PARAMETERS}
    archive = values["data_services_postgresql_backup"]
    for name in values["data_services_postgresql_parameters"]:
        place = f"{name} in data_services_postgresql_parameters"
        if name.lower() == "max_connections":
            yield contradiction(
                "max_connections has a variable of its own, from which the connections are budgeted", place,
                "data_services_postgresql_max_connections",
                "set that, and take it out of data_services_postgresql_parameters",
            )  # fmt: skip
        elif name in OF_PATRONI or (name in OF_THE_CHART and (archive or not name.startswith("archive_"))):
            yield contradiction(
                f"the platform sets {name} itself, and another value would have no effect", place,
                "parameters that are left to you", "take it out of data_services_postgresql_parameters",
            )  # fmt: skip
        elif "." not in name and name.lower() not in known:
            nearest = difflib.get_close_matches(name.lower(), known, 1, 0)
            yield contradiction(
                f"PostgreSQL {VERSION} has no parameter {name}", place,
                f"one that it has, the nearest is {nearest[0]}; those of extensions have a dot",
                "correct data_services_postgresql_parameters",
            )  # fmt: skip


def _times(values: Values) -> Iterator[PlatformError]:
    _wanted(values)
    ttl = values["data_services_postgresql_ttl_seconds"]
    loop, retry = (
        values["data_services_postgresql_loop_wait_seconds"],
        values["data_services_postgresql_retry_timeout_seconds"],
    )
    if ttl < 20 or loop < 1 or retry < 3 or loop + 2 * retry > ttl:
        yield contradiction(
            "a slow API server would cost a healthy primary its place",
            f"data_services_postgresql_ttl_seconds {ttl}, loop_wait_seconds {loop}, retry_timeout_seconds {retry}",
            "ttl 20 or more, loop_wait 1 or more, retry_timeout 3 or more, loop_wait and twice retry_timeout in ttl",
            "raise data_services_postgresql_ttl_seconds, or lower the two others",
        )


CHECKS = (_is_there, _names, _schemas, _connections, _sizes, _parameters, _times)

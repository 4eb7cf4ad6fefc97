# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The logic of the module ``logs``: the lines of one request over all components, in order."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import (
    Cluster,
    auth_argument_spec,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
from ansible_collections.lambda_microservice.platform.plugins.module_utils.logs.elastic import Elastic
from ansible_collections.lambda_microservice.platform.plugins.module_utils.logs.line import LIMIT, Line, Store
from ansible_collections.lambda_microservice.platform.plugins.module_utils.logs.victorialogs import VictoriaLogs

STORES: dict[str, Store] = {"elastic": Elastic(), "victorialogs": VictoriaLogs()}

ARGUMENT_SPEC: dict[str, Any] = {
    **auth_argument_spec(),
    "request": {"type": "str", "required": True},
    "namespace": {"type": "str", "default": "monitoring"},
    "backend": {"type": "str", "choices": sorted(STORES), "default": "victorialogs"},
    "enabled": {"type": "bool", "default": True},
    "retention_days": {"type": "int", "default": 30},
}

_HEX = re.compile(r"[0-9a-f]{32}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# What a line repeats of the request itself, or says already by its place.
_KNOWN = {"request_id", "trace_id", "span_id", "timestamp", "time", "level", "target"}


def run(
    params: Object,
    check_mode: bool,
    diff: bool,
    progress: Callable[[str], None] | None = None,
    connect: Callable[[Object], Cluster] | None = None,
) -> Object:
    """Find the lines. Nothing is changed, so check mode is no other mode."""
    if not params["enabled"]:
        raise PlatformError(
            "no logs are collected",
            where="logging_enabled",
            found="false",
            expected="true",
            fix="set it and run site.yml --tags logging; until then: kubectl logs",
            reason="argument",
        )
    request_id, trace_id = ids_of(params["request"])
    cluster = (connect or Cluster)(params)
    found = STORES[params["backend"]].of_request(cluster, params["namespace"], request_id, trace_id)
    if not found:
        raise PlatformError(
            "there is no line of this request",
            where=f"the logs of the last {params['retention_days']} days in namespace {params['namespace']}",
            found=f"nothing with request_id {request_id} or trace_id {trace_id}",
            expected="the id in the header X-Request-ID of an answer, not that of a session (the API's request_id)",
            fix="take the header's; of a request just made, call again in 15 s: agents look at quiet pods every 10 s",
            reason="missing",
        )
    lines = sorted(found, key=lambda line: line.time)
    table = table_of(lines)
    if progress:
        for text in table:
            progress(text)
    cut = f", the latest {LIMIT} that there are" if len(lines) == LIMIT else ""
    return {
        "changed": False,
        "msg": f"{len(lines)} lines of {len({line.pod for line in lines})} pods{cut}",
        "lines": [vars(line) for line in lines],
        "table": table,
    }


def ids_of(text: str) -> tuple[str, str]:
    """The request's id and its trace's: one is the other without dashes where the caller began no trace of its own."""
    given = text.strip().lower()
    if _UUID.fullmatch(given):
        return given, given.replace("-", "")
    if _HEX.fullmatch(given):
        ends = (0, 8, 12, 16, 20, 32)
        return "-".join(given[start:end] for start, end in zip(ends, ends[1:], strict=False)), given
    raise PlatformError(
        "this is no id of a request",
        where="request",
        found=repr(text) if text else "nothing",
        expected="the UUID of an answer's header X-Request-ID, or the 32 hexadecimal digits of a trace",
        fix="ansible-playbook playbooks/logs.yml -e request=ID",
        reason="argument",
    )


def table_of(lines: list[Line]) -> list[str]:
    """Aligned: time (UTC), component and pod, what it says."""
    rows = [(line.time[11:23].rstrip("Z"), f"{line.container} {line.pod}", said_by(line)) for line in lines]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    day = lines[0].time[:10]
    return [f"{day} (UTC)", *(f"{time:<{widths[0]}}  {who:<{widths[1]}}  {what}".rstrip() for time, who, what in rows)]


def said_by(line: Line) -> str:
    """The message, and the fields that say more than where and when."""
    said = [f"{name}={value}" for name, value in line.fields.items() if name not in _KNOWN and value not in ("", "-")]
    return " ".join(part for part in (line.message, *said) if part)

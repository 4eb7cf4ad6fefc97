# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the edge answers by itself."""

from __future__ import annotations

from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.limits import Limits

NEVER_SENT = ("UF", "UH", "UO", "NC", "DO", "OM", "LH")
"""Response flags with which no upstream has seen the request: no connection could be made (and each further try ended
so too), nobody is there, the edge's own bounds refused it, or it drains and a load balancer asked for its health. With
any other (UC, UR, UPE...) it may have run."""


NOTHING_RAN = "x-nothing-ran"
"""What a proxy of the mesh adds where it answers itself and no request left it: the edge may try another pod. It never
leaves the edge."""

_UNAVAILABLE = "The service is not available at the moment, and nothing ran. Try again shortly."
_BROKEN = "The connection to the service broke before its answer came. The request may have been handled."


def _comparison(op: str, status: int) -> dict[str, Any]:
    value = {"default_value": status, "runtime_key": "edge.local_reply"}
    return {"status_code_filter": {"comparison": {"op": op, "value": value}}}


def _reply(
    condition: dict[str, Any], code: str, message: str, status: int | None = None, retry_after: int | str | None = None
) -> dict[str, Any]:
    mapper: dict[str, Any] = {"filter": condition}
    if status is not None:
        mapper["status_code"] = status
    if retry_after is not None:
        mapper["headers_to_add"] = [
            {"header": {"key": "retry-after", "value": str(retry_after)}, "append_action": "ADD_IF_ABSENT"}
        ]
    mapper["body_format_override"] = {"json_format": {"error": {"code": code, "message": message}}}
    return mapper


def local_replies(limits: Limits) -> dict[str, Any]:
    """Envoy's own answers in the form of the controller's: ``{"error": {"code", "message"}}``."""
    too_many = "Too many requests. Retry-After says in how many seconds to come back."
    return {
        "mappers": [
            _reply(_comparison("EQ", 401), "UNAUTHENTICATED", "The request does not prove who sends it."),
            _reply(_comparison("EQ", 403), "FORBIDDEN", "The caller may not do this."),
            _reply(_comparison("EQ", 404), "NOT_FOUND", "There is nothing at this path."),
            # TIMEOUT is said of a script that ran, and a script begins with the whole request.
            _reply(_comparison("EQ", 408), "INVALID_REQUEST", "The request did not arrive in time."),
            _reply(
                _comparison("EQ", 413),
                "PAYLOAD_TOO_LARGE",
                f"The request is larger than {limits.max_request_bytes} bytes.",
            ),
            # The local limiter says itself when to come back; the service's answer has it as a header of the draft.
            _reply(_comparison("EQ", 429), "RATE_LIMITED", too_many, retry_after="%RESP(X-RATELIMIT-RESET)%"),
            # UNAVAILABLE promises that nothing ran: clients send the same again.
            _reply(
                {"response_flag_filter": {"flags": list(NEVER_SENT)}},
                "UNAVAILABLE",
                _UNAVAILABLE,
                status=503,
                retry_after=1,
            ),
            _reply(_comparison("EQ", 504), "TIMEOUT", "The service did not answer in time."),
            _reply(_comparison("GE", 500), "INTERNAL_ERROR", _BROKEN, status=500),
            _reply(_comparison("GE", 400), "INVALID_REQUEST", "The request was not understood."),
        ]
    }


def proxy_replies() -> dict[str, Any]:
    """What a proxy of the mesh answers by itself, in the same form: who asked it through it takes a proxy's answer for
    the service's. Beside what was never sent, nothing ran where the mesh refused it (403), or knows no way (NR)."""
    refused = {
        "or_filter": {"filters": [{"response_flag_filter": {"flags": [*NEVER_SENT, "NR"]}}, _comparison("EQ", 403)]}
    }
    nothing_ran = _reply(refused, "UNAVAILABLE", _UNAVAILABLE, status=503, retry_after=1)
    nothing_ran["headers_to_add"].append(
        {"header": {"key": NOTHING_RAN, "value": "true"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    )
    return {"mappers": [nothing_ran, _reply(_comparison("GE", 500), "INTERNAL_ERROR", _BROKEN, status=500)]}

# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One line of JSON for each request."""

from __future__ import annotations

from typing import Any

# The trace's id alone of a traceparent, which the controller continues; without one it takes the request's id as the
# trace's. A longer expression, such as one that counts the digits after it, is too large for Envoy and gives null.
TRACE_ID = r"%CEL(re.extract(request.headers['traceparent'], '^[0-9a-f]+-([0-9a-f]{32})-[0-9a-f]+-', '\\1'))%"

# Neither bodies nor the query: both may hold a caller's secrets. Of the path only what shows half of a request's id
# (/api/v1/execute/ and 19 characters): whoever has the whole id of a session without a user may execute it.
ACCESS_LOG_FIELDS = {
    "time": "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
    "listener": "%FILTER_CHAIN_NAME%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "trace_id": TRACE_ID,
    "method": "%REQ(:METHOD)%",
    "authority": "%REQ(:AUTHORITY)%",
    "path": "%PATH(NQ):35%",
    "protocol": "%PROTOCOL%",
    "language_title": "%REQ(LANGUAGE-TITLE):128%",
    "user_agent": "%REQ(USER-AGENT):256%",
    "status": "%RESPONSE_CODE%",
    "status_details": "%RESPONSE_CODE_DETAILS%",
    "flags": "%RESPONSE_FLAGS%",
    "route": "%ROUTE_NAME%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "duration_ms": "%DURATION%",
    "upstream": "%UPSTREAM_CLUSTER%",
    "upstream_host": "%UPSTREAM_HOST%",
    "upstream_attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "upstream_duration_ms": "%RESPONSE_DURATION%",
    # What the edge itself takes: the limits, the proof of who calls, the wait for the body and for a connection.
    "before_upstream_us": "%COMMON_DURATION(DS_RX_BEG:US_TX_BEG:us)%",
    "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "tls_version": "%DOWNSTREAM_TLS_VERSION%",
}


def access_log() -> list[dict[str, Any]]:
    """The log on standard output."""
    return [
        {
            "name": "envoy.access_loggers.stdout",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
                "log_format": {"json_format": ACCESS_LOG_FIELDS},
            },
        }
    ]

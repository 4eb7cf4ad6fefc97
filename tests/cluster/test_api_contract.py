"""images/controller/openapi.yaml against the platform, through its edge: whatever is sent, no 5xx is the answer.

EDGE_URL and EDGE_CA_FILE name the edge, or it is the local one's.
"""

from __future__ import annotations

import collections
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).resolve().parents[2]
URL = os.environ.get("EDGE_URL", "https://localhost:8443")
AUTHORITY = os.environ.get("EDGE_CA_FILE", str(ROOT / ".local" / "ca.crt"))

CONFIGURATION = {
    "base-url": URL,
    "tls-verify": AUTHORITY,
    "request-timeout": 40,
    # The probes are not at the edge.
    "operations": [{"include-path-regex": "^/(health|ready)$", "enabled": False}],
    # Envoy's parser refuses a method that it does not know with 400, where the check wants 405.
    "checks": {"unsupported_method": {"enabled": False}},
}

schema = schemathesis.openapi.from_path(
    ROOT / "images/controller/openapi.yaml", config=SchemathesisConfig.from_dict(CONFIGURATION)
)
seen: collections.Counter[int] = collections.Counter()
registered: set[tuple[str, str]] = set()


@pytest.fixture(scope="module", autouse=True)
def _functions_that_were_registered_go_again() -> Iterator[None]:
    yield
    for url, user in registered:
        requests.delete(url, headers={"X-User-ID": user}, verify=AUTHORITY, timeout=40)


@schema.parametrize()
@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_an_answer_is_documented_and_no_failure_of_the_platform(case: schemathesis.Case) -> None:
    # The edge counts by user: each request is another's. Where the header is what is being tested, it is left alone.
    if case.operation.method == "get" or case.operation.path.startswith(("/api/v1/initialize", "/api/v1/execute")):
        case.headers.setdefault("X-User-ID", f"contract-{uuid.uuid4()}")
    response = case.call_and_validate()
    seen[response.status_code] += 1
    if response.status_code == 201:
        registered.add((response.request.url, response.request.headers["X-User-ID"]))


def test_the_answers_were_of_many_kinds_and_few_were_limited() -> None:
    """Else the test before says nothing."""
    assert {200, 400, 404} <= seen.keys(), seen
    assert seen[429] < seen.total() / 10, seen

"""The preStop script of the chart, beside a real Envoy."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path

import pytest
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.bootstrap import (
    ADMIN_PORT,
    METRICS_PORT,
)
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.configuration import configure

SCRIPT = Path(__file__).resolve().parents[3] / "roles/ingress/files/charts/envoy/files/drain"


@pytest.fixture
def running(edge, upstream):
    behind = [{"name": "controller", "address": "127.0.0.1", "port": upstream.port}]
    edge.start(configure([{"name": "api", "match": {"prefix": "/"}, "upstream": "controller"}], behind))
    return edge


def drain(edge, propagation=1, requests=20, **others):
    settings = {
        "PROPAGATION_SECONDS": propagation,
        "REQUEST_SECONDS": requests,
        "ADMIN_PORT": edge.ports[ADMIN_PORT],
        **others,
    }
    return subprocess.Popen(
        ["bash", str(SCRIPT)],
        env={**os.environ, **{name: str(value) for name, value in settings.items()}},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_it_leaves_the_service_tells_clients_to_leave_and_waits_for_a_request_in_flight(running, upstream):
    answers = []
    request = threading.Thread(target=lambda: answers.append(running.get("/slow")))
    request.start()
    running.wait_until(lambda: "/slow" in upstream.seen, "the request is in flight")

    script = drain(running)
    running.wait_until(lambda: running.get("/ready", port=METRICS_PORT).status == 503, "the pod is not ready")
    # Who comes all the same is served, and sent elsewhere.
    late = running.get("/late")
    assert (late.status, late.headers["connection"]) == (200, "close")
    assert script.poll() is None
    assert script.wait(20) == 0
    request.join(5)
    assert [answer.status for answer in answers] == [200]


def test_a_node_s_load_balancer_is_waited_for_before_the_pod_says_that_it_leaves(running, upstream):
    script = drain(running, propagation=2, LEAVE_FIRST="false", TELL_SECONDS=1)
    begin = time.monotonic()
    # Who comes until then is served as ever: the node would drop them otherwise.
    while time.monotonic() - begin < 1.2:
        assert running.get("/ready", port=METRICS_PORT).status == 200
        assert running.get("/x").status == 200
    running.wait_until(lambda: running.get("/ready", port=METRICS_PORT).status == 503, "the pod says that it leaves")
    assert script.wait(20) == 0
    assert time.monotonic() - begin >= 3


def test_it_ends_as_soon_as_there_is_nothing_to_wait_for(running):
    begin = time.monotonic()
    script = drain(running, propagation=1)
    assert script.wait(15) == 0
    assert 1 <= time.monotonic() - begin < 10
    assert script.stderr.read() == ""


def test_it_gives_up_on_requests_that_last_too_long(running, upstream):
    request = threading.Thread(target=lambda: running.get("/slow"))
    request.start()
    running.wait_until(lambda: "/slow" in upstream.seen, "the request is in flight")
    begin = time.monotonic()
    assert drain(running, propagation=0, requests=1).wait(15) == 0
    assert time.monotonic() - begin < 2.9
    request.join()


def test_it_ends_well_where_envoy_is_gone(running):
    running.stop()
    assert drain(running, propagation=0).wait(15) == 0

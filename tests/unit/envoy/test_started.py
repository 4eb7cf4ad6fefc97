"""The startup probe of the chart, beside a real Envoy: callers come only once the upstreams are reached."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.bootstrap import ADMIN_PORT
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.configuration import configure

from tests.free_ports import free_port

SCRIPT = Path(__file__).resolve().parents[3] / "roles/ingress/files/charts/envoy/files/started"
ROUTES = [{"name": "api", "match": {"prefix": "/"}, "upstream": "controller"}]


def behind(upstream, **more):
    check = {"path": "/ready", "interval_seconds": 0.1}
    return [{"name": "controller", "address": "127.0.0.1", "port": upstream.port, "health_check": check, **more}]


def started(edge) -> bool:
    env = {**os.environ, "ADMIN_PORT": str(edge.ports[ADMIN_PORT])}
    return subprocess.run(["bash", str(SCRIPT)], env=env, check=False, capture_output=True, timeout=10).returncode == 0


def test_an_envoy_that_reaches_no_pod_of_an_upstream_has_not_started(edge, upstream):
    upstream.server.is_ready = False
    edge.start(configure(ROUTES, behind(upstream)))
    assert not started(edge)
    upstream.server.is_ready = True
    edge.wait_until(lambda: started(edge), "the upstream is reached")


@pytest.mark.parametrize("checked", [True, False])
def test_what_is_not_checked_and_the_rate_limit_service_are_not_waited_for(edge, upstream, checked):
    limits = [{"name": "all", "routes": ["api"], "per": [], "requests": 1000, "unit": "second"}]
    nobody = {"address": "127.0.0.1", "port": free_port()}
    table = behind(upstream) if checked else behind(upstream, port=nobody["port"], health_check=None)
    edge.start(configure(ROUTES, table, rate_limits=limits, rate_limit_service=nobody))
    edge.wait_until(lambda: started(edge), "it has started")


def test_without_an_envoy_nothing_has_started(edge, upstream):
    edge.start(configure(ROUTES, behind(upstream)))
    edge.stop()
    assert not started(edge)

"""What Envoy starts with."""

from __future__ import annotations

import yaml
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.configuration import configure

from .conftest import ROUTES, UPSTREAMS


def test_the_heap_may_take_four_fifths_of_the_containers_memory():
    bootstrap = yaml.safe_load(configure(ROUTES, UPSTREAMS, memory_limit="4Gi").files["envoy.yaml"])
    heap = bootstrap["overload_manager"]["resource_monitors"][0]["typed_config"]["max_heap_size_bytes"]
    assert heap == 4 * 1024**3 * 4 // 5

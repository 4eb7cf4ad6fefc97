"""The table of upstreams: what it becomes, and what is said of a wrong one."""

from __future__ import annotations

import pytest
import yaml
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.envoy.configuration import configure

from .conftest import ROUTES, UPSTREAMS


def test_an_answer_of_an_upstream_never_ejects_it():
    """A 504 may be a script's own fault: whoever sends such scripts must not take pods out of service."""
    cluster = yaml.safe_load(configure(ROUTES, UPSTREAMS).files["clusters.yaml"])["resources"][0]
    outlier = cluster["outlier_detection"]
    assert outlier["split_external_local_origin_errors"] is True
    for kind in ("consecutive_5xx", "consecutive_gateway_failure", "success_rate", "local_origin_success_rate"):
        assert outlier[f"enforcing_{kind}"] == 0


@pytest.mark.parametrize(
    "changes, where, expected",
    [
        ({"name": "admin"}, "ingress_upstreams[0].name", "another name"),
        ({"name": ""}, "ingress_upstreams[0].name", "a name"),
        ({"address": "http://controller"}, "ingress_upstreams[0] (controller).address", "a host name"),
        ({"port": 0}, "ingress_upstreams[0] (controller).port", "1 to 65535"),
        ({"port": "8080"}, "ingress_upstreams[0] (controller).port", "1 to 65535"),
        ({"http2": "yes"}, "ingress_upstreams[0] (controller).http2", "true or false"),
        ({"max_requests": 1.5}, "ingress_upstreams[0] (controller).max_requests", "whole number"),
        ({"tls": True}, "ingress_upstreams[0]", "only the keys"),
        ({"health_check": {}}, "ingress_upstreams[0] (controller).health_check.path", "a value"),
        ({"health_check": {"path": "ready"}}, "ingress_upstreams[0] (controller).health_check.path", "begins with /"),
    ],
)
def test_a_wrong_upstream_is_named(changes, where, expected):
    with pytest.raises(PlatformError) as caught:
        configure(ROUTES, [{**UPSTREAMS[0], **changes}])
    assert caught.value.where == where
    assert expected in caught.value.expected

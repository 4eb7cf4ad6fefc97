"""The table of flows names roles; what is applied names namespaces."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.lambda_microservice.platform.plugins.filter.placed import placed
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.flows import parse_flows

PLACES = {"controller": "ctl", "data_services": "data-services", "nodes": ["10.0.0.0/16"]}


def test_a_roles_name_becomes_its_namespace_and_everything_else_stays() -> None:
    flows = [
        {"from": "controller/controller", "to": "data_services/*", "ports": [1], "service_selector": False},
        {"from": "kube-system/controller", "to": "nodes", "ports": [2]},
        {"from": ["10.1.0.0/16"], "to": "controller/nodes", "ports": [3]},
        {"from": "world", "to": "controller-2/x", "ports": [4]},
    ]
    assert placed(flows, PLACES) == [
        {"from": "ctl/controller", "to": "data-services/*", "ports": [1], "service_selector": False},
        {"from": "kube-system/controller", "to": ["10.0.0.0/16"], "ports": [2]},
        {"from": ["10.1.0.0/16"], "to": "ctl/nodes", "ports": [3]},
        {"from": "world", "to": "controller-2/x", "ports": [4]},
    ]
    assert flows[0]["from"] == "controller/controller", "the table itself was changed"
    assert len(parse_flows(placed(flows, PLACES))) == len(flows)


@pytest.mark.parametrize(("flows", "places"), [({}, {}), ([], [])])
def test_another_form_is_refused(flows: object, places: object) -> None:
    with pytest.raises(AnsibleFilterError, match="a list of flows and a dictionary of places"):
        placed(flows, places)

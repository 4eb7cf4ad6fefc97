"""VerticalPodAutoscalers out of the variables, by the definition that upstream publishes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.lambda_microservice.platform.plugins.filter.vertical_pod_autoscalers import (
    vertical_pod_autoscalers,
)
from ansible_collections.lambda_microservice.platform.plugins.lookup.upstream_manifests import read
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.contradictions.vpa import MODES

from tests.unit.variables.evaluation import evaluated

ROOT = Path(__file__).resolve().parents[3]
BOUNDS = {"redis": {"min": {"cpu": 1, "memory": "2Gi"}, "max": {"cpu": "4", "memory": "8Gi"}}}


@pytest.fixture(scope="module")
def definitions() -> dict[str, dict[str, Any]]:
    """By kind: what the role applies, which is also what the local inventory's module has."""
    pinned = yaml.safe_load((ROOT / "roles/vpa/defaults/main.yml").read_text())["vpa_definitions_sha256"]
    local = yaml.safe_load((ROOT / "inventories/local/group_vars/all/vpa.yml").read_text())
    found = read(local["vpa_definitions_source"], pinned)
    assert found["objects"] == []
    return {obj["spec"]["names"]["kind"]: obj for obj in json.loads(Path(found["definitions"]).read_bytes())}


@pytest.fixture(scope="module")
def schema(definitions: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Of the version that the objects are of. A field that it does not know is wrong."""
    versions = definitions["VerticalPodAutoscaler"]["spec"]["versions"]
    (version,) = [one for one in versions if one["name"] == "v1"]

    def strict(node: Any) -> Any:
        if isinstance(node, list):
            return [strict(one) for one in node]
        if not isinstance(node, dict):
            return node
        closed = {"additionalProperties": False} if "properties" in node else {}
        return {**closed, **{key: strict(value) for key, value in node.items()}}

    return strict(version["schema"]["openAPIV3Schema"]["properties"]["spec"])


def made(**given: Any) -> dict[str, dict[str, Any]]:
    values, wrong = evaluated(vpa_enabled=True, **given)
    assert not wrong
    return {obj["metadata"]["name"]: obj for obj in vertical_pod_autoscalers(values)}


@pytest.mark.parametrize("mode", MODES)
def test_upstream_s_definition_takes_them(schema: dict[str, Any], mode: str) -> None:
    found = made(vpa_mode={"redis": mode}, vpa_bounds=BOUNDS)
    assert len(found) > 20
    for obj in found.values():
        jsonschema.validate(obj["spec"], schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**found["redis"]["spec"], "updateMode": mode}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**found["redis"]["spec"], "updatePolicy": {"updateMode": "Sometimes"}}, schema)


def test_both_definitions_are_there(definitions: dict[str, dict[str, Any]]) -> None:
    assert set(definitions) == {"VerticalPodAutoscaler", "VerticalPodAutoscalerCheckpoint"}


def test_unless_it_is_said_otherwise_all_are_watched_and_none_is_changed() -> None:
    for obj in made().values():
        assert obj["spec"]["updatePolicy"] == {"updateMode": "Off"}
        assert obj["spec"]["resourcePolicy"]["containerPolicies"] == [
            {"containerName": "*", "controlledValues": "RequestsOnly"}
        ]


def test_what_acts_does_so_on_the_program_alone_and_between_its_bounds() -> None:
    redis = made(vpa_mode={"redis": "InPlaceOrRecreate"}, vpa_bounds=BOUNDS)["redis"]["spec"]
    assert redis["updatePolicy"] == {"updateMode": "InPlaceOrRecreate", "minReplicas": 1}
    own, rest = redis["resourcePolicy"]["containerPolicies"]
    assert own == {
        "containerName": "redis",
        "controlledValues": "RequestsOnly",
        "minAllowed": {"cpu": "1", "memory": "2Gi"},
        "maxAllowed": {"cpu": "4", "memory": "8Gi"},
    }
    assert rest == {"containerName": "*", "mode": "Off"}


def test_an_operator_s_pods_belong_to_what_it_was_told() -> None:
    found = made()
    assert found["prometheus-platform"]["spec"]["targetRef"] == {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "Prometheus",
        "name": "platform",
    }
    assert found["redis"]["spec"]["targetRef"]["kind"] == "StatefulSet"


def test_what_is_off_is_not_watched() -> None:
    assert {"gateway", "nats", "postgresql", "victorialogs"} <= made().keys()
    gone = made(openfaas_enabled=False, logging_enabled=False, data_services_postgresql_enabled=False)
    assert not {"gateway", "nats", "postgresql", "pgbouncer", "victorialogs"} & gone.keys()
    elastic = made(logging_backend="elastic", logging_accept_elastic_license=True)
    assert {"logs-es-default", "logs-kb", "logs-ls"} <= elastic.keys() and "vlagent" not in elastic


def test_off_without_quotes_is_off() -> None:
    assert made(vpa_mode={"redis": False})["redis"]["spec"]["updatePolicy"] == {"updateMode": "Off"}


def test_a_variable_that_is_missing_is_named() -> None:
    with pytest.raises(AnsibleFilterError, match="ingress_namespace"):
        vertical_pod_autoscalers({})

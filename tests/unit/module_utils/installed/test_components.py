"""The whole plan, as it is read."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.installed.components import (
    chosen,
    namespaces,
    read,
    secrets_of,
    whole,
)
from hypothesis import given
from hypothesis import strategies as st

EMPTY: dict[str, list[Any]] = {
    key: [] for key in ("releases", "absent", "batches", "rollouts", "secrets", "objects", "files", "unknown")
}
NAMES = st.sampled_from(["foundation", "controller", "ingress", "no_such"])


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


@given(st.lists(NAMES))
def test_components_are_chosen_by_name_in_the_plans_order(only: list[str]) -> None:
    plan = [{"name": name, **EMPTY} for name in ("foundation", "controller", "ingress")]
    if "no_such" in only:
        with pytest.raises(PlatformError) as raised:
            chosen(plan, only)
        assert raised.value.found == "no_such" and raised.value.expected == "foundation, controller, ingress"
        return
    found = [one["name"] for one in chosen(plan, only)]
    assert found == [one["name"] for one in plan if not only or one["name"] in only]


def test_tasks_of_one_batch_are_one_batch() -> None:
    """data_services asks cert-manager for certificates with a first task, without pruning."""
    first = {"name": "b", "namespace": "one", "prune": False, "objects": [config_map("a", x="1"), config_map("b")]}
    second = {"name": "b", "namespace": "one", "objects": [config_map("a", x="2")], "kubeconfig": "/nowhere"}
    (component,) = read([{"name": "c", **EMPTY, "batches": [first, second]}])
    (batch,) = component["batches"]
    assert batch["prune"] and batch["existing"] == "adopt" and "kubeconfig" not in batch
    found = {obj["metadata"]["name"]: obj["data"] for obj in batch["objects"]}
    assert found == {"a": {"x": "2"}, "b": {}}


def test_the_namespaces_are_those_where_something_is_and_never_the_systems() -> None:
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "made"}}
    batch = {"name": "foundation", "namespace": "kube-system", "objects": [made]}
    secret = {"name": "login", "namespaces": ["one", "two"]}
    plan = read([{"name": "c", **EMPTY, "batches": [batch], "secrets": [secret]}])
    assert namespaces(plan) == {"made", "one", "two"}


def test_what_is_not_known_of_the_plan_stops() -> None:
    whole([{"name": "c", **EMPTY}])
    with pytest.raises(PlatformError, match="«Charts» makes is not known") as raised:
        whole([{"name": "c", **EMPTY, "unknown": [{"task": "Charts", "why": "no such file"}]}])
    assert raised.value.where == "c" and raised.value.found == "no such file"


def test_arguments_that_no_module_takes_are_told() -> None:
    with pytest.raises(PlatformError, match="arguments that their module does not take"):
        read([{"name": "c", **EMPTY, "releases": [{"name": "r"}]}])


def test_logins_of_charts_are_secret() -> None:
    release = {"repository": "https://u:pass%40word@charts.example.com", "repository_password": "hidden-one"}
    assert {"hidden-one", "pass@word"} <= set(secrets_of({"components": [{"releases": [release]}]}))

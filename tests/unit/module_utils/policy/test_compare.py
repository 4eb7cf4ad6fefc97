"""What counts as a difference. The fixture holds objects as an API server of Kubernetes 1.37 returned them."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy.compare import (
    changed_fields,
    diff_of,
    is_applied,
    overlaid,
    with_encoded_data,
    without_nulls,
)
from hypothesis import given
from hypothesis import strategies as st

MANAGER = "lambda-microservice-platform"
APPLIED = json.loads((Path(__file__).parent / "applied_objects.json").read_text())
# Their API server wrote a value in another form (0.1 CPU as 100m) or filled in defaults inside an atomic list, so that
# only the API server can tell.
UNSURE = {"LimitRange", "ValidatingAdmissionPolicy"}
SURE = [pair for pair in APPLIED if pair["desired"]["kind"] not in UNSURE]


def kind(pair):
    return pair["desired"]["kind"]


@pytest.mark.parametrize("pair", SURE, ids=kind)
def test_an_applied_object_is_recognised(pair):
    assert is_applied(pair["desired"], pair["live"], MANAGER)


@pytest.mark.parametrize("pair", [pair for pair in APPLIED if kind(pair) in UNSURE], ids=kind)
def test_a_normalised_object_is_left_to_the_api_server(pair):
    assert not is_applied(pair["desired"], pair["live"], MANAGER)


def nodes(value, path=()):
    """All paths in an object, apart from its identity."""
    if path in (("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace")):
        return
    if path and path != ("metadata",):
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from nodes(item, (*path, key))


def parent_of(obj, path):
    for key in path[:-1]:
        obj = obj[key]
    return obj


def another(value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    return "other"


pairs = st.sampled_from(SURE)


@given(pairs, st.data())
def test_every_change_of_what_is_wanted_is_seen(pair, data):
    desired = copy.deepcopy(pair["desired"])
    path = data.draw(st.sampled_from(list(nodes(desired))))
    parent, key = parent_of(desired, path), path[-1]
    change = data.draw(st.sampled_from(["other value", "removed", "added beside"]))
    if change == "other value":
        parent[key] = another(parent[key])
    elif change == "removed":
        # Removing from a map that is empty afterwards still leaves the map: {} is not what was applied either.
        del parent[key]
    elif isinstance(parent, dict):
        parent["added"] = "x"
    else:
        parent.append("x")
    assert not is_applied(desired, pair["live"], MANAGER)


@given(pairs, st.data())
def test_every_drift_of_an_owned_value_is_seen(pair, data):
    desired, live = pair["desired"], copy.deepcopy(pair["live"])
    leaves = [path for path in nodes(desired) if not isinstance(parent_of(desired, path)[path[-1]], dict | list)]
    path = data.draw(st.sampled_from(leaves))
    parent = parent_of(live, path)
    parent[path[-1]] = another(parent[path[-1]])
    assert not is_applied(desired, live, MANAGER)


@given(pairs)
def test_fields_of_others_do_not_matter(pair):
    live = copy.deepcopy(pair["live"])
    live["metadata"].setdefault("annotations", {})["example.com/other"] = "x"
    live["status"] = {"observedGeneration": 7}
    live["metadata"]["resourceVersion"] = "999"
    assert is_applied(pair["desired"], live, MANAGER)


@pytest.mark.parametrize("change", ["manager", "operation", "apiVersion", "subresource"])
def test_ownership_by_someone_else_is_not_ours(change):
    live = copy.deepcopy(SURE[0]["live"])
    for entry in live["metadata"]["managedFields"]:
        entry[change] = "other"
    assert not is_applied(SURE[0]["desired"], live, MANAGER)


def test_a_field_that_another_manager_took_over_is_seen():
    (pair,) = [pair for pair in SURE if kind(pair) == "ConfigMap"]
    live = copy.deepcopy(pair["live"])
    del live["metadata"]["managedFields"][0]["fieldsV1"]["f:data"]["f:empty"]
    assert not is_applied(pair["desired"], live, MANAGER)


def test_a_secrets_text_becomes_its_data():
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "stringData": {"a": "b", "c": "ä"},
        "data": {"a": "eA==", "d": "eQ=="},
    }
    assert with_encoded_data(secret)["data"] == {"a": "Yg==", "c": "w6Q=", "d": "eQ=="}
    assert "stringData" not in with_encoded_data(secret)
    assert secret["data"] == {"a": "eA==", "d": "eQ=="}


def test_what_is_not_text_in_a_secret_is_left_for_the_api_server_to_refuse():
    assert with_encoded_data({"apiVersion": "v1", "kind": "Secret", "stringData": {"a": 1}})["data"] == {"a": 1}


def test_nulls_are_absent_in_maps_and_stay_in_lists():
    assert without_nulls({"a": None, "b": {"c": None, "d": [None, {"e": None}]}}) == {"b": {"d": [None, {}]}}


def config_map(**fields):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", **fields.pop("metadata", {})}, **fields}


def test_changed_fields_are_paths():
    before = config_map(data={"a": "1", "b.c": "2"}, metadata={"labels": {"x.io/y": "1"}})
    after = config_map(data={"a": "2", "d": "3"}, metadata={"labels": {"x.io/y": "2"}})
    assert changed_fields(before, after) == ["data.a", "data[b.c]", "data.d", "metadata.labels[x.io/y]"]


def test_changed_fields_go_into_lists_of_the_same_length():
    def service(ports):
        return {"metadata": {}, "spec": {"ports": ports}}

    one, other = service([{"port": 1}, {"port": 2}]), service([{"port": 1}, {"port": 3}])
    assert changed_fields(one, other) == ["spec.ports[1].port"]
    assert changed_fields(one, service([{"port": 1}])) == ["spec.ports"]


def test_what_the_server_keeps_is_no_change():
    before = config_map(
        data={"a": "1"}, status={"x": 1}, metadata={"resourceVersion": "1", "generation": 1, "uid": "u"}
    )
    after = config_map(data={"a": "1"}, metadata={"resourceVersion": "2", "generation": 2, "uid": "u"})
    assert changed_fields(before, after) == []


def test_a_change_of_owner_alone_is_named():
    before = config_map(metadata={"managedFields": [{"manager": "a", "time": "1"}]})
    later = config_map(metadata={"managedFields": [{"manager": "a", "time": "2"}]})
    other = config_map(metadata={"managedFields": [{"manager": "b", "time": "1"}]})
    assert changed_fields(before, later) == []
    assert changed_fields(before, other) == ["metadata.managedFields"]


def test_a_bool_is_not_a_number():
    assert changed_fields({"metadata": {}, "a": 1}, {"metadata": {}, "a": True}) == ["a"]


SECRET_VALUES = ["aHVudGVyMg==", "c3dvcmRmaXNo"]


def secret(value, **metadata):
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", **metadata}, "data": {"key": value}}


@pytest.mark.parametrize("before", [None, secret(SECRET_VALUES[0])])
@pytest.mark.parametrize("after", [None, secret(SECRET_VALUES[0]), secret(SECRET_VALUES[1])])
def test_a_diff_shows_no_secret_value(before, after):
    text = json.dumps(diff_of("Secret s", before, after))
    assert not any(value in text for value in SECRET_VALUES)


def test_a_diff_says_that_a_secret_value_differs():
    same = diff_of("s", secret(SECRET_VALUES[0]), secret(SECRET_VALUES[0]))
    assert same["before"] == same["after"]
    other = diff_of("s", secret(SECRET_VALUES[0]), secret(SECRET_VALUES[1]))
    assert other["before"] != other["after"]


def test_a_diff_leaves_out_the_copy_that_kubectl_keeps():
    annotation = {"kubectl.kubernetes.io/last-applied-configuration": '{"data":{"key":"%s"}}' % SECRET_VALUES[0]}
    text = json.dumps(diff_of("s", secret(SECRET_VALUES[0], annotations={**annotation, "other": "x"}), None))
    assert SECRET_VALUES[0] not in text
    assert "other" in text


@given(pairs)
def test_laying_an_applied_object_over_the_live_one_changes_nothing(pair):
    live = copy.deepcopy(pair["live"])
    assert changed_fields(live, overlaid(live, pair["desired"])) == []
    assert live == pair["live"]


def test_what_is_laid_over_wins_and_the_rest_stays():
    live = {"spec": {"a": 1, "list": [1, 2], "ports": [{"port": 1, "protocol": "TCP"}], "theirs": {"x": 1}}}
    assert overlaid(live, {"spec": {"a": 2, "list": [3], "ports": [{"port": 2}]}}) == {
        "spec": {"a": 2, "list": [3], "ports": [{"port": 2, "protocol": "TCP"}], "theirs": {"x": 1}}
    }


@pytest.mark.parametrize("data", ["text", ["a"], 3])
def test_a_secret_whose_data_is_no_map_is_left_to_the_api_server(data):
    wrong = {**secret("x"), "data": data, "stringData": {"k": "v"}}
    assert with_encoded_data(wrong) == wrong

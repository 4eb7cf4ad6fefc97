"""The ApplySet record (KEP-3659)."""

from __future__ import annotations

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy.applyset import (
    ApplySet,
    GroupKind,
    Scope,
    applyset_id,
)
from hypothesis import given
from hypothesis import strategies as st

DNS = st.from_regex(r"[a-z]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        # The ids that kubectl's own tests expect (k8s.io/kubectl v0.37.2, pkg/cmd/apply/apply_test.go).
        (("my-set", "test", "Secret", ""), "applyset-0eFHV8ySqp7XoShsGvyWFQD3s96yqwHmzc4e0HR1dsY-v1"),
        (("my-set", "", "ApplySet", "company.com"), "applyset-rhp1a-HVAVT_dFgyEygyA1BEB82HPp2o10UiFTpqtAs-v1"),
    ],
)
def test_the_id_is_the_one_that_kubectl_computes(parts, expected):
    assert applyset_id(*parts) == expected


@given(DNS, DNS)
def test_the_id_is_a_valid_label_value(name, namespace):
    value = ApplySet(name, namespace).id
    assert len(value) <= 63
    assert value[0].isalnum()
    assert value[-1].isalnum()
    assert all(letter.isalnum() or letter in "-_." for letter in value)


@given(
    st.builds(GroupKind, DNS | st.just("") | st.just("networking.k8s.io"), st.sampled_from(["Pod", "NetworkPolicy"]))
)
def test_a_group_kind_survives_its_text(kind):
    assert GroupKind.parse(str(kind)) == kind


scopes = st.builds(
    Scope,
    st.frozensets(st.builds(GroupKind, st.sampled_from(["", "apps", "a.b.io"]), st.sampled_from(["A", "B"]))),
    st.frozensets(DNS.filter(lambda name: name != "home")),
)


@given(scopes)
def test_the_parent_says_what_it_was_told(scope):
    applyset = ApplySet("set", "home")
    assert applyset.read_parent(applyset.parent(scope)) == scope


def test_the_parent_follows_the_specification():
    applyset = ApplySet("policy-x", "home")
    objects = [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "namespace": "home"}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "z"}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "b"}},
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "b"}},
    ]
    metadata = applyset.parent(applyset.scope_of(objects))["metadata"]
    assert metadata["labels"]["applyset.kubernetes.io/id"] == applyset.id
    assert metadata["annotations"] == {
        "applyset.kubernetes.io/tooling": "lambda-microservice-platform/v1",
        "applyset.kubernetes.io/contains-group-kinds": "ConfigMap,Deployment.apps,Namespace",
        # Sorted, and without the parent's own.
        "applyset.kubernetes.io/additional-namespaces": "b,z",
    }


def test_no_parent_is_an_empty_scope():
    assert ApplySet("set", "home").read_parent(None) == Scope()


@pytest.mark.parametrize(
    ("annotations", "found"),
    [({}, "without the annotation"), ({"applyset.kubernetes.io/tooling": "kubectl/v1.30"}, "kubectl/v1.30")],
)
def test_an_object_of_another_tool_is_left_alone(annotations, found):
    applyset = ApplySet("set", "home")
    parent = applyset.parent(Scope())
    parent["metadata"]["annotations"] = annotations
    with pytest.raises(PlatformError) as error:
        applyset.read_parent(parent)
    assert found in error.value.found
    assert "home/set" in error.value.where


def test_another_id_is_an_error():
    applyset = ApplySet("set", "home")
    parent = ApplySet("other", "home").parent(Scope())
    with pytest.raises(PlatformError) as error:
        applyset.read_parent(parent)
    assert error.value.expected == applyset.id


def test_labelling_does_not_change_the_given_object():
    given_object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "labels": {"x": "y"}}}
    applyset = ApplySet("set", "home")
    labelled = applyset.labelled(given_object)
    assert labelled["metadata"]["labels"] == {"x": "y", "applyset.kubernetes.io/part-of": applyset.id}
    assert given_object["metadata"]["labels"] == {"x": "y"}


def test_a_record_without_its_kinds_is_an_error_and_no_empty_set():
    applyset = ApplySet("set", "home")
    parent = applyset.parent(Scope())
    assert applyset.read_parent(parent) == Scope()
    del parent["metadata"]["annotations"]["applyset.kubernetes.io/contains-group-kinds"]
    with pytest.raises(PlatformError) as error:
        applyset.read_parent(parent)
    assert error.value.reason == "conflict"
    assert "contains-group-kinds" in error.value.found

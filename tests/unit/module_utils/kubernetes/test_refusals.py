"""Answers of the API server, word for word, and what they are called."""

from __future__ import annotations

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.refusals import (
    REFUSALS,
    refusal,
    without_secrets,
)
from hypothesis import given
from hypothesis import strategies as st

CASES = [
    (401, "Unauthorized", "Unauthorized", "unauthorized", "401"),
    (
        403,
        "Forbidden",
        'pods is forbidden: User "ops" cannot list resource "pods" in API group "" in the namespace "shop"',
        "forbidden",
        "kubectl auth can-i list pods -n shop --as=ops",
    ),
    (
        403,
        "Forbidden",
        'nodes is forbidden: User "ops" cannot get resource "leases" in API group "coordination.k8s.io" at the '
        "cluster scope",
        "forbidden",
        "leases.coordination.k8s.io in the whole cluster",
    ),
    (
        403,
        "Forbidden",
        'pods "a" is forbidden: exceeded quota: small, requested: pods=1, used: pods=3, limited: pods=3',
        "quota",
        "at most pods=3",
    ),
    (
        422,
        "Invalid",
        "pods \"a\" is forbidden: ValidatingAdmissionPolicy 'roots' with binding 'all' denied request: too open",
        "admission",
        "admission policy roots",
    ),
    (
        403,
        "Forbidden",
        'pods "a" is forbidden: violates PodSecurity "restricted:latest": privileged',
        "admission",
        "Pod Security level restricted:latest",
    ),
    (
        400,
        "",
        'admission webhook "deny.example" denied the request: no',
        "admission",
        "webhook deny.example refused it",
    ),
    (
        500,
        "InternalError",
        'Internal error occurred: failed calling webhook "w.example": failed to call webhook: timeout',
        "webhook",
        "webhook w.example does not answer",
    ),
    (
        403,
        "Forbidden",
        'configmaps "a" is forbidden: unable to create new content in namespace n because it is being terminated',
        "terminating",
        "being deleted",
    ),
    (409, "Conflict", "Apply failed with 1 conflict", "conflict", "Apply failed"),
    (409, "AlreadyExists", 'configmaps "a" already exists', "exists", "already exists"),
    (403, "Forbidden", "forbidden for another reason", "admission", "for another reason"),
    (404, "NotFound", 'namespaces "n" not found', "missing", 'namespaces "n" not found'),
    (422, "Invalid", "spec.replicas: Invalid value: -1", "invalid", "spec.replicas"),
    (
        500,
        "",
        "failed to create typed patch object (n/a; v1, Kind=Pod): .spec.x: field not declared in schema",
        "invalid",
        ".spec.x: field not declared",
    ),
    (503, "ServiceUnavailable", "the server is currently unable", "unavailable", "HTTP 503"),
    (500, "InternalError", "etcdserver: leader changed", "unavailable", "leader changed"),
    (418, "", "a teapot", "refused", "HTTP 418: a teapot"),
]


@pytest.mark.parametrize(("status", "api_reason", "message", "reason", "told"), CASES)
def test_what_the_server_said(status: int, api_reason: str, message: str, reason: str, told: str):
    error = refusal(status, api_reason, message, [], "Pod n/a")
    assert error.reason == reason
    assert told in str(error)
    assert error.where == "Pod n/a"


def test_every_row_is_reached_by_a_case():
    reached = {refusal(status, api, message, [], "").what for status, api, message, *dummy in CASES}
    for row in REFUSALS:
        fixed = row.what.split("%(")[0]
        assert any(what.startswith(fixed) for what in reached), row.what


def test_the_fields_are_named_where_the_answer_lists_them():
    causes = [{"field": "spec.a", "message": "too long"}, {"field": "spec.b", "message": "missing"}]
    assert refusal(422, "Invalid", "two errors", causes, "").found == "spec.a: too long; spec.b: missing"
    assert refusal(409, "Conflict", "conflict", causes, "").found == "spec.a: too long; spec.b: missing"


@given(st.sampled_from([0, 400, 403, 409, 422, 500, 503, 599]), st.text(), st.text())
def test_any_text_becomes_an_error(status: int, api_reason: str, message: str):
    error = refusal(status, api_reason, message, [], "")
    assert error.reason
    assert len(error.reason.split()) == 1


@given(st.text(st.characters(codec="utf-8", categories=("L", "N")), min_size=6))
def test_a_secrets_text_is_in_no_message(value: str):
    about = {"kind": "Secret", "stringData": {"password": value}}
    assert value not in without_secrets(f"the server quotes <{value}> here", about)

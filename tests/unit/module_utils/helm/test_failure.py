"""What helm says becomes one error that names the place and the thing to do, and no secret."""

from __future__ import annotations

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.failure import (
    HelmFailure,
    without_login,
)
from hypothesis import given
from hypothesis import strategies as st

# Messages as Helm 3.22, Helm 4.3 and Kubernetes 1.37 print them.
CASES = [
    (
        'Error: template: w/templates/all.yaml:32:13: executing "w/templates/all.yaml" at <.Values.nope.foo>: nil '
        "pointer evaluating interface {}.foo\n\nUse --debug flag to render out invalid YAML",
        "render",
        ["w/templates/all.yaml line 32", "nope.foo"],
    ),
    (
        'Error: w/templates/all.yaml:32:13\n  executing "w/templates/all.yaml" at <.Values.nope.foo>:\n    nil pointer',
        "render",
        ["w/templates/all.yaml line 32", "nope.foo"],
    ),
    (
        "Error: execution error at (w/templates/all.yaml:35:3): set the value mandatory",
        "render",
        ["w/templates/all.yaml line 35", "set the value mandatory"],
    ),
    (
        "Error: values don't meet the specifications of the schema(s) in the following chart(s):\nw:\n"
        "- at '/nested/port': got string, want integer\n",
        "values",
        ["nested.port: got string, want integer", "chart w"],
    ),
    (
        'Error: UPGRADE FAILED: cannot patch "w" with kind Deployment: deployments.apps "w" is forbidden: '
        "exceeded quota: q, requested: cpu=2, used: cpu=1, limited: cpu=2",
        "quota",
        ["ResourceQuota q is full", "Deployment w", "cpu=2"],
    ),
    (
        'Error: INSTALLATION FAILED: deployments.apps is forbidden: User "u" cannot create resource "deployments" in '
        'API group "apps" in the namespace "n"',
        "forbidden",
        ["create deployments.apps in namespace n", 'user "u"'],
    ),
    (
        "Error: INSTALLATION FAILED: deployments.apps \"w\" is forbidden: ValidatingAdmissionPolicy 'ro' with "
        "binding 'b' denied request: no read-only root",
        "admission",
        ["policy ro refused", "no read-only root"],
    ),
    ('Error: create: failed to create: namespaces "n" not found', "missing", ["n"]),
    ("Error: UPGRADE FAILED: another operation (install/upgrade/rollback) is in progress", "busy", ["another helm"]),
]


@pytest.mark.parametrize(("said", "reason", "named"), CASES)
def test_a_failure_is_one_clear_error(said: str, reason: str, named: list[str]) -> None:
    error = HelmFailure("upgrade", said).explained("w", "n", "/charts/w")
    assert error.reason == reason, str(error)
    for text in ["release w in namespace n", *named]:
        assert text in str(error)
    assert error.fix


def refused(findings: str) -> str:
    said = "Error: values don't meet the specifications of the schema(s) in the following chart(s):\nw:\n" + findings
    return str(HelmFailure("template", said).explained("w", "n", "/charts/w"))


# As santhosh-tekuri/jsonschema v6 words them (kind/kind.go), with values that must not be told.
@pytest.mark.parametrize(
    ("finding", "told"),
    [
        ("- at '/a/b': 'hunter2' does not match pattern '^[0-9]+$'", "a.b: does not match pattern '^[0-9]+$'"),
        ("- at '/a': 'hunter2' is not valid email: missing @", "a: is not valid email"),
        ("- at '/a': value must be one of 'x', 'y'", "a: value must be one of 'x', 'y'"),
        ("- at '/a': minLength: got 7, want 12", "a: minLength: want 12"),
        ("- at '/a': maximum: got 4,711, want 10", "a: maximum: want 10"),
        ("- at '/a': multipleOf: got 4711, want 2", "a: multipleOf: want 2"),
        ("- at '/a': got string, want integer", "a: got string, want integer"),
        ("- at '/a': got string, want null or object", "a: got string, want null or object"),
        ("- at '': missing property 'a'", "(all values): missing property 'a'"),
        ("- at '/a': additional properties 'c' not allowed", "a: additional properties 'c' not allowed"),
        ("- at '/a': something new about 'hunter2'", "a: is not what the schema allows"),
        ("- at '/a~1b': got null, want object", "a/b: got null, want object"),
        ("- at '/a': 'hunter2 does not match pattern 'x' does not match pattern '^y$'", "does not match pattern '^y$'"),
        (
            "- a.b: Invalid type. Expected: integer, given: string",
            "a.b: Invalid type. Expected: integer, given: string",
        ),
    ],
)
def test_of_a_refused_value_only_path_and_rule_are_told(finding: str, told: str) -> None:
    text = refused(finding + "\n")
    assert told in text
    assert "hunter2" not in text and "4711" not in text and "4,711" not in text


def test_a_refused_value_is_no_cause_either() -> None:
    said = "Error: values don't meet the specifications of the schema(s) in the following chart(s):\nw:\n"
    failure = HelmFailure("upgrade", said + "- at '/a': 'hunter2' does not match pattern '^[0-9]+$'")
    error = failure.explained("w", "n", "/c")
    error.__cause__ = failure
    assert error.causes() == ["HelmFailure: helm upgrade failed"]


def test_findings_of_several_charts_and_below_others_are_told_too() -> None:
    text = refused(
        "- at '': 'allOf' failed\n  - at '/a': 'hunter2' is not valid uri: x\nsub:\n- at '/b': got null, want object\n"
    )
    assert "allOf" in text and "a: is not valid uri" in text and "b: got null" in text and "hunter2" not in text


WORDS = st.text("abcdefghijklmnopqrstuvwxyz0123456789%._~!$&()*+,;=-", min_size=5, max_size=20).map("Xy".__add__)


@given(WORDS, WORDS, st.sampled_from(["pull", "upgrade"]))
def test_no_login_of_an_address_is_told(user: str, password: str, command: str) -> None:
    said = f'Error: looks like "https://{user}:{password}@charts.example.com/x" is not a valid chart repository'
    error = HelmFailure(command, said).explained("w", "n", "/c")
    assert user not in str(error) and password not in str(error) and "https://charts.example.com/x" in str(error)


def test_an_address_without_a_login_stays() -> None:
    text = 'Get "https://charts.example.com/a@b/index.yaml": no; mail a@b.c'
    assert without_login(text) == text


@pytest.mark.parametrize(
    "said",
    [
        "Error: YAML parse error on w/templates/s.yaml: error unmarshaling: cannot unmarshal !!str `hunter2` into int",
        'Error: template: w/templates/a.yaml:1:2: executing "w" at <atoi .Values.p>: strconv.Atoi: parsing "hunter2": '
        "invalid syntax",
    ],
)
def test_what_go_could_not_read_is_not_told(said: str) -> None:
    assert "hunter2" not in str(HelmFailure("template", said).explained("w", "n", "/c"))

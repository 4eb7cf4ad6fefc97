"""The same few words for what came of each module that looks at the platform."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.lambda_microservice.platform.plugins.filter.outcome import outcome


def test_checks_that_hold():
    checks = [{"check": "edge", "result": "ok"}, {"check": "nodes", "result": "ok"}]
    assert outcome({"checks": checks}) == {"result": "passed", "failed": [], "warned": []}


def test_a_warning_is_no_failure():
    checks = [{"check": "edge", "result": "ok"}, {"check": "network", "result": "warning"}]
    assert outcome({"checks": checks}) == {"result": "warned", "failed": [], "warned": ["network"]}


def test_a_failed_task_names_what_failed_without_its_rows():
    found = outcome({"failed": True, "failed_checks": ["redis"]})
    assert found == {"result": "failed", "failed": ["redis"], "warned": []}
    assert outcome({"failed": True, "failed_drills": ["node lost"]})["failed"] == ["node lost"]


def test_findings_are_named_once_each():
    findings = [
        {"check": "nodes", "result": "FAIL"},
        {"check": "nodes", "result": "FAIL"},
        {"check": "dns", "result": "warn"},
        {"check": "backups", "result": "ignored"},
    ]
    result = {"failed": True, "findings": findings, "failed_checks": ["nodes"]}
    assert outcome(result) == {"result": "failed", "failed": ["nodes"], "warned": ["dns"]}


def test_what_preflight_only_says_in_check_mode_has_failed_all_the_same():
    found = outcome({"failed": False, "findings": [{"check": "nodes", "result": "FAIL"}], "failed_checks": ["nodes"]})
    assert found == {"result": "failed", "failed": ["nodes"], "warned": []}


def test_drills():
    drills = [{"drill": "one", "verdict": "held"}, {"drill": "two", "verdict": "MISSED"}]
    assert outcome({"drills": drills}) == {"result": "failed", "failed": ["two"], "warned": []}


def test_what_differs_is_named_by_its_object_whether_the_play_fails_or_not():
    differences = [{"component": "controller", "kind": "changed", "object": "Deployment controller/controller"}]
    for failed in (False, True):
        found = outcome({"failed": failed, "drift": True, "differences": differences})
        assert found == {"result": "failed", "failed": ["Deployment controller/controller"], "warned": []}
    assert outcome({"drift": False, "differences": []})["result"] == "passed"


def test_an_error_before_any_check():
    assert outcome({"failed": True, "msg": "no cluster"}) == {"result": "failed", "failed": [], "warned": []}


def test_what_was_left_out_has_no_result():
    assert outcome({"skipped": True})["result"] == "not made"


def test_what_is_no_result_is_refused():
    with pytest.raises(AnsibleFilterError, match="Found: list"):
        outcome([])

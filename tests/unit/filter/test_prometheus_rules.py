"""PrometheusRules out of files."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.lambda_microservice.platform.plugins.filter.prometheus_rules import prometheus_rules


def test_a_file_is_an_object_whose_pages_have_an_address(tmp_path):
    file = tmp_path / "redis_memory.yaml"
    file.write_text(
        "groups: [{name: g, rules: [{alert: A, expr: '1', annotations: {runbook_url: docs/runbooks/A.md}},"
        " {alert: B, expr: '1', annotations: {runbook_url: 'https://own/B'}}, {record: r, expr: '1'}]}]"
    )
    (made,) = prometheus_rules([str(file)], "monitoring", "https://example.com/")
    assert (made["metadata"]["name"], made["metadata"]["namespace"]) == ("redis-memory", "monitoring")
    rules = made["spec"]["groups"][0]["rules"]
    assert [rule.get("annotations", {}).get("runbook_url") for rule in rules] == [
        "https://example.com/docs/runbooks/A.md",
        "https://own/B",
        None,
    ]


def test_a_file_without_groups_is_named(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("rules: []")
    with pytest.raises(AnsibleFilterError, match=r"a\.yaml is wrong"):
        prometheus_rules([str(file)], "monitoring", "")

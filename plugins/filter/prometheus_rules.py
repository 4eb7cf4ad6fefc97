# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import yaml
from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: prometheus_rules
short_description: PrometheusRules from files of Prometheus' rules
version_added: 0.1.0
description:
  - Each file is one PrometheusRule, named after the file, so that C(promtool) reads the same files as the cluster.
  - An annotation C(runbook_url) that is a path gets a base before it.
author:
  - The lambda_microservice.platform team
positional: _input, namespace, runbook_base_url
options:
  _input:
    description: Paths of files with C(groups), as Prometheus reads them.
    type: list
    elements: str
    required: true
  namespace:
    description: Where the PrometheusRules are.
    type: str
    required: true
  runbook_base_url:
    description: What stands before a C(runbook_url) that is a path, without a slash at its end.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Rules
  lambda_microservice.platform.policy:
    name: rules
    namespace: monitoring
    objects: "{{ files | lambda_microservice.platform.prometheus_rules('monitoring', 'https://example.com') }}"
  vars:
    files: "{{ query('ansible.builtin.fileglob', 'rules/*.yaml') }}"
"""

RETURN = r"""
_value:
  description: PrometheusRule objects, ordered by name.
  type: list
  elements: dict
"""


def prometheus_rules(paths: list[str], namespace: str, runbook_base_url: str) -> list[dict[str, Any]]:
    """As RETURN says."""
    return [_rule(path, namespace, runbook_base_url.rstrip("/")) for path in sorted(paths)]


def _rule(path: str, namespace: str, base: str) -> dict[str, Any]:
    with open(path, encoding="utf-8") as file:
        content = yaml.load(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    if not isinstance(content, dict) or not isinstance(content.get("groups"), list):
        raise AnsibleFilterError(f"prometheus_rules: {path} is wrong. Expected: groups of Prometheus' rules.")
    for group in content["groups"]:
        for rule in group.get("rules") or []:
            annotations = rule.get("annotations") or {}
            runbook = annotations.get("runbook_url", "")
            if runbook and "://" not in runbook:
                annotations["runbook_url"] = f"{base}/{runbook.lstrip('/')}"
    name = path.rpartition("/")[2].rpartition(".")[0].replace("_", "-")
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {
                "app.kubernetes.io/part-of": "lambda-microservice-platform",
                "app.kubernetes.io/component": "monitoring",
            },
        },
        "spec": {"groups": content["groups"]},
    }


class FilterModule:
    """Registers the filter."""

    def filters(self):
        """Names and functions."""
        return {"prometheus_rules": prometheus_rules}

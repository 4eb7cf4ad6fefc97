"""PodMonitors out of the table."""

from __future__ import annotations

import re

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.lambda_microservice.platform.plugins.filter.pod_monitors import pod_monitors


def relabelled(of, /, **source):
    """The labels of a target, as Prometheus' relabelling makes them (replace and labeldrop alone)."""
    labels = {key.replace("meta_", "__meta_kubernetes_"): value for key, value in source.items()}
    for rule in of["relabelings"]:
        if rule["action"] == "labeldrop":
            labels = {name: value for name, value in labels.items() if not re.fullmatch(rule["regex"], name)}
            continue
        value = ";".join(labels.get(name, "") for name in rule.get("sourceLabels", []))
        match = re.fullmatch(rule.get("regex", "(.*)"), value)
        if match:
            replacement = rule.get("replacement", "$1").replace("$1", match[1] if match.re.groups else "")
            labels[rule["targetLabel"]] = replacement
    return labels


def endpoint_of(row, job="it"):
    (made,) = pod_monitors({job: row}, "monitoring")
    return made["spec"]["podMetricsEndpoints"][0]


def test_a_pod_is_asked_itself():
    (made,) = pod_monitors({"controller": {"namespace": "apps", "port": 9090}}, "monitoring")
    assert made["metadata"]["namespace"] == "monitoring"
    assert made["spec"]["namespaceSelector"] == {"matchNames": ["apps"]}
    assert made["spec"]["selector"] == {"matchLabels": {"app.kubernetes.io/name": "controller"}}
    endpoint = made["spec"]["podMetricsEndpoints"][0]
    assert (endpoint["portNumber"], endpoint["path"]) == (9090, "/metrics")
    labels = relabelled(endpoint, __address__="10.0.0.1:9090", meta_pod_node_name="n1", container="c", endpoint="e")
    assert {"job": "controller", "node": "n1", "__address__": "10.0.0.1:9090"}.items() <= labels.items()
    assert not {"container", "endpoint"} & labels.keys()


def test_an_exporter_is_asked_for_each_pod():
    row = {
        "namespace": "data", "port": 6379, "path": "/scrape", "through": "exporter:9121",
        "target": "POD.redis:6379", "params": {"auth_module": "x"},
    }  # fmt: skip
    endpoint = endpoint_of(row)
    labels = relabelled(endpoint, __address__="10.0.0.1:6379", meta_pod_name="redis-0", meta_pod_node_name="n1")
    assert labels["__address__"] == "exporter:9121"
    assert labels["__param_target"] == "redis-0.redis:6379"
    assert labels["instance"] == "10.0.0.1:6379", "six targets of one exporter are six instances"
    assert endpoint["params"] == {"auth_module": ["x"]}


def test_a_pod_with_two_ports_and_one_with_a_certificate():
    (made,) = pod_monitors({"it": {"namespace": "a", "port": [1, 2], "scheme": "https"}}, "m")
    endpoints = made["spec"]["podMetricsEndpoints"]
    assert [(endpoint["portNumber"], endpoint["scheme"]) for endpoint in endpoints] == [(1, "https"), (2, "https")]


def test_what_is_kept_replaces_what_is_dropped():
    assert endpoint_of({"namespace": "a", "port": 1})["metricRelabelings"][0]["action"] == "drop"
    (kept,) = endpoint_of({"namespace": "a", "port": 1, "keep": ["up", "a_.*"]})["metricRelabelings"]
    assert (kept["action"], kept["regex"]) == ("keep", "up|a_.*")


@pytest.mark.parametrize("row", [{"namespace": "a"}, {"port": 1}, {"namespace": "a", "port": 1, "prot": 2}, "text"])
def test_a_wrong_row_is_named(row):
    with pytest.raises(AnsibleFilterError, match="pod_monitors: it is wrong"):
        pod_monitors({"it": row}, "monitoring")

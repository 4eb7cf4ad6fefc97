"""Upstream's operator in one namespace."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.lambda_microservice.platform.plugins.filter.prometheus_operator import prometheus_operator

CONTAINER = {
    "name": "o",
    "image": "upstream",
    "args": ["--kubelet-service=kube-system/kubelet"],
    "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "200Mi"}},
}
TEMPLATE = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [CONTAINER]}}
DEPLOYMENT = {"kind": "Deployment", "metadata": {"name": "o", "namespace": "default"}, "spec": {"template": TEMPLATE}}
ROLE = {"kind": "ClusterRole", "metadata": {"name": "o"}, "rules": [{"verbs": ["*"]}]}
BINDING = {"kind": "ClusterRoleBinding", "metadata": {"name": "o"}, "subjects": [{"name": "o", "namespace": "default"}]}


def test_it_has_no_rights_beyond_its_namespace():
    made = prometheus_operator([ROLE, BINDING, DEPLOYMENT], "monitoring", "ours", "reloader")
    assert {obj["kind"] for obj in made} == {"ClusterRole", "RoleBinding", "Deployment"}
    binding = next(obj for obj in made if obj["kind"] == "RoleBinding")
    assert binding["metadata"]["namespace"] == binding["subjects"][0]["namespace"] == "monitoring"
    assert made[0]["rules"] == ROLE["rules"]
    assert "namespace" not in made[0]["metadata"]


def test_its_container_watches_one_namespace_and_has_bounded_memory():
    (made,) = prometheus_operator([DEPLOYMENT], "m", "ours", "reloader", {"cpu": "10m"})
    container = made["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "ours"
    assert {"--namespaces=m", "--prometheus-config-reloader=reloader"} < set(container["args"])
    assert not any("kubelet" in argument for argument in container["args"])
    assert container["resources"] == {"requests": {"cpu": "10m"}, "limits": {"memory": "200Mi"}}
    assert CONTAINER["image"] == "upstream", "what was given is what it was"


def test_another_bundle_is_refused():
    with pytest.raises(AnsibleFilterError, match="something else in it. Found: ClusterRole o"):
        prometheus_operator([ROLE], "m", "ours", "reloader")

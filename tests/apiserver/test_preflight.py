"""The module preflight on a real API server: what it finds there, and what a user may not do."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
LABELS = {"app.kubernetes.io/name": "web"}


def component(namespace: str, storage_class: str = "") -> dict[str, Any]:
    """A StatefulSet with a volume, which the policy of a role could have."""
    claim = {
        "metadata": {"name": "data"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
            **({"storageClassName": storage_class} if storage_class else {}),
        },
    }
    container = {"name": "web", "image": "example.com/web:1", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}
    workload = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": LABELS},
            "serviceName": "web",
            "template": {"metadata": {"labels": LABELS}, "spec": {"containers": [container]}},
            "volumeClaimTemplates": [claim],
        },
    }
    return {"name": "web", "releases": [], "objects": [workload], "files": [], "secrets": [], "unknown": []}


@pytest.fixture
def values(namespace: str) -> dict[str, Any]:
    return {
        "problems": [],
        "controller_namespace": namespace,
        "ingress_namespace": namespace,
        "ingress_service_type": "ClusterIP",
        "ingress_tls_source": "secret",
        "ingress_tls_secret": "envoy-tls",
        "platform_disposable": False,
    }


@pytest.fixture
def look(kubeconfig: str, namespace: str, values: dict[str, Any]):
    """Run the module's logic; {check: [finding]} and the result."""
    from ansible_collections.lambda_microservice.platform.plugins.module_utils.preflight import preflight

    def run(
        check_mode: bool = False,
        kubeconfig: str | dict[str, Any] = kubeconfig,
        ignore=(),
        components=None,
        show="all",
        lines=None,
        **changes,
    ):
        params = {
            "kubeconfig": kubeconfig,
            "components": [component(namespace)] if components is None else components,
            "variables": {**values, **changes},
            "versions": [{"name": "the platform", "floor": "1.25"}],
            "node_types": str(ROOT / "roles/platform/files/capacity/node_types.yml"),
            "ignore": list(ignore),
            "show": show,
        }
        result = preflight.run(params, check_mode, False, ([] if lines is None else lines).append)
        found: dict[str, list[dict[str, Any]]] = {}
        for finding in result["findings"]:
            found.setdefault(finding["check"], []).append(finding)
        return found, result

    return run


def test_a_cluster_without_anything_is_told_in_one_table(look, cluster, namespace) -> None:
    before = cluster.list("v1", "ConfigMap", namespace)
    began = time.monotonic()
    found, result = look()
    assert time.monotonic() - began < 10
    # No node, no StorageClass, no metrics, no certificate.
    assert result["failed"] and {"nodes", "storage", "metrics", "certificate"} <= set(result["failed_checks"])
    assert found["versions"][0]["result"] == "pass" and found["rights"][0]["result"] == "pass"
    assert "kubectl create namespace" in found["certificate"][0]["to_do"]
    assert all(
        one["needed"] and one["to_do"] for some in found.values() for one in some if one["result"] in ("warn", "FAIL")
    )
    assert any(line.startswith("nodes") for line in result["table"])
    assert cluster.list("v1", "ConfigMap", namespace) == before


def test_what_is_well_can_be_told_in_one_line(look) -> None:
    everything, problems = [], []
    look(lines=everything)
    found, result = look(show="problems", lines=problems)
    assert any(line.startswith("versions") for line in everything)
    assert not any(line.startswith("versions") for line in problems)
    assert any(line.startswith("metrics") for line in problems) and len(problems) < len(everything)
    passed = sum(one["result"] == "pass" for some in found.values() for one in some)
    assert problems[0].startswith(f"preflight: {passed} of ")
    assert any(line.startswith("versions") for line in result["table"])


def test_check_mode_tells_and_does_not_stop(look) -> None:
    _found, result = look(check_mode=True)
    assert "failed" not in result and result["failed_checks"]
    assert any("preflight would stop: nodes" in warning for warning in result["warnings"])


def test_what_is_accepted_by_name_stops_nothing(look) -> None:
    found, result = look(ignore=["nodes", "storage", "metrics", "certificate"])
    assert found["nodes"][0]["result"] == "ignored" and "nodes" not in result["failed_checks"]
    _found, result = look(ignore=["variables"], problems=[{"what": "wrong"}])
    assert "variables" in result["failed_checks"]


def test_an_unknown_name_to_ignore_is_named(look) -> None:
    from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError

    with pytest.raises(PlatformError, match="preflight_ignore names what is no check"):
        look(ignore=["backup"])


def test_the_certificate_that_is_there_is_seen(look, cluster, namespace) -> None:
    data = {name: base64.b64encode(b"x").decode() for name in ("tls.crt", "tls.key")}
    secret = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "data": data}
    cluster.apply({**secret, "metadata": {"name": "envoy-tls", "namespace": namespace}}, "test")
    assert look()[0]["certificate"][0]["result"] == "pass"


def test_a_class_that_volumes_name_has_to_be_there(look, cluster, namespace) -> None:
    name = f"fast-{namespace}"
    components = [component(namespace, name)]
    assert f"there is no StorageClass {name}" in look(components=components)[0]["storage"][0]["found"]
    made = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name}, "provisioner": "x/y"}
    cluster.apply(made, "test")
    found = look(components=components)[0]["storage"]
    assert [one["result"] for one in found] == ["pass"] and "cannot grow" in found[0]["found"]


def test_workloads_of_others_are_named(look, cluster, namespace) -> None:
    (workload,) = component(namespace)["objects"]
    stranger = {**workload, "metadata": {"name": "stranger", "namespace": namespace}}
    cluster.apply(stranger, "test")
    # web itself is planned.
    cluster.apply(workload, "test")
    (found,) = look()[0]["foreign"]
    assert found["result"] == "warn" and f"StatefulSet {namespace}/stranger" in found["found"]
    assert f"{namespace}/web" not in found["found"]


def test_missing_rights_are_named_by_verb_kind_and_namespace(look, cluster, kubeconfig, namespace) -> None:
    subject = {"kind": "ServiceAccount", "name": "deployer", "namespace": namespace}
    reader = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list"]}
    maker = {"apiGroups": ["apps"], "resources": ["statefulsets"], "verbs": ["create"]}
    rbac = "rbac.authorization.k8s.io"
    for kind, rules, where in (
        ("ClusterRole", [reader], {"name": f"reader-{namespace}"}),
        ("Role", [maker], {"name": "maker", "namespace": namespace}),
    ):
        cluster.apply({"apiVersion": f"{rbac}/v1", "kind": kind, "metadata": where, "rules": rules}, "test")
        cluster.apply(
            {
                "apiVersion": f"{rbac}/v1",
                "kind": f"{kind}Binding",
                "metadata": where,
                "roleRef": {"apiGroup": rbac, "kind": kind, "name": where["name"]},
                "subjects": [subject],
            },
            "test",
        )
    cluster.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": subject_of(subject)}, "test")
    account = f"/api/v1/namespaces/{namespace}/serviceaccounts/deployer/token"
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = cluster.request("POST", account, body=request, about=request)["status"]["token"]
    config = yaml.safe_load(Path(kubeconfig).read_text())
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    (found,) = look(kubeconfig=config)[0]["rights"]
    assert found["result"] == "FAIL"
    assert f"delete, patch statefulsets.apps in {namespace}" in found["found"]
    assert "create" not in found["found"].split("missing:")[1]


def subject_of(subject: dict[str, Any]) -> dict[str, Any]:
    return {"name": subject["name"], "namespace": subject["namespace"]}


def test_a_server_that_does_not_answer_is_one_finding(look) -> None:
    nowhere = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "clusters": [{"name": "x", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "x", "user": {}}],
    }
    found, result = look(kubeconfig=nowhere)
    assert found["api"][0]["result"] == "FAIL" and "cannot be reached" in found["api"][0]["found"]
    assert "nodes" not in found and "backups" in found and result["failed"]

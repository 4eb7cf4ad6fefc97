"""What the API server lets into the platform's namespaces. Nothing is created: every request is a dry run."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMESPACES = ("ingress", "openfaas", "openfaas-fn", "controller", "monitoring", "data-services")


def kubectl(*arguments: str, given: dict[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
    env = {"KUBECONFIG": str(ROOT / ".local" / "kubeconfig"), **os.environ}
    return subprocess.run(
        ["kubectl", *arguments],
        input=json.dumps(given) if given else None,
        capture_output=True,
        text=True,
        check=False,
        env=env,
    )


def container(name: str, **security: Any) -> dict[str, Any]:
    context = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        **security,
    }
    context = {key: value for key, value in context.items() if value is not None}
    resources = {"requests": {"cpu": "1m", "memory": "1Mi"}, "limits": {"memory": "8Mi"}}
    return {"name": name, "image": "none", "securityContext": context, "resources": resources}


def admitted(namespace: str, containers: list[dict[str, Any]], init: list[dict[str, Any]] | None = None) -> str:
    """The API server's refusal, or nothing where it would take the pod."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "test-admission", "namespace": namespace},
        "spec": {
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "initContainers": init or [],
            "containers": containers,
        },
    }
    done = kubectl("create", "--dry-run=server", "-f", "-", given=pod)
    return done.stderr if done.returncode else ""


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_a_pod_that_keeps_the_rules_is_taken(namespace: str) -> None:
    assert admitted(namespace, [container("good")]) == ""


@pytest.mark.parametrize("namespace", NAMESPACES)
@pytest.mark.parametrize("value", [False, None])
def test_a_writable_root_is_refused_by_name(namespace: str, value: bool | None) -> None:
    refusal = admitted(namespace, [container("good"), container("careless", readOnlyRootFilesystem=value)])
    assert "readOnlyRootFilesystem must be true for the containers careless" in refusal


def test_init_containers_count_too() -> None:
    refusal = admitted("controller", [container("good")], [container("before", readOnlyRootFilesystem=False)])
    assert "for the containers before" in refusal


def test_pod_security_is_enforced() -> None:
    assert "violates PodSecurity" in admitted("controller", [container("root", allowPrivilegeEscalation=True)])


def test_other_namespaces_are_left_alone() -> None:
    assert admitted("default", [container("careless", readOnlyRootFilesystem=False)]) == ""


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_everything_is_denied_first_and_dns_allowed(namespace: str) -> None:
    answer = json.loads(kubectl("get", "networkpolicy", "-n", namespace, "-o", "json").stdout)
    policies = {item["metadata"]["name"]: item["spec"] for item in answer["items"]}
    assert policies["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    [rule] = policies["allow-dns"]["egress"]
    assert {(port["protocol"], port["port"]) for port in rule["ports"]} == {("UDP", 53), ("TCP", 53)}

"""Whose an object is."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.drift.foreign import (
    foreign,
    referenced_by,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.installed.components import Claims, read
from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy.applyset import (
    PART_OF_LABEL,
    RECORD_PREFIX,
    ApplySet,
)

PLAN = read(
    [
        {
            "name": "web",
            "releases": [{"name": "r", "namespace": "one", "chart": "./r"}],
            "absent": [],
            "batches": [{"name": "b", "namespace": "one", "objects": []}],
            "rollouts": [],
            "secrets": [{"name": "login", "namespaces": ["one", "two"]}],
            "objects": [],
            "files": [],
            "unknown": [],
        }
    ]
)
OF_RELEASE = {"meta.helm.sh/release-name": "r", "meta.helm.sh/release-namespace": "one"}
OF_BATCH = {PART_OF_LABEL: ApplySet(RECORD_PREFIX + "b", "one").id}


def obj(kind: str, name: str, **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "one", **metadata}}


def told(one: dict[str, Any], rendered: set[str] | None = None, referenced: Any = ()) -> list[tuple[str, str]]:
    keys = {("one", "r"): {("", "ConfigMap", "one", name) for name in rendered or {"made"}}}
    return [(each.kind, each.component) for each in foreign([one], Claims(PLAN), keys, set(referenced))]


@pytest.mark.parametrize(
    "mine",
    [
        obj("ConfigMap", "made", annotations=OF_RELEASE),
        obj("ConfigMap", "x", labels=OF_BATCH),
        obj("ConfigMap", RECORD_PREFIX + "b"),
        obj("Secret", "login"),
        obj("Secret", "sh.helm.release.v1.r.v1", labels={"owner": "helm", "name": "r"}),
        obj("PersistentVolumeClaim", "data-r-0", labels={"app.kubernetes.io/instance": "r"}),
        obj("ConfigMap", "kept", annotations={**OF_RELEASE, "helm.sh/resource-policy": "keep"}),
    ],
    ids=lambda one: one["metadata"]["name"],
)
def test_what_the_plan_makes_is_known_by_its_marks(mine: dict[str, Any]) -> None:
    assert told(mine) == []


@pytest.mark.parametrize(
    "other",
    [
        obj("ConfigMap", "kube-root-ca.crt"),
        obj("ServiceAccount", "default"),
        obj("Pod", "p", ownerReferences=[{"kind": "ReplicaSet", "name": "x", "uid": "1"}]),
        obj("Secret", "token", annotations={"kubernetes.io/service-account.name": "default"}),
        obj("Service", "figlet", labels={"faas_function": "figlet"}),
    ],
    ids=lambda one: one["metadata"]["name"],
)
def test_what_the_cluster_and_the_users_of_functions_keep_is_not_foreign(other: dict[str, Any]) -> None:
    assert told(other) == []


def test_what_is_nobodys_is_foreign() -> None:
    assert told(obj("ConfigMap", "x")) == [("foreign", "")]
    # A label that anybody may set makes nothing ours.
    assert told(obj("Deployment", "d", labels={"app.kubernetes.io/instance": "r"})) == [("foreign", "")]
    assert told(obj("ConfigMap", "x", labels={PART_OF_LABEL: "another"})) == [("foreign", "")]
    other = {"meta.helm.sh/release-name": "theirs", "meta.helm.sh/release-namespace": "one"}
    assert told(obj("ConfigMap", "x", annotations=other)) == [("foreign", "")]


def test_the_claims_of_an_operators_workload_are_the_platforms() -> None:
    owned = obj("StatefulSet", "prometheus-x", ownerReferences=[{"kind": "Prometheus", "name": "x", "uid": "1"}])
    claims = [obj("PersistentVolumeClaim", name) for name in ("db-prometheus-x-0", "db-prometheus-x-y", "other-0")]
    found = foreign([*claims, owned], Claims(PLAN), {}, set())
    assert [one.object for one in found] == [
        f"PersistentVolumeClaim one/{name}" for name in ("db-prometheus-x-y", "other-0")
    ]


def test_what_a_release_does_not_make_is_extra() -> None:
    assert told(obj("ConfigMap", "copied", annotations=OF_RELEASE)) == [("extra", "web")]


def test_what_a_workload_reads_has_been_named() -> None:
    volumes = [{"secret": {"secretName": "tls"}}, {"configMap": {"name": "more"}}]
    container = {"envFrom": [{"secretRef": {"name": "env"}}], "env": [{"valueFrom": {"secretKeyRef": {"name": "key"}}}]}
    pod = {"imagePullSecrets": [{"name": "pull"}], "volumes": volumes, "containers": [container]}
    found = referenced_by([("one", {"kind": "Deployment", "metadata": {}, "spec": {"template": {"spec": pod}}})])
    assert found == {("ConfigMap", "one", "more")} | {("Secret", "one", name) for name in ("tls", "env", "key", "pull")}
    assert told(obj("Secret", "tls"), referenced=found) == []

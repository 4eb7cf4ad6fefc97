"""The module drift on a real API server: what somebody changed behind the platform's back, and what is no drift."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from .small_chart import SmallChart, helm

DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64


def policy(name: str, namespace: str) -> dict[str, Any]:
    spec = {"podSelector": {}, "policyTypes": ["Ingress"]}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


class Platform:
    """One component of each module's making, installed; ``look`` tells the differences by object."""

    def __init__(self, cluster, kubeconfig: str, namespace: str, folder) -> None:
        self.cluster, self.kubeconfig, self.namespace = cluster, kubeconfig, namespace
        self.small = SmallChart(folder, kubeconfig, namespace)
        self.values: dict[str, Any] = {"replicas": 2}
        password = {"name": "login", "namespaces": [namespace], "random": {"password": {}}, "data": {"user": "me"}}
        self.batch = {
            "name": "web",
            "namespace": namespace,
            "objects": [policy("default-deny", namespace), policy("web", namespace)],
        }
        self.component = {
            "name": "web",
            "releases": [self.small.arguments(self.values)["releases"][0]],
            "absent": [],
            "batches": [self.batch],
            "rollouts": [],
            "secrets": [password],
            "objects": [],
            "files": [],
            "unknown": [],
        }

    def install(self) -> None:
        from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy import policy as batches
        from ansible_collections.lambda_microservice.platform.plugins.module_utils.secret import secret

        def run(logic: Any, **given: Any) -> None:
            validated = ArgumentSpecValidator(logic.ARGUMENT_SPEC).validate({"kubeconfig": self.kubeconfig, **given})
            assert not validated.error_messages
            assert not logic.run(validated.validated_parameters, check_mode=False, diff=False).get("failed")

        run(secret, secrets=self.component["secrets"])
        run(batches, **self.batch)
        self.small(self.values)

    def run(self, **changes: Any) -> dict[str, Any]:
        from ansible_collections.lambda_microservice.platform.plugins.module_utils.drift import drift

        params = {
            "kubeconfig": self.kubeconfig,
            "components": [self.component],
            "helm_binary": helm(),
            "fail": False,
            **changes,
        }
        validated = ArgumentSpecValidator(drift.ARGUMENT_SPEC).validate(params)
        assert not validated.error_messages
        return drift.run(validated.validated_parameters, False, False, lambda line: None)

    def look(self, **changes: Any) -> dict[str, dict[str, Any]]:
        return {one["object"].replace(self.namespace, "NS"): one for one in self.run(**changes)["differences"]}

    def ref(self, kind: str, name: str, api_version: str = "v1") -> dict[str, Any]:
        return {"apiVersion": api_version, "kind": kind, "name": name, "namespace": self.namespace}


@pytest.fixture
def platform(cluster, kubeconfig, namespace, tmp_path) -> Platform:
    made = Platform(cluster, kubeconfig, namespace, tmp_path)
    made.install()
    return made


def test_nothing_differs_after_an_installation(platform: Platform) -> None:
    began = time.monotonic()
    result = platform.run(fail=True)
    assert result["differences"] == [] and result["table"] == [] and not result["drift"] and "failed" not in result
    assert time.monotonic() - began < 10


def test_what_is_not_installed_is_missing(cluster, kubeconfig, namespace, tmp_path) -> None:
    found = Platform(cluster, kubeconfig, namespace, tmp_path).look()
    assert {one["kind"] for one in found.values()} == {"missing"}
    assert {"release NS/w", "NetworkPolicy NS/web", "Secret NS/login"} <= set(found)


def test_what_was_done_by_hand_is_found(platform: Platform, tmp_path) -> None:
    cluster, namespace = platform.cluster, platform.namespace
    time.sleep(1.1)  # Who wrote what is noted by the second.
    edited = {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 7, "hostname": "x"}}}}
    edited["spec"]["replicas"] = 5
    cluster.patch(platform.ref("Deployment", "w", "apps/v1"), edited, "kubectl-edit")
    cluster.delete(platform.ref("NetworkPolicy", "web", "networking.k8s.io/v1"))
    by_hand = {"stringData": {"password": "hunter2-by-hand"}}
    cluster.patch(platform.ref("Secret", "login"), by_hand, "kubectl-edit")
    cluster.patch(platform.ref("Secret", "w"), {"stringData": {"k": "of-nobody"}}, "kubectl-edit")
    stranger = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "stranger", "namespace": namespace}}
    cluster.apply(stranger, "kubectl")
    found = platform.look()
    assert set(found) == {
        "Deployment NS/w",
        "NetworkPolicy NS/web",
        "Secret NS/login",
        "Secret NS/w",
        "ConfigMap NS/stranger",
    }
    # What no one of ours renders is nobody's drift.
    assert found["Deployment NS/w"]["kind"] == "changed" and found["Deployment NS/w"]["fields"] == ["spec.replicas"]
    assert found["NetworkPolicy NS/web"]["kind"] == "missing"
    (field,) = found["Secret NS/login"]["fields"]
    assert field.startswith("data.password (written by kubectl-edit at ")
    assert found["Secret NS/w"]["fields"] == ["data.k"]
    assert found["ConfigMap NS/stranger"]["kind"] == "foreign"

    output = tmp_path / "drift.json"
    result = platform.run(fail=True, output=str(output))
    assert result["failed"] and result["reason"] == "drift" and "1 missing" in result["msg"]
    told = json.dumps(result) + output.read_text()
    assert json.loads(output.read_text())["counts"] == {"missing": 1, "changed": 3, "foreign": 1}
    for value in ("hunter2-by-hand", "of-nobody", *(base64.b64encode(x).decode() for x in (b"hunter2-by-hand",))):
        assert value not in told
    assert len({line.find("web") for line in result["table"][2:] if " web " in line}) == 1

    # The platform's own way back.
    platform.install()
    assert set(platform.look()) == {"Secret NS/login", "ConfigMap NS/stranger"}


def test_what_others_may_do_is_no_drift(platform: Platform) -> None:
    cluster, namespace = platform.cluster, platform.namespace
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "w"}
    scaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "w", "namespace": namespace},
        "spec": {"maxReplicas": 9, "scaleTargetRef": target},
    }
    owner = cluster.get(platform.ref("Deployment", "w", "apps/v1"))["metadata"]
    owned = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "of-a-controller",
            "namespace": namespace,
            "ownerReferences": [{**target, "uid": owner["uid"]}],
        },
    }
    function = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "figlet", "namespace": namespace, "labels": {"faas_function": "figlet"}},
        "spec": {"ports": [{"port": 8080}]},
    }
    for obj in (scaler, owned, function):
        cluster.apply(obj, "others")
    ref = platform.ref("Deployment", "w", "apps/v1")
    cluster.patch(ref, {"spec": {"replicas": 7}, "metadata": {"annotations": {"seen.by/mesh": "1"}}}, "hpa")
    # The autoscaler itself is nobody's.
    assert set(platform.look()) == {"HorizontalPodAutoscaler NS/w"}


def test_what_the_inventory_does_not_ask_for_any_more_is_extra(platform: Platform) -> None:
    platform.batch["objects"] = platform.batch["objects"][:1]
    platform.component["absent"] = [{**platform.component["releases"][0], "state": "absent"}]
    platform.component["releases"] = []
    found = platform.look()
    assert {name: one["kind"] for name, one in found.items()} == {
        "NetworkPolicy NS/web": "extra",
        "release NS/w": "extra",
    }
    # An object that carries the release's marks and is in no chart.
    platform.component["releases"], platform.component["absent"] = (
        [platform.small.arguments(platform.values)["releases"][0]],
        [],
    )
    marks = {"meta.helm.sh/release-name": "w", "meta.helm.sh/release-namespace": platform.namespace}
    metadata = {"name": "copied", "namespace": platform.namespace, "annotations": marks}
    platform.cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}, "kubectl")
    assert platform.look()["ConfigMap NS/copied"]["kind"] == "extra"


def test_a_new_value_of_the_inventory_is_told_by_the_objects_that_it_changes(platform: Platform) -> None:
    platform.component["releases"][0]["values"] = {"replicas": 3}
    found = platform.look()
    assert found["Deployment NS/w"]["fields"] == ["spec.replicas"]
    assert "values: replicas" in found["release NS/w"]["note"]


def test_an_image_with_another_digest_is_found(platform: Platform, tell_status) -> None:
    template = platform.small.folder / "templates" / "all.yaml"
    template.write_text(template.read_text().replace("registry.invalid/none:1", f"registry.invalid/none@{DIGEST}"))
    platform.small(platform.values)
    cluster, namespace = platform.cluster, platform.namespace

    def pod(name: str, image: str, image_id: str) -> None:
        spec = {"containers": [{"name": "c", "image": image}]}
        metadata = {"name": name, "namespace": namespace, "labels": {"x": "w"}}
        owner = cluster.get(platform.ref("Deployment", "w", "apps/v1"))["metadata"]["uid"]
        metadata["ownerReferences"] = [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "w", "uid": owner}]
        cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}, "test")
        state = {"name": "c", "image": image, "imageID": image_id, "ready": True, "restartCount": 0}
        tell_status(platform.ref("Pod", name), {"phase": "Running", "containerStatuses": [state]})

    wanted = f"registry.invalid/none@{DIGEST}"
    pod("right", wanted, wanted)
    pod("loaded", wanted, OTHER)  # by hand: the digest of its configuration
    assert platform.look() == {}
    pod("wrong", wanted, f"registry.invalid/none@{OTHER}")
    found = platform.look()
    (name,) = found
    assert name == "Deployment NS/w, container c" and OTHER in found[name]["note"] and DIGEST in found[name]["note"]
    pod("older", "registry.invalid/none:0", f"registry.invalid/none@{OTHER}")
    assert [one["kind"] for one in platform.run()["differences"]] == ["image"]


def test_components_that_are_no_components_are_named(platform: Platform) -> None:
    from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError

    with pytest.raises(PlatformError, match="components names what is no component") as raised:
        platform.run(only=["web", "wob"])
    assert raised.value.found == "wob" and "web" in raised.value.expected


def test_it_writes_nothing(platform: Platform) -> None:
    kubectl = ["kubectl", "--kubeconfig", platform.kubeconfig, "-n", platform.namespace, "get", "-o", "json"]
    kinds = "deployments,secrets,configmaps,networkpolicies,services"

    def everything() -> str:
        return subprocess.run([*kubectl, kinds], capture_output=True, text=True, check=True).stdout

    platform.batch["objects"].append(policy("more", platform.namespace))
    platform.component["releases"][0]["values"] = {"replicas": 4}
    before = everything()
    assert platform.run()["drift"]
    assert everything() == before

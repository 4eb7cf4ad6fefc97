"""The module teardown on a real API server: what goes, what stays, and that a second run finishes the first."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from .small_chart import helm
from .test_drift import Platform


def component(name: str, **given: Any) -> dict[str, Any]:
    keys = ("releases", "absent", "batches", "rollouts", "secrets", "objects", "files", "unknown")
    return {"name": name, **{key: [] for key in keys}, **given}


class Removable(Platform):
    """The same in a namespace that a batch of its own has made, with a volume."""

    def __init__(self, cluster, kubeconfig: str, record: str, folder) -> None:
        namespace = f"made-{uuid.uuid4().hex[:8]}"
        made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        self.foundation = {"name": "foundation", "namespace": record, "objects": [made]}
        super().__init__(cluster, kubeconfig, namespace, folder)
        self.values |= {"volume": {"class": "none", "size": "1Gi"}, "image": "registry.invalid/none:1"}
        self.component["releases"][0]["values"] = self.values
        self.plan = [component("foundation", batches=[self.foundation]), self.component]

    def install(self) -> None:
        from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy import policy

        given = {"kubeconfig": self.kubeconfig, **self.foundation}
        policy.run(ArgumentSpecValidator(policy.ARGUMENT_SPEC).validate(given).validated_parameters, False, False)
        volume = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": self.namespace},
            "spec": {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": "none",
                "hostPath": {"path": "/none"},
            },
        }
        self.cluster.apply(volume, "test")
        super().install()
        claim = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {
                "name": "data-v-0",
                "namespace": self.namespace,
                "labels": {"app.kubernetes.io/instance": "w"},
            },
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": "none",
                "resources": {"requests": {"storage": "1Gi"}},
            },
        }
        # As the StatefulSet's controller makes it, which may come first.
        self.cluster.apply(claim, "test")

    @property
    def claim(self) -> dict[str, Any]:
        return self.ref("PersistentVolumeClaim", "data-v-0")

    def remove(self, check_mode: bool = False, **changes: Any) -> dict[str, Any]:
        from ansible_collections.lambda_microservice.platform.plugins.module_utils.teardown import teardown

        params = {
            "kubeconfig": self.kubeconfig,
            "components": self.plan,
            "helm_binary": helm(),
            "confirm": self.cluster.name(),
            **changes,
        }
        validated = ArgumentSpecValidator(teardown.ARGUMENT_SPEC).validate(params)
        assert not validated.error_messages
        return teardown.run(validated.validated_parameters, check_mode, False, lambda line: None)


@pytest.fixture
def platform(cluster, kubeconfig, make_namespace, tmp_path) -> Removable:
    made = Removable(cluster, kubeconfig, make_namespace(), tmp_path)
    made.install()
    return made


def objects(result: dict[str, Any], part: str, namespace: str) -> set[str]:
    return {(one if part == "removed" else one["object"]).replace(namespace, "NS") for one in result[part]}


def test_volumes_secrets_and_what_is_foreign_stay_and_a_second_run_does_nothing(platform: Removable) -> None:
    cluster, namespace = platform.cluster, platform.namespace
    stranger = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "stranger", "namespace": namespace}}
    cluster.apply(stranger, "kubectl")
    told = platform.remove(check_mode=True, confirm="")
    assert cluster.get(platform.ref("Deployment", "w", "apps/v1")) and told["changed"]
    done = platform.remove()
    for part in ("removed", "kept", "left"):
        assert objects(done, part, namespace) == objects(told, part, namespace), part
    assert {"release NS/w", "NetworkPolicy NS/web"} <= objects(done, "removed", namespace)
    assert objects(done, "kept", namespace) == {"PersistentVolumeClaim NS/data-v-0", "Secret NS/login"}
    assert objects(done, "left", namespace) == {"ConfigMap NS/stranger", "Namespace NS"}
    assert cluster.get(platform.claim)["metadata"].get("deletionTimestamp") is None
    assert cluster.get(platform.ref("ConfigMap", "stranger")) and cluster.get(platform.ref("Secret", "login"))
    assert cluster.get(platform.ref("Deployment", "w", "apps/v1")) is None
    again = platform.remove()
    assert not again["changed"], "\n".join(again["table"])
    assert objects(again, "left", namespace) == objects(done, "left", namespace)
    # What was kept makes it whole again.
    platform.install()
    assert platform.look()["ConfigMap NS/stranger"]["kind"] == "foreign"


def test_a_volume_goes_by_its_name_and_the_namespace_with_it(platform: Removable) -> None:
    cluster, namespace = platform.cluster, platform.namespace
    done = platform.remove(volumes=[f"{namespace}/data-v-0"])
    gone = {"PersistentVolumeClaim NS/data-v-0", "Secret NS/login", "Namespace NS"}
    assert gone <= objects(done, "removed", namespace), "\n".join(done["table"])
    assert done["kept"] == []
    live = cluster.get({"apiVersion": "v1", "kind": "Namespace", "name": namespace})
    assert live is None or live["metadata"]["deletionTimestamp"]
    # The names of a run that was cut off may be given again.
    assert not platform.remove(volumes=[f"{namespace}/data-v-0"])["changed"]


def test_what_a_killed_run_has_left_is_finished(platform: Removable) -> None:
    """Cut off after the release, of which the batch and the namespace are still there."""
    platform.small(platform.values, state="absent")
    done = platform.remove()
    assert "NetworkPolicy NS/web" in objects(done, "removed", platform.namespace)
    assert platform.cluster.get(platform.ref("NetworkPolicy", "web", "networking.k8s.io/v1")) is None


def test_nothing_is_touched_without_the_cluster_s_name_or_with_a_wrong_one_of_a_volume(platform: Removable) -> None:
    from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError

    for confirm in ("", "another-cluster"):
        with pytest.raises(PlatformError, match="nobody has said that this cluster is meant") as raised:
            platform.remove(confirm=confirm)
        assert raised.value.expected == platform.cluster.name()
    with pytest.raises(PlatformError, match="no volume of these components") as raised:
        platform.remove(volumes=[f"{platform.namespace}/data-w-0"])
    assert "data-v-0" in raised.value.expected
    assert platform.look() == {}


def test_a_release_that_would_take_its_volume_along_stops_it(platform: Removable) -> None:
    from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError

    template = platform.small.folder / "templates" / "all.yaml"
    claim = (
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: own}\nspec:\n  accessModes: [ReadWriteOnce]\n"
    )
    claim += "  storageClassName: none\n  resources: {requests: {storage: 1Gi}}\n"
    template.write_text(template.read_text() + "---\n" + claim)
    platform.small(platform.values)
    with pytest.raises(PlatformError, match="a volume would go with its release"):
        platform.remove()
    assert platform.cluster.get(platform.ref("Deployment", "w", "apps/v1"))
    done = platform.remove(volumes=[f"{platform.namespace}/own"])
    assert "PersistentVolumeClaim NS/data-v-0" in objects(done, "kept", platform.namespace)


def test_one_component_leaves_the_others(platform: Removable) -> None:
    other = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "more", "namespace": platform.namespace}}
    batch = {"name": "other", "namespace": platform.namespace, "objects": [other]}
    platform.plan.append(component("other", batches=[batch]))
    from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy import policy

    given = {"kubeconfig": platform.kubeconfig, **batch}
    policy.run(ArgumentSpecValidator(policy.ARGUMENT_SPEC).validate(given).validated_parameters, False, False)
    done = platform.remove(only=["other"])
    assert objects(done, "removed", platform.namespace) == {"ConfigMap NS/more", "ConfigMap NS/policy-other"}
    assert platform.cluster.get(platform.ref("Deployment", "w", "apps/v1"))

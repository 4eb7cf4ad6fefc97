"""The module rollback on a real API server: there and back again, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from .small_chart import SmallChart, helm


class Release:
    """The small chart as the one release of a component."""

    def __init__(self, small: SmallChart) -> None:
        self.small = small

    def back(self, revision: int, check_mode: bool = False, diff: bool = True, **changes: Any) -> dict[str, Any]:
        from ansible_collections.lambda_microservice.platform.plugins.module_utils.rollback import rollback

        workload = {"kind": "Deployment", "name": "w", "namespace": self.small.namespace}
        component = {
            "name": "web",
            "releases": self.small.arguments()["releases"],
            "rollouts": [{"workloads": [workload], "timeout_seconds": 77}],
        }
        params = {
            "kubeconfig": self.small.kubeconfig,
            "components": [component],
            "component": "web",
            "revision": revision,
            "helm_binary": helm(),
            **changes,
        }
        validated = ArgumentSpecValidator(rollback.ARGUMENT_SPEC).validate(params)
        assert not validated.error_messages
        return rollback.run(validated.validated_parameters, check_mode, diff, lambda line: None)


@pytest.fixture
def release(tmp_path, kubeconfig, namespace) -> Release:
    return Release(SmallChart(tmp_path, kubeconfig, namespace))


def refused(made: Release, revision: int, match: str, **changes: Any) -> Any:
    from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError

    with pytest.raises(PlatformError, match=match) as raised:
        made.back(revision, **changes)
    return raised.value


def test_there_and_back_again(release: Release, cluster, namespace) -> None:
    ref = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "w", "namespace": namespace}
    release.small({"replicas": 1, "secret": "first-secret-value"})
    release.small({"replicas": 2, "secret": "second-secret-value"})
    told = release.back(1, check_mode=True)
    assert told["changed"] and cluster.get(ref)["spec"]["replicas"] == 2
    assert (told["from_revision"], told["to_revision"]) == (2, 1)
    assert any("spec.replicas" in line for line in told["changes"]) and len(told["diff"]) == 2
    done = release.back(1)
    assert done["revision"] == 3 and cluster.get(ref)["spec"]["replicas"] == 1
    assert done["workloads"][0]["name"] == "w" and done["timeout_seconds"] == 77
    text = str(told) + str(done)
    assert "secret-value" not in text and "hidden, mark" in text
    # A second time there is nothing to do; and the revision before is there to go back to.
    assert not release.back(1)["changed"]
    assert release.back(2)["revision"] == 4 and cluster.get(ref)["spec"]["replicas"] == 2


def test_a_revision_or_a_component_that_is_not_there_is_told_with_those_that_are(release: Release) -> None:
    release.small({"replicas": 1})
    error = refused(release, 9, "there is no such revision")
    assert "1 " in error.expected and "deployed" in error.expected and "10" in error.fix
    assert "revision is 0" in refused(release, 0, "no revision was named").found
    assert refused(release, 1, "component names nothing", component="wob").expected == "web"
    assert refused(release, 1, "has no such release", release="x").expected == "one of w"


def test_an_autoscaler_s_count_stays(release: Release, cluster, namespace) -> None:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "w"}
    scaler = {"maxReplicas": 9, "scaleTargetRef": target}
    metadata = {"name": "w", "namespace": namespace}
    cluster.apply(
        {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata, "spec": scaler}, "t"
    )
    release.small({"replicas": 1, "secret": "a"})
    release.small({"replicas": 1, "secret": "b"})
    ref = {**target, "namespace": namespace}
    cluster.patch(ref, {"spec": {"replicas": 6}}, "hpa")
    assert release.back(1)["changed"]
    assert cluster.get(ref)["spec"]["replicas"] == 6


def test_what_would_lose_data_is_refused(release: Release, cluster, namespace) -> None:
    ref = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "v", "namespace": namespace}
    with_volume = {"volume": {"class": "none", "size": "1Gi"}}
    volume = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "none"}
    spec = {**volume, "hostPath": {"path": "/none"}}
    cluster.apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": namespace}, "spec": spec}, "t")
    release.small({})
    release.small({**with_volume, "image": "postgresql:16"})
    release.small({**with_volume, "image": "postgresql:17"})
    error = refused(release, 2, "older major version")
    assert "postgresql:17 runs" in error.found
    error = refused(release, 1, "does not have a volume")
    assert "data" in error.found and "StatefulSet itself" in error.found
    assert cluster.get(ref)["spec"]["template"]["spec"]["containers"][0]["image"] == "postgresql:17"
    assert release.back(0 + 3)["changed"] is False

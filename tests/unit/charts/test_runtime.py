"""The chart runtime: the design's numbers, and what a pod that runs strangers' code gets."""

from __future__ import annotations

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.quantities import quantity
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.runtime_memory import memory

from .conftest import ROOT, Objects, Render, RenderError

CHART = ROOT / "roles/runtimes/files/charts/runtime"


@pytest.fixture(scope="module")
def objects(render: Render) -> Objects:
    return render(CHART)


def test_the_designs_numbers(objects: Objects) -> None:
    scaler = objects.one("HorizontalPodAutoscaler", "runtime")["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 20)
    assert [metric["resource"]["target"]["averageUtilization"] for metric in scaler["metrics"]] == [70]
    assert scaler["behavior"]["scaleUp"]["stabilizationWindowSeconds"] == 60
    assert scaler["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 300
    container = objects.one("Deployment", "runtime")["spec"]["template"]["spec"]["containers"][0]
    # Scripts are hostile, so CPU is limited here.
    assert container["resources"] == {
        "requests": {"cpu": "1", "memory": "2Gi"},
        "limits": {"cpu": "1", "memory": "2Gi"},
    }


def test_the_release_names_the_workload_and_its_service(objects: Objects) -> None:
    service = objects.one("Service", "runtime")
    # Its name leads to each pod, and the controller chooses.
    assert service["spec"]["clusterIP"] == "None"
    assert {port["name"]: port["port"] for port in service["spec"]["ports"]} == {"http": 8080, "metrics": 9090}
    labels = objects.one("Deployment", "runtime")["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/name"] == "runtime"
    assert service["spec"]["selector"].items() <= labels.items()


def test_only_tmp_can_be_written_and_it_is_bounded(objects: Objects) -> None:
    pod = objects.one("Deployment", "runtime")["spec"]["template"]["spec"]
    assert pod["containers"][0]["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]
    # The kernel holds a tmpfs to its size; of a folder on disk the kubelet finds out, and evicts the pod.
    assert pod["volumes"] == [{"name": "tmp", "emptyDir": {"sizeLimit": "384Mi", "medium": "Memory"}}]


@pytest.mark.parametrize("language", ["nodejs", "python", "rust"])
def test_all_that_scripts_may_take_at_once_fits(objects: Objects, language: str) -> None:
    pod = objects.one("Deployment", "runtime")["spec"]["template"]["spec"]
    limits = pod["containers"][0]["resources"]["limits"]
    env = {entry["name"]: entry["value"] for entry in pod["containers"][0]["env"]}
    needed = memory(language, limits["memory"], limits["cpu"], env)
    assert needed.scratch <= quantity(pod["volumes"][0]["emptyDir"]["sizeLimit"])
    assert needed.sum <= quantity(limits["memory"])


def test_a_pod_ends_after_its_requests(objects: Objects) -> None:
    """5 s until nobody sends more, 30 s for the longest script and 5 s for its answer."""
    assert (
        objects.one("Deployment", "runtime")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > 5 + 30 + 5
    )


def test_an_update_takes_no_pod_away_before_its_successor_serves(objects: Objects) -> None:
    strategy = objects.one("Deployment", "runtime")["spec"]["strategy"]
    assert strategy["rollingUpdate"]["maxUnavailable"] == 0


def test_a_busy_pod_is_not_restarted_at_once(objects: Objects) -> None:
    probe = objects.one("Deployment", "runtime")["spec"]["template"]["spec"]["containers"][0]["livenessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 60


def test_a_misspelt_value_is_refused(render: Render) -> None:
    with pytest.raises(RenderError, match="replica_count"):
        render(CHART, {"replica_count": 2})
    with pytest.raises(RenderError, match="image of runtime is empty"):
        render(CHART, {"image": ""})

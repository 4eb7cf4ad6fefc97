"""What the role monitoring applies, on a real API server: definitions and resources in one batch, twice."""

from __future__ import annotations

import time
from functools import partial

import pytest

from tests.unit.variables.rendering import ROOT, collection_without_cluster, run

PLAY = (
    *("--tags", "monitoring", "-e", f"platform_images_file={ROOT}/tests/images.json"),
    *("-e", "monitoring_enabled=true", "-e", "monitoring_alertmanager_replicas=3"),
    # No endpoints of the API are found where there are no nodes.
    *("-e", '{"platform_api_server_addresses": ["10.0.0.1/32"]}'),
)
UNCHANGED_SECONDS = 3
"""What monitoring may add to a run of site.yml that changes nothing."""


@pytest.fixture(scope="module")
def batch(tmp_path_factory, cluster):
    """The arguments of the role's module, and the namespaces of the platform."""
    collections = collection_without_cluster(tmp_path_factory.mktemp("collections"))
    done = run(collections, "site", *PLAY, folder=tmp_path_factory.mktemp("run"))
    assert done.rc == 0, done.output
    (asked,) = [asked for asked in done.asked("policy") if asked["name"] == "monitoring"]
    for name in {obj["metadata"]["namespace"] for obj in asked["objects"] if "namespace" in obj["metadata"]} - {
        "default",
        "kube-system",
    }:
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}, "test")
    return asked


@pytest.fixture
def apply(apply, batch):
    return partial(apply, batch)


def test_it_is_accepted_changes_nothing_again_and_goes_without_its_definitions(apply, batch, cluster):
    first = apply()
    assert first["changed"]
    # The other test may have made the operator's account before.
    assert {entry["action"] for entry in first["objects"]} <= {"created", "adopted"}
    began = time.process_time()
    second = apply()
    seconds = time.process_time() - began
    assert not second["changed"], [entry for entry in second["objects"] if entry["action"] != "unchanged"]
    print(f"an unchanged run: {seconds:.2f} s of CPU")
    assert seconds < UNCHANGED_SECONDS

    # What the operator made of its definitions could only be lost with them, so they stay.
    gone = apply(state="absent", objects=[], files=[])
    kept = {entry["kind"] for entry in gone["objects"] if entry["action"] != "deleted"}
    assert kept == {"CustomResourceDefinition"}
    left = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
    assert cluster.get({**left, "metadata": {"name": "prometheuses.monitoring.coreos.com"}}) is not None
    assert cluster.list("monitoring.coreos.com/v1", "PodMonitor", batch["namespace"]) == []


def test_the_operator_s_pod_is_restricted(cluster, batch):
    """Pod Security is asked, as it is when the ReplicaSet's controller makes the pod."""
    (deployment,) = [obj for obj in batch["objects"] if obj["kind"] == "Deployment"]
    template = deployment["spec"]["template"]
    account = {"apiVersion": "v1", "kind": "ServiceAccount"}
    account["metadata"] = {"name": template["spec"]["serviceAccountName"], "namespace": batch["namespace"]}
    cluster.apply(account, "test")
    pod = {"apiVersion": "v1", "kind": "Pod", "spec": template["spec"]}
    pod["metadata"] = {"name": "operator", "namespace": batch["namespace"]}
    cluster.apply(pod, "test")

"""What is done in the place of a provisioner, a load balancer and the operator."""

from __future__ import annotations

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.workloads import workloads_of
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rehearse.standins import (
    SELECTED,
    StandIns,
    stateful_set,
)

from ..stand_in import stands_in_for

CLOUD = {"csi_drivers": {"ebs.csi.aws.com": {"volumes": 24}}}
ZONE = "topology.kubernetes.io/zone"


@stands_in_for(Cluster, beside=("has",))
class FakeCluster:
    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], dict] = {}
        self.applied: list[dict] = []
        self.patched: list[dict] = []
        self.requests: list[dict] = []

    def has(self, kind: str, name: str, **fields) -> None:
        self.objects[kind, name] = {"kind": kind, **fields}

    def get(self, ref):
        return self.objects.get((ref["kind"], ref["name"]))

    def apply(self, obj, _field_manager):
        self.applied.append(obj)
        return obj

    def patch(self, _ref, body, _field_manager):
        self.patched.append(body)

    def path(self, ref):
        return f"/{ref['metadata']['name']}"

    def request(self, method, path, body=None, content_type="", about=None):
        self.requests.append({"method": method, "path": path, "body": body})


@pytest.fixture
def cluster():
    found = FakeCluster()
    found.has("Node", "general-a-1", metadata={"labels": {ZONE: "a"}})
    found.has("StorageClass", "gp3", provisioner="ebs.csi.aws.com")
    found.has("StorageClass", "gp2", provisioner="kubernetes.io/aws-ebs")
    return found


def claim(node: str = "general-a-1", storage_class: str = "gp3", **spec) -> dict:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": "data-0",
            "namespace": "shop",
            "uid": "1",
            "annotations": {SELECTED: node} if node else {},
        },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": storage_class,
            "resources": {"requests": {"storage": "8Gi"}},
            **spec,
        },
    }


def test_a_volume_is_made_in_the_zone_of_the_node_that_the_scheduler_chose(cluster):
    stand_ins = StandIns(cluster, CLOUD)
    stand_ins.claim(claim())
    stand_ins.claim(claim())  # an event more
    (volume,) = cluster.applied
    (term,) = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [{"key": ZONE, "operator": "In", "values": ["a"]}]
    assert volume["spec"]["claimRef"]["uid"] == "1"
    assert volume["spec"]["csi"]["driver"] == "ebs.csi.aws.com"


@pytest.mark.parametrize(
    "made", [claim(node=""), claim(volumeName="there"), claim(storage_class="gp2"), claim(storage_class="lost")]
)
def test_no_volume_is_made_that_the_cloud_would_not_make(cluster, made):
    """gp2 is of the driver that Kubernetes no longer has; nobody serves a class that is not there."""
    StandIns(cluster, CLOUD).claim(made)
    assert cluster.applied == []


def test_a_node_that_is_gone_is_chosen_anew(cluster):
    StandIns(cluster, CLOUD).claim(claim(node="general-a-9"))
    assert cluster.applied == []
    assert cluster.patched == [{"metadata": {"annotations": {SELECTED: None}}}]


def test_a_load_balancer_gets_an_address_once(cluster):
    service = {
        "kind": "Service",
        "metadata": {"name": "envoy", "namespace": "ingress"},
        "spec": {"type": "LoadBalancer"},
    }
    stand_ins = StandIns(cluster, CLOUD)
    stand_ins.balanced(service)
    stand_ins.balanced({**service, "spec": {"type": "ClusterIP"}})
    stand_ins.balanced({**service, "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}})
    (request,) = cluster.requests
    assert request["path"] == "/envoy/status"


def operated(kind: str, **spec) -> dict:
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": kind,
        "metadata": {"name": "platform", "namespace": "monitoring", "uid": "1"},
        "spec": {
            "replicas": 3,
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
            "storage": {"volumeClaimTemplate": {"spec": {"resources": {"requests": {"storage": "1Gi"}}}}},
            **spec,
        },
    }


@pytest.mark.parametrize("kind", ["Prometheus", "Alertmanager"])
def test_the_operator_s_workload_asks_for_what_capacity_counts(kind):
    """Both read the same object; neither may count what the other does not."""
    (counted,) = workloads_of("monitoring", [operated(kind)])
    (made,) = workloads_of("monitoring", [stateful_set(operated(kind))])
    assert (made.name, made.least, made.cpu, made.memory) == (counted.name, counted.least, counted.cpu, counted.memory)
    assert [one.size for one in made.volumes] == [one.size for one in counted.volumes]


def test_the_operator_s_pods_are_those_that_services_and_budgets_select():
    made = stateful_set(operated("Alertmanager"))
    labels = made["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/name"] == "alertmanager"
    assert made["spec"]["selector"]["matchLabels"].items() <= labels.items()
    containers = made["spec"]["template"]["spec"]["containers"]
    assert all(one["securityContext"]["readOnlyRootFilesystem"] for one in containers)

"""What a cluster may lack: each is found, all at once, and nothing is said where all is there."""

from __future__ import annotations

import pytest
from ansible_collections.lambda_microservice.platform.plugins.filter.storage_classes import storage_classes
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.preflight import preflight

from ..stand_in import stands_in_for

EBS = "ebs.csi.aws.com"


def obj(api_version, kind, name, namespace=None, **body):
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **body}


def storage_class(name, provisioner=EBS, default=False):
    made = obj("storage.k8s.io/v1", "StorageClass", name, provisioner=provisioner)
    made["metadata"]["annotations"] = {preflight.DEFAULT_CLASS: "true"} if default else {}
    return made


def csi_node(name, *drivers):
    return obj("storage.k8s.io/v1", "CSINode", name, spec={"drivers": [{"name": one} for one in drivers] or None})


def api_service(status, message=""):
    conditions = [{"type": "Available", "status": status, "reason": "Why", "message": message}]
    return obj("apiregistration.k8s.io/v1", "APIService", preflight.METRICS, status={"conditions": conditions})


DRIVER = obj("storage.k8s.io/v1", "CSIDriver", EBS, spec={})
CONTROLLER = obj("apps/v1", "Deployment", "aws-lbc", "kube-system", status={"availableReplicas": 2})
TLS = obj("v1", "Secret", "envoy-tls", "ingress", data={"tls.crt": "eA==", "tls.key": "eA=="})
EKS_NODE = obj("v1", "Node", "a", spec={"providerID": "aws:///us-east-1a/i-1"})
EKS_NODE["metadata"]["labels"] = {preflight.ZONE_LABEL: "us-east-1a"}
GKE_NODE = obj("v1", "Node", "a", spec={"providerID": "gce://project/us-central1-a/a"})
EKS = [storage_class("gp2"), DRIVER, csi_node("a", EBS), api_service("True"), CONTROLLER, TLS, EKS_NODE]


@stands_in_for(Cluster)
class Api:
    """Holds objects, and serves the kinds that are named."""

    def __init__(self, objects, kinds=("TargetGroupBinding", "VolumeSnapshotClass"), forbidden=()):
        self.objects = list(objects)
        self.kinds = kinds
        self.forbidden = forbidden

    def _read(self, kind):
        if kind in self.forbidden:
            raise PlatformError(f"no right to read {kind}", reason="forbidden")
        return [one for one in self.objects if one["kind"] == kind]

    def knows(self, _api_version, kind):
        return kind in self.kinds

    def get(self, ref):
        found = [
            one
            for one in self._read(ref["kind"])
            if one["metadata"]["name"] == ref["name"] and one["metadata"].get("namespace") == ref.get("namespace")
        ]
        return found[0] if found else None

    def list(self, _api_version, kind, _namespace=None, label_selector=None):
        assert label_selector in (None, preflight.AWS_CONTROLLER_LABEL)
        return self._read(kind)


def production(**given):
    """What the inventory for EKS asks."""
    return {
        "storage_classes": [{"variable": "data_services_storage_class", "name": "gp3", "wanted": True}],
        "snapshot_classes": [{"variable": "a_snapshot_class", "name": "ebs", "wanted": True}],
        "made": storage_classes([{"name": "gp3"}], [{"name": "ebs", "driver": EBS}]),
        "zones": ["us-east-1a"],
        "resource_metrics": True,
        "load_balancer": "nlb",
        "secrets": [
            {
                "variable": "ingress_tls_secret",
                "namespace": "ingress",
                "name": "envoy-tls",
                "keys": ["tls.crt", "tls.key"],
                "wanted": True,
            }
        ],
        "wait_seconds": 0,
        "ignore": [],
        **given,
    }


def look(objects, params=None, **api):
    return preflight.run(params or production(), False, False, connect=lambda _params: Api(objects, **api))


def fails(objects, params=None, **api):
    with pytest.raises(PlatformError) as caught:
        look(objects, params, **api)
    return caught.value


def without(*gone):
    return [one for one in EKS if not any(one is each for each in gone)]


def test_a_cluster_that_has_all_is_let_pass_though_its_classes_are_still_to_be_made():
    assert look(EKS) == {"changed": False, "findings": [], "warnings": []}


def test_all_that_an_empty_cluster_lacks_is_named_at_once():
    error = fails([EKS_NODE], kinds=())
    told = str(error)
    for part in (
        f"the CSI driver {EBS} is missing",
        "aws-ebs-csi-driver",
        "snapshot-controller",
        "metrics-server",
        "AWS Load Balancer Controller",
        "no Secret ingress/envoy-tls",
        "kubectl create namespace ingress",
        "create secret tls envoy-tls",
    ):
        assert part in told
    assert len(error.errors) == 5
    assert all(each.parts().keys() >= {"where", "found", "expected", "fix"} for each in error.errors)


@pytest.mark.parametrize(
    ("objects", "told"),
    [
        (without(DRIVER), f"no CSIDriver {EBS}"),
        ([*without(EKS[2]), csi_node("a"), csi_node("b", "other")], "on none of 2 nodes"),
        ([*without(EKS[3])], "it does not exist"),
        ([*without(EKS[3]), api_service("False", "no endpoints")], "Why: no endpoints"),
        ([*without(CONTROLLER), {**CONTROLLER, "status": {}}], "kube-system/aws-lbc has no pod that is available"),
        ([*without(TLS), {**TLS, "data": {"tls.crt": "eA=="}}], "no tls.key"),
    ],
)
def test_each_is_found_alone(objects, told):
    error = fails(objects)
    assert not error.errors
    assert told in error.found


def test_a_metrics_server_that_is_new_is_waited_for():
    class Soon(Api):
        looks = 0

        def get(self, ref):
            if ref["kind"] != "APIService":
                return super().get(ref)
            self.looks += 1
            return api_service("True" if self.looks > 1 else "False", "no endpoints")

    cluster = Soon(without(EKS[3]))
    assert preflight.run(production(wait_seconds=20), False, False, connect=lambda _params: cluster)["findings"] == []
    assert cluster.looks == 2


def test_a_cluster_that_grows_from_nothing_has_its_driver_on_no_node_yet():
    look(without(EKS[2]))


def test_a_controller_that_another_chart_has_labelled_otherwise_counts():
    look(without(CONTROLLER))


def test_a_class_that_nobody_makes():
    error = fails(EKS, production(made=[]))
    assert "the StorageClass gp3 does not exist" in str(error)
    assert "the classes gp2" in str(error)
    assert "the VolumeSnapshotClass ebs does not exist" in str(error)


def test_without_a_name_the_default_class_counts():
    params = production(storage_classes=[{"variable": "logging_storage_class", "name": "", "wanted": True}])
    error = fails(EKS, params)
    assert error.what == "no StorageClass is the cluster's default"
    look([*EKS, storage_class("other", "example.com/disks", default=True)], params)


def test_an_old_driver_s_class_needs_the_new_driver():
    params = production(storage_classes=[{"variable": "x", "name": "old", "wanted": True}])
    objects = [*EKS, storage_class("old", "kubernetes.io/aws-ebs")]
    look(objects, params)
    assert EBS in fails([one for one in objects if one is not DRIVER], params).what


def test_what_nothing_asks_for_may_be_missing():
    entries = production()
    params = production(
        storage_classes=[{**entries["storage_classes"][0], "name": "none", "wanted": False}],
        snapshot_classes=[{**entries["snapshot_classes"][0], "name": ""}],
        resource_metrics=False,
        load_balancer="none",
        secrets=[{**entries["secrets"][0], "wanted": False}],
    )
    look([], params, kinds=())


def test_googles_load_balancer_needs_googles_cluster():
    assert "no node of gce://" in fails(EKS, production(load_balancer="gce")).found
    gke = production(load_balancer="gce", zones=[])
    look([*without(EKS_NODE), GKE_NODE], gke, kinds=("VolumeSnapshotClass",))


def test_a_zone_without_nodes():
    error = fails(EKS, production(zones=["us-east-1a", "us-east-1b", "us-east-1c"]))
    assert error.what == "no node is in zones us-east-1b, us-east-1c"
    assert error.found == "nodes in us-east-1a"
    look(without(EKS_NODE), production(zones=["us-east-1b"]))


def test_what_is_ignored_is_a_warning():
    result = look(without(EKS[3]), production(ignore=["metrics"]))
    assert [finding["state"] for finding in result["findings"]] == ["ignored"]
    assert "metrics-server" in result["warnings"][0]
    assert "load_balancer" not in str(fails(without(TLS), production(ignore=["metrics"])))


def test_what_may_not_be_read_is_a_warning():
    result = look(without(EKS[3]), forbidden=("APIService",))
    assert "metrics could not be looked at" in result["warnings"][0]


def test_an_api_server_that_does_not_answer_is_its_error():
    class Gone(Api):
        def _read(self, kind):
            raise PlatformError("the cluster cannot be reached", reason="unreachable")

    with pytest.raises(PlatformError, match="cannot be reached"):
        preflight.run(production(), False, False, connect=lambda _params: Gone([]))

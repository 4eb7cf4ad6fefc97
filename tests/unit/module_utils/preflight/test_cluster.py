"""What a cluster may lack: each is found, and nothing is said against one that has all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from ansible_collections.lambda_microservice.platform.plugins.filter.storage_classes import storage_classes
from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.workloads import (
    ZONE,
    Volume,
    Workload,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.preflight import cluster as checks
from ansible_collections.lambda_microservice.platform.plugins.module_utils.preflight.finding import (
    FAIL,
    PASS,
    WARN,
    Finding,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.preflight.preflight import CHECKS, _made
from ansible_collections.lambda_microservice.platform.plugins.module_utils.preflight.state import _LISTS, State

from ..stand_in import stands_in_for

EBS = "ebs.csi.aws.com"
Object = dict[str, Any]


def obj(api_version: str, kind: str, name: str, namespace: str | None = None, **body: Any) -> Object:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **body}


def storage_class(name: str, provisioner: str = EBS, default: bool = False) -> Object:
    made = obj("storage.k8s.io/v1", "StorageClass", name, provisioner=provisioner, allowVolumeExpansion=True)
    made["metadata"]["annotations"] = {checks.DEFAULT_CLASS: "true"} if default else {}
    return made


def csi_node(name: str, *drivers: str) -> Object:
    return obj("storage.k8s.io/v1", "CSINode", name, spec={"drivers": [{"name": one} for one in drivers] or None})


def api_service(status: str, message: str = "") -> Object:
    conditions = [{"type": "Available", "status": status, "reason": "Why", "message": message}]
    name = "v1beta1.metrics.k8s.io"
    return obj("apiregistration.k8s.io/v1", "APIService", name, status={"conditions": conditions})


def secret(namespace: str, name: str, **data: str) -> Object:
    return obj("v1", "Secret", name, namespace, data={key.replace("_", "."): value for key, value in data.items()})


DRIVER = obj("storage.k8s.io/v1", "CSIDriver", EBS, spec={})
ON_A = csi_node("a", EBS)
METRICS = api_service("True")
CONTROLLER = obj("apps/v1", "Deployment", "aws-lbc", "kube-system", status={"availableReplicas": 2})
CONTROLLER["metadata"]["labels"] = {**checks.AWS_CONTROLLER, "more": "x"}
TLS = secret("ingress", "envoy-tls", tls_crt="eA==", tls_key="eA==")
EKS_NODE = obj("v1", "Node", "a", spec={"providerID": "aws:///us-east-1a/i-1"})
EKS_NODE["metadata"]["labels"] = {ZONE: "us-east-1a"}
GKE_NODE = obj("v1", "Node", "a", spec={"providerID": "gce://project/us-central1-a/a"})
EKS = [storage_class("gp2"), DRIVER, ON_A, METRICS, CONTROLLER, TLS, EKS_NODE]

PRODUCTION = {
    "platform_zones": ["us-east-1a"],
    "ingress_load_balancer": "nlb",
    "ingress_namespace": "ingress",
    "ingress_tls_source": "secret",
    "ingress_tls_secret": "envoy-tls",
    "data_services_postgresql_enabled": True,
    "data_services_postgresql_snapshot_class": "ebs",
}
MADE = storage_classes([{"name": "gp3"}], [{"name": "ebs", "driver": EBS}])


@stands_in_for(Cluster, beside=["state"])
class Api:
    """Holds objects, and serves the kinds that are named."""

    def __init__(self, objects: Iterable[Object], kinds: Iterable[str], forbidden: Iterable[str]) -> None:
        self.objects, self.kinds, self.forbidden = list(objects), kinds, forbidden

    def _read(self, kind: str) -> list[Object]:
        if kind in self.forbidden:
            raise PlatformError(f"no right to read {kind}", reason="forbidden")
        return [one for one in self.objects if one["kind"] == kind]

    def knows(self, _api_version: str, kind: str) -> bool:
        return kind in self.kinds

    def get(self, ref: Object) -> Object | None:
        place = ref["name"], ref.get("namespace")
        found = self._read(ref["kind"])
        return next(
            (one for one in found if (one["metadata"]["name"], one["metadata"].get("namespace")) == place), None
        )

    def list(self, _api_version: str, kind: str, _namespace: str | None = None) -> list[Object]:
        return self._read(kind)

    def state(self) -> State:
        lists: dict[str, list[Object] | PlatformError] = {}
        for name, (_version, kind, _namespace) in _LISTS.items():
            try:
                lists[name] = self._read(kind)
            except PlatformError as failure:
                lists[name] = failure
        return State(lists, {}, 0.0)


def look(
    objects: Iterable[Object],
    volumes: Iterable[str] = ("gp3",),
    made: Iterable[Object] = MADE,
    kinds: Iterable[str] = ("TargetGroupBinding", "VolumeSnapshotClass"),
    forbidden: Iterable[str] = (),
    **changes: Any,
) -> dict[str, list[Finding]]:
    """The findings by the checks' names, of what the inventory for EKS asks with ``changes``."""
    api, values, planned = Api(objects, kinds, forbidden), {**PRODUCTION, **changes}, list(made)
    state = api.state()
    of_volumes = tuple(Volume("data", 1, name) for name in volumes)
    workloads = [Workload("part", "ours", "StatefulSet", "redis", 3, 3, 1, 1, volumes=of_volumes)]
    asked = {
        "zones": lambda: checks.zones(state, values["platform_zones"]),
        "storage": lambda: checks.storage(state, workloads, planned, api),
        "data": lambda: checks.data(planned, api),
        "snapshots": lambda: checks.snapshots(values, planned, api),
        "load_balancer": lambda: checks.balancer(state, values, api),
        "metrics": lambda: checks.metrics(state, values, api, 0),
        "certificate": lambda: checks.certificate(values, api),
        "secrets": lambda: checks.secrets(values, api),
    }
    found = {name: _made(name, check) for name, check in asked.items()}
    assert all(one.check == name and name in CHECKS for name, some in found.items() for one in some)
    assert all(one.needed and one.to_do for some in found.values() for one in some if one.result == FAIL)
    return found


def fails(objects: Iterable[Object], **given: Any) -> list[Finding]:
    return [one for some in look(objects, **given).values() for one in some if one.result == FAIL]


def without(*gone: Object) -> list[Object]:
    return [one for one in EKS if not any(one is each for each in gone)]


def test_a_cluster_that_has_all_is_let_pass_though_its_classes_are_still_to_be_made() -> None:
    found = look(EKS)
    assert {one.result for some in found.values() for one in some} == {PASS}
    assert found["storage"][0].found == "gp3; gp3 will be made"
    assert found["snapshots"][0].found == "ebs will be made"


def of_data(version: str) -> Object:
    made = obj("apps/v1", "StatefulSet", "postgresql", "data-services", spec={})
    made["metadata"]["annotations"] = {checks.DATA_VERSION: version}
    return made


def test_data_that_the_wanted_version_cannot_read_are_named_before_anything_is_changed() -> None:
    (found,) = fails([*EKS, of_data("15")], made=[*MADE, of_data("17")])
    assert found.check == "data" and "data of 15; version 17 asked for" in found.found
    assert "playbooks/upgrade-postgresql.yml" in found.to_do
    assert [one.result for one in look([*EKS, of_data("17")], made=[*MADE, of_data("17")])["data"]] == [PASS]
    # A cluster that has none yet.
    assert look(EKS, made=[*MADE, of_data("17")])["data"] == []


def test_all_that_an_empty_cluster_lacks_is_named_at_once() -> None:
    found = fails([EKS_NODE], kinds=())
    told = " ".join(part for one in found for part in (one.found, one.needed, one.to_do))
    for part in (
        f"no CSIDriver {EBS}",
        "aws-ebs-csi-driver",
        "snapshot-controller",
        "metrics-server",
        "AWS Load Balancer Controller",
        "no Secret ingress/envoy-tls",
        "kubectl create namespace ingress",
        "create secret tls envoy-tls",
    ):
        assert part in told
    assert [one.check for one in found] == ["storage", "snapshots", "load_balancer", "metrics", "certificate"]


@pytest.mark.parametrize(
    ("objects", "told"),
    [
        (without(DRIVER), f"no CSIDriver {EBS}"),
        ([*without(ON_A), csi_node("a"), csi_node("b", "other")], "on none of 2 nodes"),
        (without(METRICS), "nobody serves metrics.k8s.io"),
        ([*without(METRICS), api_service("False", "no endpoints")], "Why: no endpoints"),
        ([*without(METRICS), {**METRICS, "status": {}}], "no condition Available"),
        ([*without(CONTROLLER), {**CONTROLLER, "status": {}}], "kube-system/aws-lbc has no pod that is available"),
        ([*without(TLS), secret("ingress", "envoy-tls", tls_crt="eA==")], "without tls.key"),
        ([*without(TLS), secret("ingress", "envoy-tls", tls_crt="eA==", tls_key="")], "without tls.key"),
    ],
)
def test_each_is_found_alone(objects: list[Object], told: str) -> None:
    (found,) = fails(objects)
    assert told in found.found


def test_a_metrics_server_that_is_new_is_waited_for() -> None:
    class Soon(Api):
        looks = 0

        def get(self, ref: Object) -> Object | None:
            self.looks += 1
            return api_service("True")

    api = Soon([api_service("False", "no endpoints")], (), ())
    (found,) = checks.metrics(api.state(), {}, api, 20)
    assert found.result == PASS and api.looks == 1


def test_a_metrics_api_of_another_name_is_none() -> None:
    custom = obj("apiregistration.k8s.io/v1", "APIService", "v1beta1.custom.metrics.k8s.io", spec={})
    (found,) = fails([*without(METRICS), custom])
    assert "nobody serves metrics.k8s.io" in found.found


def test_a_cluster_that_grows_from_nothing_has_its_driver_on_no_node_yet() -> None:
    assert fails(without(ON_A)) == []


def test_a_controller_that_another_chart_has_labelled_otherwise_counts() -> None:
    assert fails(without(CONTROLLER)) == []


def test_a_class_that_nobody_makes() -> None:
    storage, snapshots = fails(EKS, made=[])
    assert storage.found == "there is no StorageClass gp3, which redis ask for" and "one of gp2" in storage.needed
    assert "no VolumeSnapshotClass ebs" in snapshots.found


def test_a_class_that_is_there_counts_and_not_the_one_that_would_be_made() -> None:
    theirs = storage_class("gp3", "example.com/disks")
    assert fails([*without(DRIVER), theirs]) == []


def test_without_a_name_the_default_class_counts() -> None:
    (found,) = fails(EKS, volumes=[""])
    assert "no StorageClass is the default" in found.found
    assert fails([*EKS, storage_class("other", "example.com/disks", default=True)], volumes=[""]) == []
    assert fails(EKS, volumes=[""], made=[*MADE, *storage_classes([{"name": "gp3", "default": True}])]) == []


def test_an_old_driver_s_class_needs_the_new_driver() -> None:
    objects = [*EKS, storage_class("old", "kubernetes.io/aws-ebs")]
    assert fails(objects, volumes=["old"]) == []
    (found,) = fails([one for one in objects if one is not DRIVER], volumes=["old"])
    assert EBS in found.found


def test_what_nothing_asks_for_may_be_missing() -> None:
    nothing = {
        "platform_zones": [],
        "ingress_load_balancer": "none",
        "ingress_tls_source": "self_signed",
        "data_services_postgresql_enabled": False,
    }
    assert fails([METRICS], volumes=[], kinds=(), **nothing) == []


def test_googles_load_balancer_needs_googles_cluster() -> None:
    (found,) = fails(EKS, ingress_load_balancer="gce")
    assert "no node is Google's" in found.found
    for objects in ([*without(EKS_NODE), GKE_NODE], without(EKS_NODE)):
        assert fails(objects, ingress_load_balancer="gce", platform_zones=[]) == []


def test_a_zone_without_nodes() -> None:
    (found,) = fails(EKS, platform_zones=["us-east-1a", "us-east-1b", "us-east-1c"])
    assert "us-east-1b, us-east-1c, where no node is: nodes are in us-east-1a" in found.found
    (found,) = fails([*without(EKS_NODE), GKE_NODE])
    assert f"no node has the label {ZONE}" in found.found
    assert fails(without(EKS_NODE), platform_zones=["us-east-1b"]) == []


BUCKET = {"bucket": "mine", "secret": "bucket-keys"}
RECEIVER = {"name": "team", "type": "slack", "secret": {"name": "slack", "key": "url"}}
SECRETS = {
    "data_services_namespace": "data",
    "logging_namespace": "logs",
    "logging_enabled": True,
    "monitoring_namespace": "watch",
    "monitoring_enabled": True,
    "data_services_postgresql_backup": True,
}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"data_services_postgresql_backup_s3": BUCKET}, "no Secret data/bucket-keys"),
        ({"logging_backend": "elastic", "logging_elasticsearch_snapshot_s3": BUCKET}, "no Secret logs/bucket-keys"),
        ({"monitoring_receivers": [RECEIVER]}, "watch/slack is without url (monitoring_receivers, team)"),
        ({"data_services_postgresql_backup_s3": {**BUCKET, "key_type": "web-id"}}, ""),
        ({"data_services_postgresql_backup_s3": BUCKET, "data_services_postgresql_backup": False}, ""),
        (
            {
                "data_services_postgresql_backup_s3": BUCKET,
                "data_services_postgresql_backup": False,
                "data_services_redis_backup": True,
            },
            "no Secret data/bucket-keys",
        ),
        ({"logging_backend": "victorialogs", "logging_elasticsearch_snapshot_s3": BUCKET}, ""),
        ({"monitoring_receivers": [RECEIVER], "monitoring_enabled": False}, ""),
        ({"monitoring_receivers": [{"name": "team", "type": "webhook"}]}, ""),
    ],
)
def test_a_secret_that_is_the_users_to_make(values: dict[str, Any], told: str) -> None:
    found = fails([*EKS, secret("watch", "slack", other="eA==")], **{**SECRETS, **values})
    assert [one.check for one in found] == ["secrets"] * bool(told)
    assert told in "".join(one.found for one in found)


def test_secrets_that_are_there_are_told() -> None:
    keys = obj("v1", "Secret", "bucket-keys", "data", data={"key": "eA==", "key-secret": "eA=="})
    (found,) = look([*EKS, keys], **SECRETS, data_services_postgresql_backup_s3=BUCKET)["secrets"]
    assert (found.result, found.found) == (PASS, "data/bucket-keys")


def test_what_may_not_be_read_is_a_warning_beside_what_was_seen() -> None:
    (found,) = look(without(METRICS), forbidden=("APIService",))["metrics"]
    assert found.result == WARN and "no right to read APIService" in found.found
    missing, hidden = look(EKS, volumes=["gp3", "nobodys"], forbidden=("CSIDriver",))["storage"]
    assert (missing.result, hidden.result) == (FAIL, WARN) and "nobodys" in missing.found

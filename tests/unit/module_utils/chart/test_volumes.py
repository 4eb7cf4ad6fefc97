"""Volumes that a chart asks for: what grows, what is refused, and that a refusal changes nothing."""

from __future__ import annotations

import copy

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.chart import volumes as chart_volumes
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm import manifest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster

from ..stand_in import stands_in_for


@stands_in_for(Cluster)
class FakeCluster:
    """The API's part in it: what a class allows, that only bound claims grow, and that an orphaned set is gone."""

    def __init__(self, *objects: dict, orphans_for: int = 1) -> None:
        self.objects = {manifest.key_of(obj): copy.deepcopy(obj) for obj in objects}
        self.writes: list[str] = []
        self.forbidden: set[str] = set()
        self.orphans_for = orphans_for

    def get(self, ref: dict) -> dict | None:
        key = manifest.key_of(ref) if "metadata" in ref else _key(ref)
        found = self.objects.get(key)
        if found and found["metadata"].get("deletionTimestamp"):
            self.orphans_for -= 1
            if self.orphans_for < 0:
                return self.objects.pop(key) and None
        return copy.deepcopy(found)

    def get_many(self, refs: list[dict]) -> list[dict | None]:
        return [self.get(ref) for ref in refs]

    def list(self, api_version: str, kind: str, namespace: str | None = None) -> list[dict]:
        if kind in self.forbidden:
            raise PlatformError(f"no right to list {kind}", reason="forbidden")
        return [obj for key, obj in self.objects.items() if key[1] == kind and namespace in (None, key[2])]

    def patch(self, ref: dict, body: dict, field_manager: str, *, dry_run: bool = False) -> None:
        claim = self.objects[manifest.key_of(ref)]
        storage_class = self.objects.get(("storage.k8s.io", "StorageClass", "", claim["spec"]["storageClassName"]))
        if claim["status"]["phase"] != "Bound":
            raise PlatformError("invalid", found="spec: Forbidden: spec is immutable after creation", reason="invalid")
        if not (storage_class or {}).get("allowVolumeExpansion"):
            raise PlatformError("forbidden", found="the storageclass must support resize", reason="admission")
        if not dry_run:
            claim["spec"]["resources"]["requests"].update(body["spec"]["resources"]["requests"])
            self.writes.append(f"grow {ref['metadata']['name']}")

    def delete(self, ref: dict, propagation: str = "Background", *, uid: str | None = None) -> bool:
        assert (propagation, uid) == ("Orphan", "1")
        self.objects[manifest.key_of(ref)]["metadata"]["deletionTimestamp"] = "now"
        self.writes.append(f"delete {ref['metadata']['name']}")
        return True

    def apply(self, obj: dict, field_manager: str) -> None:
        assert manifest.key_of(obj) not in self.objects
        assert not {"uid", "resourceVersion", "managedFields"} & set(obj["metadata"]) and "status" not in obj
        self.objects[manifest.key_of(obj)] = copy.deepcopy(obj)
        self.writes.append(f"apply {obj['metadata']['name']}")


def _key(ref: dict) -> tuple[str, str, str, str]:
    return ref["apiVersion"].rpartition("/")[0], ref["kind"], ref["namespace"], ref["name"]


def claim_spec(size: str, storage_class: str | None) -> dict:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    return {**spec, "storageClassName": storage_class} if storage_class else spec


def claim(name: str, size: str, storage_class: str = "fast", phase: str = "Bound") -> dict:
    metadata = {"name": name, "namespace": "n"}
    spec = claim_spec(size, storage_class)
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata,
        "spec": spec,
        "status": {"phase": phase},
    }


def stateful_set(size: str, storage_class: str | None = None, release: str = "db", image: str = "db:1") -> dict:
    metadata = {"name": "db", "namespace": "n", "annotations": {"meta.helm.sh/release-name": release}}
    template = {"metadata": {"name": "data"}, "spec": claim_spec(size, storage_class)}
    spec = {"replicas": 2, "template": {"image": image}, "volumeClaimTemplates": [template]}
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": spec}


def installed(size: str, storage_class: str | None = None, release: str = "db") -> dict:
    live = stateful_set(size, storage_class, release)
    live["metadata"].update(uid="1", resourceVersion="7", managedFields=[])
    return {**live, "status": {"replicas": 2}}


def storage_class(name: str, expands: bool = True, default: bool = False) -> dict:
    annotations = {chart_volumes.DEFAULT_CLASS: "true"} if default else {}
    metadata = {"name": name, "annotations": annotations}
    made = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": metadata}
    return {**made, "allowVolumeExpansion": expands}


FAST, FIXED = storage_class("fast", default=True), storage_class("fixed", expands=False)
CLAIMS = claim("data-db-0", "1Gi"), claim("data-db-1", "1Gi"), claim("data-db-other-0", "9Gi")


def changes(cluster: FakeCluster, *rendered: dict) -> chart_volumes.Changes:
    return chart_volumes.changes(cluster, {manifest.key_of(obj, "n"): obj for obj in rendered}, "db")


def refused(cluster: FakeCluster, *rendered: dict) -> PlatformError:
    before = copy.deepcopy(cluster.objects)
    with pytest.raises(PlatformError) as caught:
        changes(cluster, *rendered)
    assert not cluster.writes and cluster.objects == before
    return caught.value


def sizes(cluster: FakeCluster) -> dict[str, str]:
    return {
        key[3]: obj["spec"]["resources"]["requests"]["storage"]
        for key, obj in cluster.objects.items()
        if key[1] == "PersistentVolumeClaim"
    }


def test_a_larger_size_grows_the_claims_and_makes_the_set_anew_around_its_pods() -> None:
    cluster = FakeCluster(FAST, installed("1Gi"), *CLAIMS)
    wanted = changes(cluster, stateful_set("2Gi", image="db:2"))
    assert not cluster.writes and len(wanted.described()) == 3
    chart_volumes.make(cluster, wanted, "helm")
    assert cluster.writes == ["grow data-db-0", "grow data-db-1", "delete db", "apply db"]
    assert sizes(cluster) == {"data-db-0": "2Gi", "data-db-1": "2Gi", "data-db-other-0": "9Gi"}
    now = cluster.objects["apps", "StatefulSet", "n", "db"]
    # What else the chart changes is Helm's to do: if that fails, the set is as it was.
    assert now["spec"]["template"] == {"image": "db:1"} and now["spec"]["replicas"] == 2
    assert not changes(cluster, stateful_set("2Gi", image="db:2"))


@pytest.mark.parametrize("size", ["1Gi", "1024Mi", "1073741824"])
def test_the_same_size_in_another_spelling_changes_nothing(size: str) -> None:
    assert not changes(FakeCluster(FAST, installed("1Gi"), *CLAIMS), stateful_set(size))


def test_a_run_that_ended_after_the_claims_goes_on_with_the_set() -> None:
    grown = claim("data-db-0", "2Gi"), claim("data-db-1", "2Gi")
    wanted = changes(FakeCluster(FAST, installed("1Gi"), *grown), stateful_set("2Gi"))
    assert not wanted.claims and len(wanted.sets) == 1


def test_a_run_that_ended_when_the_set_was_gone_leaves_it_to_helm() -> None:
    assert not changes(FakeCluster(FAST, claim("data-db-0", "2Gi")), stateful_set("2Gi"))


def test_a_claim_that_outlived_its_release_grows() -> None:
    wanted = changes(FakeCluster(FAST, claim("data-db-0", "1Gi")), stateful_set("2Gi"))
    assert [size for dummy, size in wanted.claims] == ["2Gi"] and not wanted.sets


def test_a_smaller_size_is_refused() -> None:
    error = refused(FakeCluster(FAST, installed("4Gi"), claim("data-db-0", "4Gi")), stateful_set("3Gi"))
    assert error.reason == "volume"
    assert "3Gi asked for; data-db-0 has 4Gi" in error.found and error.expected == "4Gi or more"
    assert "StatefulSet n/db, volume data" in error.where


def test_a_size_below_what_somebody_made_of_a_claim_is_refused() -> None:
    cluster = FakeCluster(FAST, installed("1Gi"), claim("data-db-0", "8Gi"), claim("data-db-1", "1Gi"))
    assert refused(cluster, stateful_set("2Gi")).expected == "8Gi or more"
    # The chart itself asks for nothing else than before: what somebody added stays.
    assert not changes(cluster, stateful_set("1Gi"))


def of_data(obj: dict, version: str) -> dict:
    obj["metadata"]["annotations"][chart_volumes.DATA_VERSION] = version
    return obj


@pytest.mark.parametrize(
    ("asked", "told", "advice"),
    [
        ("17", "an earlier version than", "upgrade them with playbooks/upgrade-postgresql.yml, or set"),
        ("14", "a later version than", "restore a backup that 14 has written"),
    ],
)
def test_data_of_another_version_are_refused(asked: str, told: str, advice: str) -> None:
    cluster = FakeCluster(FAST, of_data(installed("1Gi"), "15"), *CLAIMS)
    error = refused(cluster, of_data(stateful_set("1Gi"), asked))
    assert told in error.what and advice in error.fix
    assert error.where == "StatefulSet n/db" and error.found == f"data of 15; version {asked} asked for"


def test_data_of_the_same_version_none_and_no_word_of_it_are_taken() -> None:
    assert not changes(FakeCluster(FAST, of_data(installed("1Gi"), "15"), *CLAIMS), of_data(stateful_set("1Gi"), "15"))
    # A restore has deleted the claims.
    assert not changes(FakeCluster(FAST, of_data(installed("1Gi"), "17")), of_data(stateful_set("1Gi"), "15"))
    assert not changes(FakeCluster(FAST, installed("1Gi"), *CLAIMS), of_data(stateful_set("1Gi"), "15"))


def test_a_class_that_cannot_expand_is_said_before_anything_is_changed() -> None:
    fixed = [claim("data-db-0", "1Gi", "fast"), claim("data-db-1", "1Gi", "fixed")]
    error = refused(FakeCluster(FAST, FIXED, installed("1Gi"), *fixed), stateful_set("2Gi"))
    assert error.reason == "volume" and "must support resize" in error.found
    assert "data-db-1 has 1Gi" in error.found and "back to 1Gi" in error.fix


def test_a_claim_that_waits_for_its_first_pod_cannot_grow_and_may_be_deleted() -> None:
    error = refused(FakeCluster(FAST, claim("copies", "1Gi", phase="Pending")), claim("copies", "2Gi"))
    assert "delete the claim" in error.fix


def test_a_claim_of_the_chart_itself_grows_and_does_not_shrink() -> None:
    cluster = FakeCluster(FAST, claim("copies", "1Gi"))
    chart_volumes.make(cluster, changes(cluster, claim("copies", "2Gi")), "helm")
    assert sizes(cluster) == {"copies": "2Gi"}
    cluster.writes.clear()
    assert refused(cluster, claim("copies", "1Gi")).reason == "volume"


def test_another_class_is_refused() -> None:
    error = refused(FakeCluster(FAST, FIXED, installed("1Gi"), *CLAIMS), stateful_set("1Gi", "fixed"))
    assert error.reason == "volume" and "fixed asked for; data-db-0 has fast" in error.found


def test_a_set_that_no_longer_has_the_volume_goes_and_its_claims_stay() -> None:
    cluster = FakeCluster(FAST, installed("1Gi"), *CLAIMS)
    without = stateful_set("1Gi")
    del without["spec"]["volumeClaimTemplates"]
    chart_volumes.make(cluster, changes(cluster, without), "helm")
    # Helm makes it, with the pods that go with it.
    assert cluster.writes == ["delete db"] and len(sizes(cluster)) == 3


def test_naming_the_class_that_the_claims_have_makes_the_set_anew() -> None:
    cluster = FakeCluster(FAST, installed("1Gi"), *CLAIMS)
    wanted = changes(cluster, stateful_set("1Gi", "fast"))
    chart_volumes.make(cluster, wanted, "helm")
    [template] = cluster.objects["apps", "StatefulSet", "n", "db"]["spec"]["volumeClaimTemplates"]
    assert template["spec"]["storageClassName"] == "fast" and not changes(cluster, stateful_set("1Gi", "fast"))


@pytest.mark.parametrize("rendered", [stateful_set("1Gi", "nope"), claim("copies", "1Gi", "nope")])
def test_a_class_that_does_not_exist_is_said_before_the_install(rendered: dict) -> None:
    error = refused(FakeCluster(FAST, FIXED), rendered)
    assert error.reason == "storage" and error.found == "the classes fast, fixed"
    # Volumes that were made by hand need no class object.
    volume = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v"}}
    assert not changes(FakeCluster(FAST, {**volume, "spec": {"storageClassName": "nope"}}), rendered)


def test_no_default_class_is_said_where_the_chart_names_none() -> None:
    error = refused(FakeCluster(FIXED), stateful_set("1Gi"))
    assert "no StorageClass is the cluster's default" in error.what
    assert not changes(FakeCluster(FAST), stateful_set("1Gi"))


def test_without_the_right_to_look_the_cluster_itself_decides() -> None:
    cluster = FakeCluster(installed("1Gi"))
    cluster.forbidden = {"PersistentVolumeClaim", "StorageClass"}
    assert not changes(cluster, stateful_set("2Gi"), claim("copies", "1Gi", "nope"))


def test_a_set_whose_pods_wait_for_each_other_no_longer_is_made_anew_around_them() -> None:
    cluster = FakeCluster(FAST, *CLAIMS, installed("1Gi"))
    wanted = stateful_set("1Gi", image="db:2")
    wanted["spec"]["podManagementPolicy"] = "Parallel"
    found = changes(cluster, wanted)
    assert found.described() == ["StatefulSet n/db gets podManagementPolicy Parallel"]
    chart_volumes.make(cluster, found, "helm")
    assert cluster.writes == ["delete db", "apply db"]
    made = cluster.objects[manifest.key_of(wanted)]
    # The rest is for Helm to bring.
    assert made["spec"] == {**installed("1Gi")["spec"], "podManagementPolicy": "Parallel"}
    assert not changes(cluster, wanted)
    # What a chart leaves out is what the cluster fills in.
    live = installed("1Gi")
    live["spec"]["podManagementPolicy"] = "OrderedReady"
    assert not changes(FakeCluster(FAST, *CLAIMS, live), stateful_set("1Gi"))


def test_the_set_of_another_release_is_left_to_helm_to_refuse() -> None:
    assert not changes(FakeCluster(FAST, installed("1Gi", release="other")), stateful_set("2Gi")).sets


def test_several_refusals_are_told_at_once() -> None:
    cluster = FakeCluster(FAST, installed("4Gi"), claim("data-db-0", "4Gi"))
    error = refused(cluster, stateful_set("3Gi"), claim("copies", "1Gi", "nope"))
    assert "smaller" in str(error) and "nope" in str(error)


def test_a_set_that_does_not_go_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chart_volumes, "ORPHAN_SECONDS", 0.3)
    cluster = FakeCluster(FAST, installed("1Gi"), *CLAIMS, orphans_for=1000)
    with pytest.raises(PlatformError, match="does not go"):
        chart_volumes.make(cluster, changes(cluster, stateful_set("2Gi")), "helm")

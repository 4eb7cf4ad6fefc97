"""The CronJob postgresql-snapshot with the kinds and the controller of VolumeSnapshots, as a cluster has them.

There is no CSI driver: what it and its sidecar say of a snapshot is said by the test, and PostgreSQL's volume is one by
name. Everything else is real: the API with its schemas and rights, and the controller (snapshots/go.mod).
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from .checkout import helm_template, image, run, until

pytestmark = pytest.mark.cluster

PROGRAM = Path(__file__).resolve().parent / "snapshots"
CONTROLLER = "github.com/kubernetes-csi/external-snapshotter/v8/cmd/snapshot-controller"
KINDS = "github.com/kubernetes-csi/external-snapshotter/client/v8"
DRIVER = "test.csi.example.com"


class Snapshots:
    """The CronJob in a namespace with a primary that is one by name."""

    def __init__(self, kubeconfig: str, namespace: str) -> None:
        self.kubeconfig, self.namespace = kubeconfig, namespace
        self.storage_class = namespace

    def kubectl(self, *arguments: str | Path, **options: Any) -> str:
        command = ("kubectl", "--kubeconfig", self.kubeconfig, "--namespace", self.namespace)
        return run(*command, *arguments, **options).stdout

    def apply(self, *objects: dict[str, Any]) -> None:
        self.kubectl("apply", "--filename=-", given=yaml.safe_dump_all(objects))

    def items(self, kind: str) -> list[dict[str, Any]]:
        return json.loads(self.kubectl("get", kind, "--output=json"))["items"]

    def names(self) -> list[str]:
        return [snapshot["metadata"]["name"] for snapshot in self.items("volumesnapshots")]

    def primary(self, name: str) -> None:
        endpoints = {"apiVersion": "v1", "kind": "Endpoints"}
        self.apply({**endpoints, "metadata": {"name": "postgresql-primary", "annotations": {"leader": name}}})

    def start(self, name: str, **environment: str) -> None:
        """A Job of the CronJob, with another environment."""
        job = json.loads(
            self.kubectl("create", "job", name, "--from=cronjob/postgresql-snapshot", "--dry-run=client", "-o", "json")
        )
        [container] = job["spec"]["template"]["spec"]["containers"]
        container["env"] = [
            {"name": variable["name"], "value": environment[variable["name"]]}
            if variable["name"] in environment
            else variable
            for variable in container["env"]
        ]
        self.apply(job)

    def end(self, name: str, condition: str) -> str:
        """What it printed, once it is Complete or Failed."""
        self.kubectl("wait", f"job/{name}", f"--for=condition={condition}", "--timeout=120s")
        return self.kubectl("logs", f"job/{name}")

    def driver_makes_it(self) -> None:
        """What the sidecar of a driver writes when the snapshot is there."""
        waiting: list[dict[str, Any]] = []

        def is_asked() -> bool:
            found = self.items("volumesnapshotcontents")
            waiting[:] = [content for content in found if not content.get("status")]
            return bool(waiting)

        until(is_asked)
        [content] = waiting
        assert content["spec"]["source"] == {"volumeHandle": "volume"} and content["spec"]["driver"] == DRIVER
        made = {"snapshotHandle": "handle", "creationTime": time.time_ns(), "restoreSize": 1 << 30}
        status = {**made, "readyToUse": True}
        patch = ("--subresource=status", "--type=merge", "--patch", json.dumps({"status": status}))
        self.kubectl("patch", "volumesnapshotcontent", content["metadata"]["name"], *patch)

    def driver_forgets(self) -> None:
        """What it does for contents that are deleted: the snapshot is gone, and so is what held the object."""
        for content in self.items("volumesnapshotcontents"):
            if content["metadata"].get("deletionTimestamp"):
                patch = ("--type=merge", "--patch", '{"metadata": {"finalizers": null}}')
                self.kubectl("patch", "volumesnapshotcontent", content["metadata"]["name"], *patch, check=False)


@pytest.fixture(scope="module")
def snapshots(kubeconfig: str, own_namespace: str) -> Iterator[Snapshots]:
    made = Snapshots(kubeconfig, own_namespace)
    if "volumesnapshots" in made.kubectl("api-resources", "--api-group=snapshot.storage.k8s.io", "--output=name"):
        pytest.skip("the cluster has VolumeSnapshots already")
    images = {name: {"image": image("postgresql")} for name in ("postgresql", "pgbouncer", "repository")}
    values = {**images, "snapshot": {"class": made.storage_class}}
    made.kubectl("apply", "--filename=-", given=helm_template("postgresql", own_namespace, values, "snapshot"))
    claim = {"accessModes": ["ReadWriteOnce"], "storageClassName": "", "resources": {"requests": {"storage": "1Gi"}}}
    made.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": own_namespace},
            "spec": {
                "capacity": {"storage": "1Gi"},
                "accessModes": claim["accessModes"],
                "claimRef": {"namespace": own_namespace, "name": "data-postgresql-0"},
                "csi": {"driver": DRIVER, "volumeHandle": "volume"},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data-postgresql-0"},
            "spec": {**claim, "volumeName": own_namespace},
        },
    )
    try:
        yield made
    finally:
        made.kubectl("delete", "pvc/data-postgresql-0", f"pv/{own_namespace}", "--wait=false", check=False)


@pytest.fixture(scope="module")
def controller(snapshots: Snapshots, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The kinds, and the controller that a cluster's administrator installs once for all drivers."""
    folder = tmp_path_factory.mktemp("snapshots")
    program, crds = folder / "snapshot-controller", folder / "crds"
    build = ("go", "-C", PROGRAM, "build", "-trimpath", "-ldflags", "-s -w", "-o", program, CONTROLLER)
    run("env", "CGO_ENABLED=0", *build, seconds=1800)
    source = run("go", "-C", PROGRAM, "list", "-m", "-f", "{{.Dir}}", KINDS).stdout.strip()
    crds.mkdir()
    for path in Path(source, "config", "crd").glob("snapshot.storage.k8s.io_*.yaml"):
        (crds / path.name).write_bytes(path.read_bytes())
    snapshots.kubectl("apply", "--server-side", "--filename", crds)
    try:
        snapshots.kubectl("wait", "--for=condition=Established", "--timeout=60s", "--filename", crds)
        about = {"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotClass"}
        name = {"metadata": {"name": snapshots.storage_class}}
        snapshots.apply({**about, **name, "driver": DRIVER, "deletionPolicy": "Delete"})
        with (folder / "log").open("w", encoding="utf-8") as log:
            process = subprocess.Popen([program, "--kubeconfig", snapshots.kubeconfig], stdout=log, stderr=log)
        try:
            yield
            assert process.poll() is None, (folder / "log").read_text(encoding="utf-8")
            snapshots.kubectl("delete", "volumesnapshots", "--all", "--wait=false")

            def is_gone() -> bool:
                snapshots.driver_forgets()
                return not snapshots.names()

            until(is_gone)
        finally:
            process.terminate()
            process.wait(30)
    finally:
        snapshots.kubectl("delete", "--ignore-not-found", "--timeout=60s", "--filename", crds, check=False)


def test_a_cluster_without_the_kinds_is_told_so(snapshots: Snapshots) -> None:
    snapshots.primary("postgresql-0")
    snapshots.start("unknown")
    assert "the cluster has no VolumeSnapshots: install the CSI driver's" in snapshots.end("unknown", "Failed")


def test_a_snapshot_is_made_and_those_that_are_too_old_go(snapshots: Snapshots, controller: None) -> None:
    snapshots.primary("postgresql-0")
    snapshots.start("first")
    snapshots.driver_makes_it()
    said = snapshots.end("first", "Complete")
    [first] = snapshots.names()
    assert f"made {first} of data-postgresql-0, 1Gi" in said and "deleted" not in said

    # Of another's, without the labels of ours.
    other = {**snapshots.items("volumesnapshots")[0], "metadata": {"name": "of-somebody-else"}}
    other.pop("status")
    snapshots.apply(other)
    snapshots.driver_makes_it()

    snapshots.start("second", RETENTION_DAYS="0")
    snapshots.driver_makes_it()
    said = snapshots.end("second", "Complete")
    assert said.count("deleted") == 1 and f"deleted {first}" in said

    def is_gone() -> bool:
        snapshots.driver_forgets()
        return first not in snapshots.names()

    until(is_gone)
    assert len(snapshots.names()) == 2 and "of-somebody-else" in snapshots.names()


def test_what_cannot_be_made_says_why_and_older_ones_stay(snapshots: Snapshots, controller: None) -> None:
    before = snapshots.names()
    snapshots.primary("postgresql-1")  # It has no claim.
    snapshots.start("failed", READY_SECONDS="10", RETENTION_DAYS="0")
    said = snapshots.end("failed", "Failed")
    assert "of data-postgresql-1 is not ready after 10.0 s: " in said
    assert "cannot get claim from snapshot; older ones stay" in said
    assert set(before) < set(snapshots.names())

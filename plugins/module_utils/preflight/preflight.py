# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The logic of the module ``preflight``: what only the cluster can have, looked for before anything is written.

What is missing would be noticed without it too: as a volume that stays pending, a load balancer that never gets a
name, a pod that waits for a Secret, each after the whole time that a rollout may take.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import (
    concurrently,
    wait_until,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import (
    Cluster,
    auth_argument_spec,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.workloads import condition_of

_NAMED = {
    "variable": {"type": "str", "required": True},
    "name": {"type": "str", "required": True},
    "wanted": {"type": "bool", "default": True},
}
ARGUMENT_SPEC: dict[str, Any] = {
    **auth_argument_spec(),
    "storage_classes": {"type": "list", "elements": "dict", "default": [], "options": _NAMED},
    "snapshot_classes": {"type": "list", "elements": "dict", "default": [], "options": _NAMED},
    "made": {"type": "list", "elements": "dict", "default": []},
    "zones": {"type": "list", "elements": "str", "default": []},
    "resource_metrics": {"type": "bool", "default": True},
    "load_balancer": {"type": "str", "choices": ["none", "nlb", "alb", "gce"], "default": "none"},
    "secrets": {
        "type": "list",
        "elements": "dict",
        "default": [],
        # Ansible takes the name for a password's: it is where one is.
        "no_log": False,
        "options": {
            **_NAMED,
            "namespace": {"type": "str", "required": True},
            "keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
        },
    },
    "wait_seconds": {"type": "int", "default": 60},
    "ignore": {
        "type": "list",
        "elements": "str",
        "choices": ["zones", "storage", "snapshots", "metrics", "load_balancer", "secrets"],
        "default": [],
    },
}

ZONE_LABEL = "topology.kubernetes.io/zone"
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"

DRIVERS = {
    # Kubernetes hands the volumes of its old drivers to these: https://kubernetes.io/docs/concepts/storage/volumes/#csi-migration
    "kubernetes.io/aws-ebs": "ebs.csi.aws.com",
    "kubernetes.io/gce-pd": "pd.csi.storage.gke.io",
    "kubernetes.io/azure-disk": "disk.csi.azure.com",
}
ADVICE = {
    "ebs.csi.aws.com": "install the EKS add-on aws-ebs-csi-driver with a role that may make volumes",
    "pd.csi.storage.gke.io": "turn the cluster's add-on GcePersistentDiskCsiDriver on",
    "disk.csi.azure.com": "turn the cluster's disk CSI driver on",
}
"""The drivers of the clouds, by name. Others need not be announced by a CSIDriver, so nothing is said of them."""

SNAPSHOTS = "snapshot.storage.k8s.io/v1"
METRICS = "v1beta1.metrics.k8s.io"
AWS_CONTROLLER = {"apiVersion": "elbv2.k8s.aws/v1beta1", "kind": "TargetGroupBinding"}
AWS_CONTROLLER_LABEL = "app.kubernetes.io/name=aws-load-balancer-controller"


class Check(NamedTuple):
    """One subject: what it finds wrong, each a PlatformError."""

    name: str
    find: Callable[[Cluster, Object], Iterator[PlatformError]]


def run(
    params: Object,
    check_mode: bool,
    diff: bool,
    progress: Callable[[str], None] | None = None,
    connect: Callable[[Object], Cluster] | None = None,
) -> Object:
    """Look at the cluster in ``params`` (the validated :data:`ARGUMENT_SPEC`). Nothing is changed."""
    cluster = (connect or Cluster)(params)
    answers = concurrently(lambda check: list(check.find(cluster, params)), CHECKS)
    findings, errors, warnings = [], [], []
    for check, answer in zip(CHECKS, answers, strict=True):
        if isinstance(answer, PlatformError):
            if answer.reason != "forbidden":
                raise answer
            warnings.append(f"preflight: {check.name} could not be looked at: {answer}")
            continue
        for error in answer:
            ignored = check.name in params["ignore"]
            findings.append({"check": check.name, "state": "ignored" if ignored else "fail", **error.parts()})
            if ignored:
                warnings.append(f"preflight: ignored ({check.name}): {error}")
            else:
                errors.append(error)
    if errors:
        raise PlatformError.of_many("the cluster lacks what the inventory needs, and nothing was changed", errors)
    return {"changed": False, "findings": findings, "warnings": warnings}


def _missing(what: str, where: str, found: str, expected: str, fix: str) -> PlatformError:
    return PlatformError(what, where=where, found=found, expected=expected, fix=fix, reason="missing")


def _wanted(params: Object, name: str) -> list[Object]:
    return [entry for entry in params[name] if entry["wanted"]]


def _made(params: Object, kind: str) -> dict[str, Object]:
    return {obj["metadata"]["name"]: obj for obj in params["made"] if obj["kind"] == kind}


def _zones(cluster: Cluster, params: Object) -> Iterator[PlatformError]:
    if not params["zones"]:
        return
    nodes = cluster.list("v1", "Node")
    found = {str((node["metadata"].get("labels") or {}).get(ZONE_LABEL, "")) for node in nodes} - {""}
    missing = [zone for zone in params["zones"] if zone not in found]
    # A cluster that grows from nothing has no nodes yet.
    if nodes and missing:
        yield PlatformError(
            f"no node is in {'zone' if len(missing) == 1 else 'zones'} {', '.join(missing)}",
            where="platform_zones",
            found=f"nodes in {', '.join(sorted(found))}" if found else f"no node has the label {ZONE_LABEL}",
            expected="a node in each zone that is named, as pods with data are evenly over all of them",
            fix="correct platform_zones, or add nodes there",
            reason="zones",
        )


def _storage(cluster: Cluster, params: Object) -> Iterator[PlatformError]:
    wanted = _wanted(params, "storage_classes")
    if not wanted:
        return
    live = {obj["metadata"]["name"]: obj for obj in cluster.list("storage.k8s.io/v1", "StorageClass")}
    known = {**_made(params, "StorageClass"), **live}
    drivers: dict[str, str] = {}
    for variable, name in sorted({(entry["variable"], entry["name"]) for entry in wanted}):
        found = known.get(name) if name else _default(known)
        if found is None:
            yield _missing(
                f"the StorageClass {name} does not exist" if name else "no StorageClass is the cluster's default",
                variable,
                f"the classes {', '.join(sorted(live))}" if live else "no StorageClass at all",
                "one that exists, or that foundation_storage_classes makes",
                f"name one of the cluster's classes in {variable}, or name it in foundation_storage_classes",
            )
        else:
            provisioner = str(found.get("provisioner"))
            drivers.setdefault(DRIVERS.get(provisioner, provisioner), f"{variable}, {found['metadata']['name']}")
    for driver, where in sorted(drivers.items()):
        if driver in ADVICE:
            yield from _driver(cluster, driver, where)


def _default(classes: dict[str, Object]) -> Object | None:
    for obj in classes.values():
        if (obj["metadata"].get("annotations") or {}).get(DEFAULT_CLASS) == "true":
            return obj
    return None


def _driver(cluster: Cluster, driver: str, where: str) -> Iterator[PlatformError]:
    found = ""
    if cluster.get({"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "name": driver}) is None:
        found = f"no CSIDriver {driver}"
    else:
        # A cluster that grows from nothing has no nodes yet.
        nodes = cluster.list("storage.k8s.io/v1", "CSINode")
        with_it = [
            node for node in nodes if any(entry["name"] == driver for entry in node["spec"].get("drivers") or [])
        ]
        if nodes and not with_it:
            found = f"a CSIDriver {driver}, and it on none of {len(nodes)} nodes"
    if found:
        yield _missing(
            f"nobody makes volumes: the CSI driver {driver} is missing", where, found, "the driver on the nodes",
            ADVICE[driver],
        )  # fmt: skip


def _snapshots(cluster: Cluster, params: Object) -> Iterator[PlatformError]:
    wanted = [entry for entry in _wanted(params, "snapshot_classes") if entry["name"]]
    if not wanted:
        return
    if not cluster.knows(SNAPSHOTS, "VolumeSnapshotClass"):
        yield _missing(
            "the cluster knows no VolumeSnapshots",
            ", ".join(entry["variable"] for entry in wanted),
            f"{SNAPSHOTS} is not served",
            "the snapshot controller and its definitions",
            "install them (EKS: the add-on snapshot-controller), or set the variable to an empty text",
        )
        return
    known = {obj["metadata"]["name"] for obj in cluster.list(SNAPSHOTS, "VolumeSnapshotClass")}
    for entry in wanted:
        if entry["name"] not in known | _made(params, "VolumeSnapshotClass").keys():
            yield _missing(
                f"the VolumeSnapshotClass {entry['name']} does not exist",
                entry["variable"],
                f"the classes {', '.join(sorted(known))}" if known else "no VolumeSnapshotClass at all",
                "one that exists, or that foundation_snapshot_classes makes",
                f"name one of the cluster's classes in {entry['variable']}, or name it in foundation_snapshot_classes",
            )


def _metrics(cluster: Cluster, params: Object) -> Iterator[PlatformError]:
    if not params["resource_metrics"]:
        return

    def look() -> Object | None:
        return cluster.get({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "name": METRICS})

    def settled(service: Object | None) -> bool:
        return service is None or (condition_of(service, "Available") or {}).get("status") == "True"

    # A metrics-server that was installed a moment ago answers once it has asked every node.
    service = wait_until(look, params["wait_seconds"], 1, settled)
    available = condition_of(service or {}, "Available") or {}
    if service is not None and settled(service):
        return
    said = ": ".join(str(available[key]) for key in ("reason", "message") if available.get(key))
    yield _missing(
        "nobody measures pods, so nothing is scaled by its load",
        f"APIService {METRICS}",
        "it does not exist" if service is None else f"it does not answer ({said or 'no condition Available'})",
        "the resource metrics API, which metrics-server serves",
        "install metrics-server (EKS: the add-on metrics-server), or see why its pods are not ready"
        if service is None
        else "see why the pods behind it are not ready (kubectl -n kube-system get pods)",
    )


def _load_balancer(cluster: Cluster, params: Object) -> Iterator[PlatformError]:
    kind = params["load_balancer"]
    where = f"ingress_load_balancer: {kind}"
    if kind in ("nlb", "alb"):
        yield from _aws_controller(cluster, where)
    if kind == "gce":
        nodes = [str((node.get("spec") or {}).get("providerID", "")) for node in cluster.list("v1", "Node")]
        if nodes and not any(provider.startswith("gce://") for provider in nodes):
            yield _missing(
                "the load balancer is Google's, and the cluster is not", where,
                f"no node of gce:// among {len(nodes)}", "a cluster of GKE",
                "check the context (platform_context), or set ingress_load_balancer to what this cluster has",
            )  # fmt: skip


def _aws_controller(cluster: Cluster, where: str) -> Iterator[PlatformError]:
    found = ""
    if not cluster.knows(AWS_CONTROLLER["apiVersion"], AWS_CONTROLLER["kind"]):
        found = f"{AWS_CONTROLLER['apiVersion']} {AWS_CONTROLLER['kind']} is not served"
    else:
        running = cluster.list("apps/v1", "Deployment", label_selector=AWS_CONTROLLER_LABEL)
        if running and not any((obj.get("status") or {}).get("availableReplicas") for obj in running):
            names = ", ".join(f"{obj['metadata']['namespace']}/{obj['metadata']['name']}" for obj in running)
            found = f"its Deployment {names} has no pod that is available"
    if found:
        yield _missing(
            "nobody makes the load balancer: the AWS Load Balancer Controller is missing",
            where,
            found,
            "the controller, running",
            "install it with a role that may make load balancers (chart eks/aws-load-balancer-controller), or set "
            "ingress_load_balancer to none and name what stands before the edge by ingress_service_type",
        )


def _secrets(cluster: Cluster, params: Object) -> Iterator[PlatformError]:
    for entry in _wanted(params, "secrets"):
        place = {"namespace": entry["namespace"], "name": entry["name"]}
        secret = cluster.get({"apiVersion": "v1", "kind": "Secret", **place})
        has = (secret or {}).get("data") or {}
        missing = [key for key in entry["keys"] if not has.get(key)]
        if secret is not None and not missing:
            continue
        yield _missing(
            "a Secret that is yours to make is missing" if secret is None else "a Secret lacks what belongs into it",
            entry["variable"],
            f"no Secret {entry['namespace']}/{entry['name']}" if secret is None else f"no {' and no '.join(missing)}",
            f"Secret {entry['namespace']}/{entry['name']} with {', '.join(entry['keys'])}",
            f"kubectl create namespace {entry['namespace']}, where it is not there yet; then kubectl -n "
            f"{entry['namespace']} create secret {_kind_of(entry['keys'])} {entry['name']} and what it takes",
        )


def _kind_of(keys: list[str]) -> str:
    return "tls" if set(keys) == {"tls.crt", "tls.key"} else "generic"


CHECKS = (
    Check("zones", _zones),
    Check("storage", _storage),
    Check("snapshots", _snapshots),
    Check("metrics", _metrics),
    Check("load_balancer", _load_balancer),
    Check("secrets", _secrets),
)

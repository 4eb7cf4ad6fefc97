# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What somebody in a pod or in the cloud would do, done here, because nobody runs in simulated pods: volumes are made
where their pod goes, load balancers get an address, and the operators of the bundle make their StatefulSets.
"""

from __future__ import annotations

import threading
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.capacity.workloads import RELOADER, ZONE
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import (
    MERGE_PATCH,
    Cluster,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rehearse.live import Told

FIELD_MANAGER = "lambda-microservice-platform-rehearsal"
SELECTED = "volume.kubernetes.io/selected-node"
OPERATED = (("monitoring.coreos.com/v1", "Prometheus"), ("monitoring.coreos.com/v1", "Alertmanager"))
"""The kinds whose operator is stood in for."""

_SECURE = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
_GRACE_SECONDS = {"prometheus": 600, "alertmanager": 120}
"""As the operator sets them (pkg/prometheus/server/statefulset.go, pkg/alertmanager/operator.go of v0.85.0)."""


class StandIns:
    """One for a cluster. Its methods are called with what comes or changes."""

    def __init__(self, cluster: Cluster, cloud: dict[str, Any]) -> None:
        self.cluster = cluster
        self.drivers = set(cloud["csi_drivers"])
        self._bound: set[str] = set()
        self._lock = threading.Lock()

    def told(self) -> dict[str, Told]:
        """By kind, as Live takes them."""
        return {
            "PersistentVolumeClaim": self.claim,
            "Service": self.balanced,
            "Ingress": self.balanced,
            "Prometheus": self.operated,
            "Alertmanager": self.operated,
        }

    def claim(self, claim: Object) -> None:
        """A claim whose pod the scheduler has found a node for gets a volume in that node's zone."""
        metadata, spec = claim["metadata"], claim["spec"]
        selected = (metadata.get("annotations") or {}).get(SELECTED)
        if not selected or spec.get("volumeName") or metadata.get("deletionTimestamp"):
            return
        with self._lock:
            if metadata["uid"] in self._bound:
                return
        node = self.cluster.get({"apiVersion": "v1", "kind": "Node", "name": selected})
        if node is None:
            # Gone meanwhile: as a provisioner does, the scheduler is asked for another.
            body = {"metadata": {"annotations": {SELECTED: None}}}
            self.cluster.patch(claim, body, FIELD_MANAGER)
            return
        reference = {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "name": spec.get("storageClassName") or "",
        }
        provisioner = ((self.cluster.get(reference) if reference["name"] else None) or {}).get("provisioner")
        if provisioner not in self.drivers:
            return  # nobody makes such volumes in this cloud, and the pod waits
        self.cluster.apply(volume(claim, str(provisioner), node["metadata"]["labels"][ZONE]), FIELD_MANAGER)
        with self._lock:
            self._bound.add(metadata["uid"])

    def balanced(self, obj: Object) -> None:
        """A Service or an Ingress that asks for a load balancer has one."""
        if obj["kind"] == "Service" and obj["spec"].get("type") != "LoadBalancer":
            return
        if ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress"):
            return
        metadata = obj["metadata"]
        host = f"{metadata['name']}.{metadata['namespace']}.rehearsal.invalid"
        self.cluster.request(
            "PATCH",
            self.cluster.path(obj) + "/status",
            body={"status": {"loadBalancer": {"ingress": [{"hostname": host}]}}},
            content_type=MERGE_PATCH,
            about=obj,
        )

    def operated(self, obj: Object) -> None:
        """The StatefulSet that prometheus-operator would make."""
        self.cluster.apply(stateful_set(obj), FIELD_MANAGER)


def volume(claim: Object, driver: str, zone: str) -> Object:
    """A volume for the claim alone, in the zone."""
    metadata, spec = claim["metadata"], claim["spec"]
    name = f"pvc-{metadata['uid']}"
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": driver}},
        "spec": {
            "accessModes": spec["accessModes"],
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
            },
            "csi": {"driver": driver, "volumeHandle": name},
            "nodeAffinity": {
                "required": {
                    "nodeSelectorTerms": [{"matchExpressions": [{"key": ZONE, "operator": "In", "values": [zone]}]}]
                }
            },
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": spec.get("storageClassName"),
        },
    }


def stateful_set(obj: Object) -> Object:
    """What prometheus-operator 0.85 makes of a Prometheus or an Alertmanager, as far as scheduler, quota, admission and
    budgets see it.
    """
    program = obj["kind"].lower()
    metadata, spec = obj["metadata"], obj["spec"]
    labels = {
        "app.kubernetes.io/name": program,
        "app.kubernetes.io/instance": metadata["name"],
        "app.kubernetes.io/managed-by": "prometheus-operator",
        program: metadata["name"],
    }
    name = f"{program}-{metadata['name']}"
    reloader = {
        "image": "example.com/prometheus-config-reloader:simulated",
        "resources": RELOADER,
        "securityContext": _SECURE,
    }
    own = {
        "name": program,
        "image": spec.get("image") or f"example.com/{program}:simulated",
        "resources": spec.get("resources") or {},
        "securityContext": _SECURE,
    }
    claim = (spec.get("storage") or {}).get("volumeClaimTemplate")
    pod = {
        "containers": [own, {"name": "config-reloader", **reloader}, *(spec.get("containers") or [])],
        "initContainers": [{"name": "init-config-reloader", **reloader}],
        "terminationGracePeriodSeconds": _GRACE_SECONDS[program],
        **{
            key: spec[key]
            for key in (
                *("priorityClassName", "topologySpreadConstraints", "affinity", "nodeSelector", "tolerations"),
                *("securityContext", "serviceAccountName", "automountServiceAccountToken"),
            )
            if key in spec
        },
    }
    made: Object = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": {**labels, **(metadata.get("labels") or {})},
            "ownerReferences": [
                {
                    "apiVersion": obj["apiVersion"],
                    "kind": obj["kind"],
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {
            "replicas": 1 if spec.get("replicas") is None else spec["replicas"],
            "serviceName": f"{program}-operated",
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": {**((spec.get("podMetadata") or {}).get("labels") or {}), **labels}},
                "spec": pod,
            },
        },
    }
    if claim:
        made["spec"]["volumeClaimTemplates"] = [{"metadata": {"name": f"{name}-db"}, "spec": claim["spec"]}]
    return made

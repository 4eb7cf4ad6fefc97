# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cloud's cluster brings with it: the objects of a file in roles/platform/files/rehearsal."""

from __future__ import annotations

from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object

NAMESPACE = "kube-system"
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
PRIORITIES = {"daemon_sets": "system-node-critical", "deployments": "system-cluster-critical"}


def definitions(cloud: dict[str, Any]) -> list[Object]:
    """CustomResourceDefinitions that the cloud's add-ons bring. Their objects may hold anything."""
    return [
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {
                "name": f"{one['plural']}.{one['group']}",
                # Which the API server asks for below k8s.io.
                "annotations": {"api-approved.kubernetes.io": "unapproved, a stand-in"},
            },
            "spec": {
                "group": one["group"],
                "scope": "Namespaced" if one.get("namespaced") else "Cluster",
                "names": {"kind": one["kind"], "plural": one["plural"], "singular": one["kind"].lower()},
                "versions": [
                    {
                        "name": one["version"],
                        "served": True,
                        "storage": True,
                        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
                    }
                ],
            },
        }
        for one in cloud["definitions"]
    ]


def objects(cloud: dict[str, Any]) -> list[Object]:
    """The cloud's own pods, CSI drivers, StorageClasses and settings."""
    made: list[Object] = []
    for name, one in cloud["daemon_sets"].items():
        made.append(
            {
                "apiVersion": "apps/v1",
                "kind": "DaemonSet",
                "metadata": _metadata(name),
                "spec": {"selector": _selector(name), "template": _template(name, one, "daemon_sets")},
            }
        )
    for name, one in cloud["deployments"].items():
        made.append(
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": _metadata(name),
                "spec": {
                    "replicas": one["replicas"],
                    "selector": _selector(name),
                    "template": _template(name, one, "deployments"),
                },
            }
        )
    for name in cloud["csi_drivers"]:
        # Nobody attaches: a pod would wait for it.
        spec = {"attachRequired": False, "podInfoOnMount": False, "volumeLifecycleModes": ["Persistent"]}
        made.append({"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": name}, "spec": spec})
    for name, one in cloud["storage_classes"].items():
        made.append(
            {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "StorageClass",
                "metadata": {
                    "name": name,
                    "annotations": {DEFAULT_CLASS: "true"} if one.get("default") else {},
                },
                "provisioner": one["provisioner"],
                "volumeBindingMode": "WaitForFirstConsumer",
                "allowVolumeExpansion": True,
            }
        )
    for name, data in cloud["config_maps"].items():
        made.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": _metadata(name), "data": data})
    return made


def _metadata(name: str) -> dict[str, Any]:
    return {"name": name, "namespace": NAMESPACE, "labels": {"app.kubernetes.io/name": name}}


def _selector(name: str) -> dict[str, Any]:
    return {"matchLabels": {"app.kubernetes.io/name": name}}


def _template(name: str, one: dict[str, Any], what: str) -> dict[str, Any]:
    requests = {key: str(one[key]) for key in ("cpu", "memory") if key in one}
    spec: dict[str, Any] = {
        "priorityClassName": PRIORITIES[what],
        "containers": [{"name": name, "image": f"example.com/{name}:simulated", "resources": {"requests": requests}}],
    }
    if what == "daemon_sets":
        spec["tolerations"] = [{"operator": "Exists"}]
    else:
        spec["topologySpreadConstraints"] = [
            {
                "topologyKey": "topology.kubernetes.io/zone",
                "maxSkew": 1,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": _selector(name),
            }
        ]
    return {"metadata": {"labels": {"app.kubernetes.io/name": name}}, "spec": spec}

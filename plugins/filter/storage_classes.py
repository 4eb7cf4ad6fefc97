# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: storage_classes
short_description: StorageClasses and VolumeSnapshotClasses, the clouds' by their names alone
version_added: 0.1.0
description:
  - Makes the objects of StorageClasses and of VolumeSnapshotClasses. Volumes are made in the zone of the pod that takes
    them first (C(WaitForFirstConsumer)), and can grow.
  - V(gp3) is Amazon's, by the EBS CSI driver, encrypted; V(premium-rwo) is Google's SSD, by the driver of persistent
    disks, which Google encrypts always.
author:
  - The lambda_microservice.platform team
positional: _input, snapshot_classes
options:
  _input:
    description:
      - StorageClasses, each with C(name), and as needed C(provisioner), C(parameters), C(reclaim_policy) (V(Delete))
        and C(default) (whether it is the cluster's default).
      - C(parameters) are laid over those of a class that is known.
    type: list
    elements: dict
    required: true
  snapshot_classes:
    description: VolumeSnapshotClasses, each with C(name), C(driver), and as needed C(parameters) and C(deletion_policy)
      (V(Delete)).
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
- name: Show the class gp3 with a key of one's own
  ansible.builtin.debug:
    msg: >-
      {{ [{'name': 'gp3', 'parameters': {'kmsKeyId': 'arn:aws:kms:us-east-1:111122223333:key/example'}}]
         | lambda_microservice.platform.storage_classes }}
"""

RETURN = r"""
_value:
  description: The objects.
  type: list
  elements: dict
"""

KNOWN: dict[str, dict[str, Any]] = {
    # https://github.com/kubernetes-sigs/aws-ebs-csi-driver/blob/master/docs/parameters.md
    "gp3": {"provisioner": "ebs.csi.aws.com", "parameters": {"type": "gp3", "encrypted": "true"}},
    # https://cloud.google.com/kubernetes-engine/docs/how-to/persistent-volumes/gce-pd-csi-driver
    "premium-rwo": {"provisioner": "pd.csi.storage.gke.io", "parameters": {"type": "pd-ssd"}},
}

LABELS = {
    "app.kubernetes.io/part-of": "lambda-microservice-platform",
    "app.kubernetes.io/component": "storage",
}


def _provisioner(entry: dict[str, Any]) -> str:
    known = KNOWN.get(entry["name"], {}).get("provisioner")
    found = entry.get("provisioner") or known
    if not found:
        raise AnsibleFilterError(
            f"storage_classes: nobody knows who makes the volumes of the class {entry['name']}. Found: no provisioner. "
            f"Expected: a CSI driver's name, or one of the classes that are known, {' and '.join(KNOWN)}. "
            "To do: name the provisioner in foundation_storage_classes."
        )
    return str(found)


def _parameters(entry: dict[str, Any]) -> dict[str, str]:
    known = KNOWN.get(entry["name"], {})
    # Of another driver, its parameters mean nothing.
    own = known.get("parameters", {}) if entry.get("provisioner") in (None, "", known.get("provisioner")) else {}
    # An object's parameters are texts, and YAML makes `true` of what Kubernetes wants as "true".
    given = entry.get("parameters") or {}
    return {**own, **{str(key): _text(value) for key, value in given.items()}}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _metadata(name: Any, kind: str, default: bool) -> dict[str, Any]:
    annotation = {"annotations": {f"{kind}.kubernetes.io/is-default-class": "true"}} if default else {}
    return {"name": str(name), "labels": dict(LABELS), **annotation}


def storage_classes(classes: Any, snapshot_classes: Any = ()) -> list[dict[str, Any]]:
    """The objects; see DOCUMENTATION."""
    made = [
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": _metadata(entry["name"], "storageclass", entry.get("default", False)),
            "provisioner": _provisioner(entry),
            "parameters": _parameters(entry),
            "reclaimPolicy": entry.get("reclaim_policy") or "Delete",
            "volumeBindingMode": "WaitForFirstConsumer",
            "allowVolumeExpansion": True,
        }
        for entry in classes
    ]
    return made + [
        {
            "apiVersion": "snapshot.storage.k8s.io/v1",
            "kind": "VolumeSnapshotClass",
            "metadata": {"name": str(entry["name"]), "labels": dict(LABELS)},
            "driver": str(entry["driver"]),
            "parameters": {str(key): _text(value) for key, value in (entry.get("parameters") or {}).items()},
            "deletionPolicy": entry.get("deletion_policy") or "Delete",
        }
        for entry in snapshot_classes
    ]


class FilterModule:
    """Registers the filter."""

    def filters(self):
        """Names and functions."""
        return {"storage_classes": storage_classes}

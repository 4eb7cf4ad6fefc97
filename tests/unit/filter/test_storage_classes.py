"""Classes of volumes and snapshots, by names that are known and others."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.lambda_microservice.platform.plugins.filter.storage_classes import storage_classes


def test_amazons_is_known_by_its_name():
    [made] = storage_classes([{"name": "gp3"}])
    assert made["apiVersion"] == "storage.k8s.io/v1"
    assert made["provisioner"] == "ebs.csi.aws.com"
    assert made["parameters"] == {"type": "gp3", "encrypted": "true"}
    # Else a volume would be made in a zone that its pod cannot be in.
    assert made["volumeBindingMode"] == "WaitForFirstConsumer"
    assert made["allowVolumeExpansion"] is True
    assert "annotations" not in made["metadata"]


def test_googles_is_known_by_its_name():
    [made] = storage_classes([{"name": "premium-rwo"}])
    assert (made["provisioner"], made["parameters"]) == ("pd.csi.storage.gke.io", {"type": "pd-ssd"})


def test_parameters_are_texts_over_what_is_known():
    given = {"name": "gp3", "parameters": {"iops": 6000, "encrypted": True, "kmsKeyId": "arn"}, "default": True}
    [made] = storage_classes([{**given, "reclaim_policy": "Retain"}])
    assert made["parameters"] == {"type": "gp3", "encrypted": "true", "iops": "6000", "kmsKeyId": "arn"}
    assert made["metadata"]["annotations"] == {"storageclass.kubernetes.io/is-default-class": "true"}
    assert made["reclaimPolicy"] == "Retain"


def test_another_drivers_class_of_a_known_name_has_its_own_parameters():
    [made] = storage_classes([{"name": "gp3", "provisioner": "ebs.csi.eks.amazonaws.com"}])
    assert (made["provisioner"], made["parameters"]) == ("ebs.csi.eks.amazonaws.com", {})


def test_a_class_that_is_not_known_needs_its_provisioner():
    with pytest.raises(AnsibleFilterError, match="the class fast"):
        storage_classes([{"name": "fast"}])


def test_snapshots():
    [made] = storage_classes([], [{"name": "ebs", "driver": "ebs.csi.aws.com"}])
    assert (made["kind"], made["driver"], made["deletionPolicy"]) == (
        "VolumeSnapshotClass",
        "ebs.csi.aws.com",
        "Delete",
    )

"""Manifests are split as Helm splits them, and objects are known by who they are."""

from __future__ import annotations

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm import manifest


def test_documents_split_at_separators_only_and_keep_their_source() -> None:
    text = (
        "---\n# Source: w/templates/a.yaml\nkind: A\n"
        "---\n# Source: w/crds/c.yaml\nkind: C\ndata: |\n  ---\n  x\n---\n# only a comment\n"
    )
    found = manifest.documents(text)
    assert [d.source for d in found] == ["w/templates/a.yaml", "w/crds/c.yaml", ""]
    assert [d.is_crd_file for d in found] == [False, True, False]
    assert found[1].objects == [{"kind": "C", "data": "---\nx\n"}]
    assert found[2].objects == []


def test_a_template_below_a_folder_named_crds_is_no_crd_file() -> None:
    assert not manifest.documents("# Source: w/templates/crds/c.yaml\nkind: C")[0].is_crd_file


def test_stringdata_is_what_it_is_stored_as() -> None:
    stored = manifest.as_stored(
        {"kind": "Secret", "stringData": {"k": "v"}, "data": {"k": "eA==", "l": "eQ=="}, "status": {}}
    )
    assert stored == {"kind": "Secret", "data": {"k": "dg==", "l": "eQ=="}}


def test_autoscaled_workloads_are_found() -> None:
    hpa = {
        "kind": "HorizontalPodAutoscaler",
        "metadata": {},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"}},
    }
    assert manifest.autoscaled([hpa, {"kind": "Service"}], "ns") == {("Deployment", "ns", "d")}


def test_a_broken_template_is_named_without_its_lines() -> None:
    [document] = manifest.documents("# Source: w/templates/s.yaml\nkind: Secret\nstringData: {k: 'hunter2\n")
    with pytest.raises(PlatformError, match=r"w/templates/s\.yaml") as caught:
        _ = document.objects
    assert "hunter2" not in str(caught.value) and caught.value.reason == "render"

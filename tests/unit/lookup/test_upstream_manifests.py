"""Objects of upstream, pinned and kept."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleError
from ansible_collections.lambda_microservice.platform.plugins.lookup import upstream_manifests
from ansible_collections.lambda_microservice.platform.plugins.lookup.upstream_manifests import read

ROOT = Path(__file__).resolve().parents[3]
HELM = shutil.which("helm") or str(ROOT / ".local/bin/helm")
BUNDLE = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: a}
spec: {enum: [=, "!="]}
---
apiVersion: v1
kind: Service
metadata: {name: b}
---
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def bundle(tmp_path):
    path = tmp_path / "bundle.yaml"
    path.write_text(BUNDLE)
    return path


def names(made):
    definitions = json.loads(Path(made["definitions"]).read_text())
    return [obj["metadata"]["name"] for obj in definitions], [obj["metadata"]["name"] for obj in made["objects"]]


def test_definitions_are_left_in_a_file(bundle):
    made = read(str(bundle), hashlib.sha256(BUNDLE.encode()).hexdigest())
    assert names(made) == (["a"], ["b"])
    assert json.loads(Path(made["definitions"]).read_text())[0]["spec"]["enum"] == ["=", "!="]


def test_a_folder_is_read_by_name(bundle):
    (bundle.parent / "c.yml").write_text("{kind: Service, metadata: {name: c}}")
    assert names(read(str(bundle.parent))) == (["a"], ["b", "c"])


def test_another_text_than_the_pinned_one_is_refused(bundle):
    with pytest.raises(AnsibleError, match=r"is not what was pinned. Found: SHA-256 [0-9a-f]{64}. Expected: 0000"):
        read(str(bundle), "0000")


def test_a_file_that_changes_is_read_again(bundle):
    read(str(bundle))
    bundle.write_text(BUNDLE.replace("name: b", "name: d"))
    assert names(read(str(bundle)))[1] == ["d"]


def test_what_was_downloaded_is_not_downloaded_again(monkeypatch):
    asked = []
    monkeypatch.setattr(upstream_manifests, "_downloaded", lambda source: asked.append(source) or BUNDLE.encode())
    for _time in range(2):
        assert names(read("https://example.com/v1/bundle.yaml")) == (["a"], ["b"])
    assert len(asked) == 1


def test_a_chart_is_rendered_with_its_definitions(tmp_path, bundle):
    chart = tmp_path / "chart"
    (chart / "crds").mkdir(parents=True)
    (chart / "templates").mkdir()
    (chart / "Chart.yaml").write_text("{apiVersion: v2, name: c, version: 1.0.0}")
    (chart / "crds/a.yaml").write_text(BUNDLE.split("---")[0])
    (chart / "templates/b.yaml").write_text(
        "apiVersion: v1\nkind: Service\nmetadata: {name: '{{ .Release.Namespace }}'}"
    )
    assert names(read(str(chart), namespace="here", helm_binary=HELM)) == (["a"], ["here"])


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("/nowhere.yaml", "cannot be read. Found: .*No such file"),
        ("https://localhost:1/bundle.yaml", "cannot be downloaded"),
    ],
)
def test_what_is_not_there_is_said(source, said):
    with pytest.raises(AnsibleError, match=said):
        read(source)


def test_what_is_no_object_is_said(bundle):
    bundle.write_text("[1, 2]")
    with pytest.raises(AnsibleError, match="something else in it"):
        read(str(bundle))


@pytest.mark.skipif(not shutil.which("go"), reason="Go has the module")
def test_the_go_module_has_what_the_role_pins():
    local = yaml.safe_load((ROOT / "inventories/local/group_vars/all/monitoring.yml").read_text())
    pinned = yaml.safe_load((ROOT / "roles/monitoring/defaults/main.yml").read_text())
    definitions, objects = names(read(local["monitoring_operator_source"], pinned["monitoring_operator_sha256"]))
    assert len(definitions) == 10
    assert objects == ["prometheus-operator"] * 5

"""A bundle on its way: from one registry into a file, and from the file into another registry (two real ones, real oras
and helm). It asks no API server, but a registry as the tests here do.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.utils.collection_loader._collection_finder import _get_collection_path
from ansible_collections.lambda_microservice.platform.plugins.module_utils.bundle import bundle
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.unbundle import unbundle

from .small_chart import helm

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: small}
spec:
  selector: {matchLabels: {x: y}}
  template:
    metadata: {labels: {x: y}}
    spec:
      containers:
        - {name: one, image: {{ .Values.image | quote }}, args: ["--helper={{ .Values.helper }}"]}
"""


def run(logic: Any, check_mode: bool = False, **given: Any) -> dict[str, Any]:
    validation = ArgumentSpecValidator(logic.ARGUMENT_SPEC).validate(given)
    assert not validation.error_messages, validation.error_messages
    result: dict[str, Any] = logic.run(validation.validated_parameters, check_mode, True, lambda line: None)
    return result


@pytest.fixture(scope="session")
def oras() -> Path:
    """Built once; nothing is done where it has been."""
    subprocess.run([ROOT / "tools/go-programs", "oras", ROOT / ".local/oras"], check=True, timeout=1800)
    return ROOT / ".local/oras/oras"


@pytest.fixture
def push(oras: Path, registry: str, tmp_path: Path) -> Any:
    """Push an image with one layer; its reference by tag."""

    def pushed(name: str, content: bytes) -> str:
        folder = tmp_path / "pushed" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text('{"architecture": "amd64", "os": "linux"}')
        (folder / "layer.tar").write_bytes(content)
        reference = f"{registry}/lambda/{name}:1"
        argv = [oras, "push", "--plain-http", "--config", f"config.json:{CONFIG}", reference, f"layer.tar:{LAYER}"]
        subprocess.run(argv, cwd=folder, check=True, capture_output=True, timeout=60)
        return reference

    return pushed


@pytest.fixture
def asked(push: Any, oras: Path, tmp_path: Path) -> dict[str, Any]:
    """Arguments for an inventory whose one chart runs two of a table's three images."""
    images = {name: push(f"{tmp_path.name}/{name}", name.encode() * 1000) for name in ("one", "helper", "unused")}
    chart = tmp_path / "chart"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: small\nversion: 1.0.0\n")
    (chart / "templates/it.yaml").write_text(DEPLOYMENT)
    values = {"image": images["one"], "helper": images["helper"]}
    release = {"name": "small", "namespace": "small", "chart": str(chart), "values": values}
    (tmp_path / "manifest.yaml").write_text("kind: ConfigMap\n")
    return {
        "components": [{"name": "small", "releases": [release]}],
        "images": images,
        "files": {"small_source": str(tmp_path / "manifest.yaml")},
        "collections": [str(ROOT), _get_collection_path("kubernetes.core")],
        "inventory": "small",
        "helm_binary": helm(),
        "oras_binary": str(oras),
        "output": str(tmp_path / "bundle.tar"),
    }


def test_what_an_inventory_runs_comes_out_of_another_registry_with_its_digests(
    asked: dict[str, Any], registry: str, tmp_path: Path
) -> None:
    foretold = run(bundle, check_mode=True, **asked)
    assert foretold["changed"] and not Path(asked["output"]).exists()
    made = run(bundle, **asked)
    assert made["bundle"] == foretold["bundle"] and list(made["bundle"]["images"]) == ["helper", "one"]
    assert not run(bundle, **asked)["changed"]

    there = f"{registry}/{tmp_path.name}/air/gap"
    arguments = {"archive": asked["output"], "folder": str(tmp_path / "there"), "registry": there}
    with pytest.raises(PlatformError, match="not unpacked"):
        run(unbundle, check_mode=True, **arguments)
    arrived = run(unbundle, **arguments)
    assert arrived["pushed"] == ["helper", "one"] and arrived["changed"]
    again = run(unbundle, **arguments)
    assert not again["changed"] and not again["pushed"]

    table = json.loads((tmp_path / "there/images.json").read_text())
    assert {name: image["digest"] for name, image in table.items()} == {
        name: image["digest"] for name, image in made["bundle"]["images"].items()
    }
    for image in table.values():
        assert image["repository"].startswith(there)
        argv = [asked["oras_binary"], "manifest", "fetch", "--plain-http", f"{image['repository']}@{image['digest']}"]
        subprocess.run(argv, check=True, capture_output=True, timeout=60)
    variables = Path(arrived["variables"]).read_text()
    assert f'platform_images_file: "{tmp_path}/there/images.json"' in variables
    assert f'small_source: "{tmp_path}/there/bundle/files/small_source.yaml"' in variables
    # As it is done there: without a network, in a place that has no collection yet.
    install = [
        Path(sys.executable).with_name("ansible-galaxy"),
        "collection",
        "install",
        "--offline",
        "--collections-path",
    ]
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(tmp_path / "installed")}
    argv = [*install, tmp_path / "installed", *reversed(arrived["collections"])]
    subprocess.run(argv, check=True, capture_output=True, env=environment, cwd=tmp_path, timeout=120)
    for name in ("kubernetes/core/plugins/modules/k8s.py", "lambda_microservice/platform/playbooks/unbundle.yml"):
        assert (tmp_path / "installed/ansible_collections" / name).is_file()


def test_an_image_that_was_pushed_again_makes_another_bundle(asked: dict[str, Any], push: Any, tmp_path: Path) -> None:
    before = run(bundle, **asked)["bundle"]["images"]["one"]["digest"]
    push(f"{tmp_path.name}/one", b"another")
    after = run(bundle, **asked)
    assert after["changed"] and after["bundle"]["images"]["one"]["digest"] != before


def test_an_image_that_no_registry_has_is_named_before_anything_is_written(asked: dict[str, Any]) -> None:
    release = asked["components"][0]["releases"][0]
    release["values"]["image"] = release["values"]["image"].replace("one", "none")
    with pytest.raises(PlatformError, match="(?s)a registry lacks an image.*none:1.*images.yml"):
        run(bundle, **asked)
    assert not Path(asked["output"]).exists()


def test_what_cannot_be_rendered_is_no_bundle(asked: dict[str, Any]) -> None:
    asked["components"][0]["unknown"] = [{"task": "A task", "why": "a variable is missing"}]
    asked["components"][0]["releases"].append({"name": "gone", "namespace": "small", "chart": "/nowhere/chart"})
    with pytest.raises(PlatformError, match="(?s)a variable is missing.*release gone cannot be rendered"):
        run(bundle, **asked)


def test_a_chart_from_elsewhere_needs_a_variable_that_names_it(asked: dict[str, Any], registry: str) -> None:
    chart = asked["components"][0]["releases"][0]["chart"]
    folder = Path(chart).parent
    subprocess.run([helm(), "package", chart, "--destination", folder], check=True, capture_output=True)
    argv = [helm(), "push", folder / "small-1.0.0.tgz", f"oci://{registry}/{folder.name}", "--plain-http"]
    subprocess.run(argv, check=True, capture_output=True)
    asked["components"][0]["releases"][0].update(chart=f"oci://{registry}/{folder.name}/small", version="1.0.0")
    with pytest.raises(PlatformError, match="no variable is known"):
        run(bundle, check_mode=True, **asked)
    asked["charts"] = {"small": {"chart": "small_chart", "repository": "small_repository"}}
    run(bundle, **asked)
    arguments = {"archive": asked["output"], "folder": str(folder / "there"), "registry": f"{registry}/{folder.name}"}
    variables = Path(run(unbundle, **arguments)["variables"]).read_text()
    assert f'small_chart: "{folder}/there/bundle/charts/small.tgz"\nsmall_repository: ""' in variables
    assert (folder / "there/bundle/charts/small.tgz").is_file()


@pytest.mark.parametrize("registry_name", ["https://registry.example.com", ""])
def test_a_registry_that_is_none_is_refused(registry_name: str, tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match="without a scheme"):
        run(unbundle, archive=str(tmp_path / "it"), folder=str(tmp_path), registry=registry_name)

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
from ansible_collections.lambda_microservice.platform.plugins.module_utils.bundle import bundle
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.unbundle import unbundle

from .bundled import run
from .small_chart import helm


def test_what_an_inventory_runs_comes_out_of_another_registry_with_its_digests(
    bundled: dict[str, Any], registry: str, tmp_path: Path
) -> None:
    foretold = run(bundle, check_mode=True, **bundled)
    assert foretold["changed"] and not Path(bundled["output"]).exists()
    made = run(bundle, **bundled)
    assert made["bundle"] == foretold["bundle"] and list(made["bundle"]["images"]) == ["helper", "one"]
    assert not run(bundle, **bundled)["changed"]

    there = f"{registry}/{tmp_path.name}/air/gap"
    arguments = {"archive": bundled["output"], "folder": str(tmp_path / "there"), "registry": there}
    with pytest.raises(PlatformError, match="not unpacked"):
        run(unbundle, check_mode=True, **arguments)
    arrived = run(unbundle, **arguments)
    assert arrived["pushed"] == ["helper", "one"] and arrived["changed"]
    again = run(unbundle, **arguments)
    assert not again["changed"] and not again["pushed"]
    # As a run that was cut off leaves it.
    next((tmp_path / "there/bundle/images/blobs").rglob("*/*")).unlink()
    assert run(unbundle, **arguments)["changed"] and not run(unbundle, **arguments)["changed"]

    table = json.loads((tmp_path / "there/images.json").read_text())
    assert {name: image["digest"] for name, image in table.items()} == {
        name: image["digest"] for name, image in made["bundle"]["images"].items()
    }
    for image in table.values():
        assert image["repository"].startswith(there)
        argv = [bundled["oras_binary"], "manifest", "fetch", "--plain-http", f"{image['repository']}@{image['digest']}"]
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


def test_an_image_that_was_pushed_again_makes_another_bundle(
    bundled: dict[str, Any], push: Any, tmp_path: Path
) -> None:
    before = run(bundle, **bundled)["bundle"]["images"]["one"]["digest"]
    push(f"{tmp_path.name}/one", b"another")
    after = run(bundle, **bundled)
    assert after["changed"] and after["bundle"]["images"]["one"]["digest"] != before


def test_an_image_that_no_registry_has_is_named_before_anything_is_written(bundled: dict[str, Any]) -> None:
    release = bundled["components"][0]["releases"][0]
    release["values"]["image"] = release["values"]["image"].replace("one", "none")
    with pytest.raises(PlatformError, match="(?s)a registry lacks an image.*none:1.*images.yml"):
        run(bundle, **bundled)
    assert not Path(bundled["output"]).exists()


def test_what_cannot_be_rendered_is_no_bundle(bundled: dict[str, Any]) -> None:
    bundled["components"][0]["unknown"] = [{"task": "A task", "why": "a variable is missing"}]
    bundled["components"][0]["releases"].append({"name": "gone", "namespace": "small", "chart": "/nowhere/chart"})
    with pytest.raises(PlatformError, match="(?s)a variable is missing.*release gone cannot be rendered"):
        run(bundle, **bundled)


def test_a_chart_from_elsewhere_needs_a_variable_that_names_it(bundled: dict[str, Any], registry: str) -> None:
    chart = bundled["components"][0]["releases"][0]["chart"]
    folder = Path(chart).parent
    subprocess.run([helm(), "package", chart, "--destination", folder], check=True, capture_output=True)
    argv = [helm(), "push", folder / "small-1.0.0.tgz", f"oci://{registry}/{folder.name}", "--plain-http"]
    subprocess.run(argv, check=True, capture_output=True)
    bundled["components"][0]["releases"][0].update(
        chart=f"oci://{registry}/{folder.name}/small", version="1.0.0", plain_http=True
    )
    with pytest.raises(PlatformError, match="no variable is known"):
        run(bundle, check_mode=True, **bundled)
    bundled["charts"] = {"small": {"chart": "small_chart", "repository": "small_repository"}}
    run(bundle, **bundled)
    arguments = {"archive": bundled["output"], "folder": str(folder / "there"), "registry": f"{registry}/{folder.name}"}
    variables = Path(run(unbundle, **arguments)["variables"]).read_text()
    assert f'small_chart: "{folder}/there/bundle/charts/small.tgz"\nsmall_repository: ""' in variables
    assert (folder / "there/bundle/charts/small.tgz").is_file()


@pytest.mark.parametrize("registry_name", ["https://registry.example.com", ""])
def test_a_registry_that_is_none_is_refused(registry_name: str, tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match="without a scheme"):
        run(unbundle, archive=str(tmp_path / "it"), folder=str(tmp_path), registry=registry_name)

"""A small inventory to bundle: one chart that runs two of a table's three images, which a registry has."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.utils.collection_loader._collection_finder import _get_collection_path
from ansible_collections.lambda_microservice.platform.plugins.module_utils.bundle import bundle

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


def bundle_of(arguments: dict[str, Any]) -> dict[str, Any]:
    """The bundle, written."""
    return run(bundle, **arguments)


def build_oras() -> Path:
    """The program, built once; nothing is done where it has been."""
    subprocess.run([ROOT / "tools/go-programs", "oras", ROOT / ".local/oras"], check=True, timeout=1800)
    return ROOT / ".local/oras/oras"


def push_image(oras: Path, registry: str, folder: Path, name: str, content: bytes) -> str:
    """Push an image with one layer; its reference by tag."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text('{"architecture": "amd64", "os": "linux"}')
    (folder / "layer.tar").write_bytes(content)
    reference = f"{registry}/lambda/{name}:1"
    argv = [oras, "push", "--plain-http", "--config", f"config.json:{CONFIG}", reference, f"layer.tar:{LAYER}"]
    subprocess.run(argv, cwd=folder, check=True, capture_output=True, timeout=60)
    return reference


def small_inventory(folder: Path, push: Callable[[str, bytes], str], oras: Path) -> dict[str, Any]:
    """Arguments of the module ``bundle``."""
    images = {name: push(f"{folder.name}/{name}", name.encode() * 1000) for name in ("one", "helper", "unused")}
    chart = folder / "chart"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: small\nversion: 1.0.0\n")
    (chart / "templates/it.yaml").write_text(DEPLOYMENT)
    values = {"image": images["one"], "helper": images["helper"]}
    release = {"name": "small", "namespace": "small", "chart": str(chart), "values": values}
    (folder / "manifest.yaml").write_text("kind: ConfigMap\n")
    return {
        "components": [{"name": "small", "releases": [release]}],
        "images": images,
        "files": {"small_source": str(folder / "manifest.yaml")},
        "collections": [str(ROOT), _get_collection_path("kubernetes.core")],
        "inventory": "small",
        "helm_binary": helm(),
        "oras_binary": str(oras),
        "output": str(folder / "bundle.tar"),
    }

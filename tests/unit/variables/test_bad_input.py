"""What is wrong with an inventory is told in one run, all of it together, and nothing is written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .conftest import IMAGES
from .rendering import ROOT

WRONG: dict[str, Any] = {
    "ingress_replicas": -1,
    "data_services_redis_memory": "4gb",
    "platform_zones": ["us-east-1a", "us-east-1b", "us-east-1d"],
    "runtimes_memory": "64Gi",
    "runtimes_memory_limit": "64Gi",
    "controller_values": {"pdb": {"minAvailable": 99}},
    "openfaas_gateway_min_replicas": 9,
    "openfaas_gateway_max_replicas": 6,
    "ingress_https_node_port": 30443,
    "ingress_http_node_port": 30443,
    "openfass_enabled": True,
    "openfaas_values": {"gateway": {"rumour": 1}},
}
TOLD = (
    "ingress_replicas leaves no pod",
    "data_services_redis_memory is no quantity",
    "openfaas_gateway_min_replicas 9, openfaas_gateway_max_replicas 6",
    "ingress_https_node_port and ingress_http_node_port are both 30443",
    "no role knows the variable openfass_enabled",
)
"""By the variables alone."""


def played(playbook: str, folder: Path, **given: Any) -> str:
    """What a playbook of the checkout says, in one line, for the production inventory with these variables over it."""
    values = {
        "platform_images_file": str(IMAGES),
        "monitoring_enabled": False,
        "platform_kubeconfig": str(folder / "kubeconfig"),
        **given,
    }
    done = subprocess.run(
        [
            *(Path(sys.executable).parent / "ansible-playbook", "-i", ROOT / "inventories/production-eks"),
            *(ROOT / "playbooks" / f"{playbook}.yml", "-e", json.dumps(values)),
        ],
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"), "ANSIBLE_NOCOLOR": "1"},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 2, done.stdout
    return " ".join(done.stdout.split())


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory) -> str:
    """preflight, with a kubeconfig that knows another cluster than the inventory names."""
    folder = tmp_path_factory.mktemp("preflight")
    other = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "other", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "other", "user": {"token": "made-up"}}],
        "contexts": [{"name": "other", "context": {"cluster": "other", "user": "other"}}],
    }
    (folder / "kubeconfig").write_text(json.dumps(other))
    return played("preflight", folder, **WRONG)


@pytest.mark.parametrize(
    "told",
    [
        *TOLD,
        "platform_zones names us-east-1d, where no pool of platform_node_pools has nodes",
        "no node is large enough for a pod: requests of 1.1 CPU and 64.1 GiB (Deployment openfaas-fn/rust-runtime)",
        "controller keeps 99 of Deployment controller/controller, which has 3",
        # Helm names the wrong place now and then.
        "invalid propertyName 'rumour'",
        "Expected object with name lambda-production-eks in",
        "findings, and nothing was changed",
    ],
)
def test_preflight_names_each(looked: str, told: str) -> None:
    assert told in looked


def test_capacity_names_each_and_writes_nothing(tmp_path: Path) -> None:
    outputs = {f"capacity_{name}": str(tmp_path / name) for name in ("output", "json_output")}
    prices = {"capacity_prices": str(tmp_path / "nowhere.yml")}
    pool = {"name": "general", "type": "m5.2xlarge", "zones": ["us-east-1a"], "min_count": 9, "max_count": 3}
    said = played("capacity", tmp_path, **WRONG, **outputs, **prices, platform_node_pools=[pool])
    pools = ("a pool's numbers of nodes contradict each other", "min_count 9, max_count 3")
    for told in (*TOLD, *pools, "nowhere.yml", "a file of figures cannot be read", "nothing was written"):
        assert told in said
    assert not [path for path in tmp_path.iterdir() if path.name in ("output", "json_output")]
    # With pools that could be, what none of their nodes holds is told as well.
    said = played("capacity", tmp_path, **WRONG, **outputs, **prices)
    for told in (*TOLD, "nowhere.yml", "no node is large enough for a pod"):
        assert told in said

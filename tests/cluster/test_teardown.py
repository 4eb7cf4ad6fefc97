"""The platform is removed and comes back with what it knew: volumes stay, and so do the Secrets that they need."""

from __future__ import annotations

import secrets
import subprocess
from pathlib import Path

import pytest
import yaml
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.edge import Edge

from .checkout import ROOT
from .edge_load import AUTHORITY, URL

pytestmark = pytest.mark.cluster

NAMESPACES = ("controller", "data-services", "ingress", "monitoring", "node-agents", "openfaas", "openfaas-fn")


def play(kubeconfig: str, playbook: str, *extra: str) -> str:
    command = ["ansible-playbook", playbook, "-e", f"platform_kubeconfig={kubeconfig}", *extra]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=1200)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    return done.stdout


def volumes(cluster: Cluster) -> dict[str, str]:
    """The volume of each claim that has one."""
    claims = [claim for name in NAMESPACES for claim in cluster.list("v1", "PersistentVolumeClaim", name)]
    return {
        f"{claim['metadata']['namespace']}/{claim['metadata']['name']}": claim["spec"]["volumeName"]
        for claim in claims
        if claim["spec"].get("volumeName")
    }


def test_what_is_removed_comes_back_with_its_data(cluster: Cluster, kubeconfig: str) -> None:
    edge = Edge(URL, ca_file=AUTHORITY)
    name = f"python-kept-{secrets.token_hex(3)}"
    script = {"script_content": "result = params['n'] * 2"}
    assert edge.call("PUT", f"/api/v1/functions/{name}", script).status < 300
    kept = volumes(cluster)
    assert "  removed  " in play(kubeconfig, "playbooks/teardown.yml", "--check")
    left = [pod["metadata"]["name"] for space in NAMESPACES for pod in cluster.list("v1", "Pod", space)]
    assert left, "a run in check mode removed pods"

    confirmed = f"teardown_confirm={yaml.safe_load(Path(kubeconfig).read_text())['current-context']}"
    play(kubeconfig, "playbooks/teardown.yml", "-e", confirmed)
    assert not [pod["metadata"]["name"] for space in NAMESPACES for pod in cluster.list("v1", "Pod", space)]
    assert volumes(cluster) == kept
    assert "changed=0" in play(kubeconfig, "playbooks/teardown.yml", "-e", confirmed)

    play(kubeconfig, "site.yml")
    assert {claim: volumes(cluster).get(claim) for claim in kept} == kept
    # The edge has a certificate of its own again.
    edge = Edge(URL, ca_file=AUTHORITY)
    assert edge.call("POST", f"/function/{name}", {"n": 21}).json() == 42

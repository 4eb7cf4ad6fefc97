"""Vertical autoscaling: a recommendation comes, and in the second stage a pod gets it.

It turns the role on by site.yml, as a person would, and off again; its images have to be there
(playbooks/images.yml -e vpa_enabled=true).
"""

from __future__ import annotations

import json
import subprocess
import time

import pytest
from kubernetes.utils.quantity import parse_quantity

from .checkout import ROOT, playbook

pytestmark = pytest.mark.cluster

WORKLOAD, NAMESPACE, CONTAINER = "redis-haproxy", "data-services", "haproxy"
LEAST = {"cpu": "30m", "memory": "40Mi"}
"""More than the local inventory asks for, and within the pod's limit: what is below its bounds is changed at once."""
ACTS = {
    "vpa_enabled": True,
    "vpa_mode": {WORKLOAD: "InPlaceOrRecreate"},
    "vpa_bounds": {WORKLOAD: {"min": LEAST, "max": {"cpu": "40m", "memory": "48Mi"}}},
}
RECOMMENDED_SECONDS = 300
CHANGED_SECONDS = 300
"""The recommender and the updater look each minute, and metrics-server each 15 s."""


def get(kubeconfig: str, *what: str) -> dict:
    command = ["kubectl", "--kubeconfig", kubeconfig, "get", *what, "-o", "json"]
    return json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)


def recommended(kubeconfig: str) -> dict[str, dict]:
    """The recommendation of each container, by workload."""
    return {
        f"{obj['metadata']['namespace']}/{obj['metadata']['name']}": found
        for obj in get(kubeconfig, "vpa", "-A")["items"]
        if (found := obj.get("status", {}).get("recommendation", {}).get("containerRecommendations"))
    }


def requests(kubeconfig: str) -> dict[str, dict[str, str]]:
    """What each pod of the workload asks for."""
    pods = get(kubeconfig, "pods", "-n", NAMESPACE, "-l", f"app.kubernetes.io/name={WORKLOAD}")["items"]
    return {
        pod["metadata"]["name"]: container["resources"]["requests"]
        for pod in pods
        if not pod["metadata"].get("deletionTimestamp")
        for container in pod["spec"]["containers"]
        if container["name"] == CONTAINER
    }


def site(**variables) -> None:
    code, said = playbook("playbooks/site.yml", "--tags", "monitoring,vpa", **variables)
    assert code == 0, said[-3000:]


def until(look, done, seconds: float):
    ends = time.monotonic() + seconds
    while not done(found := look()) and time.monotonic() < ends:
        time.sleep(5)
    return found


@pytest.fixture
def watching(kubeconfig):
    images = json.loads((ROOT / ".local/images.json").read_text(encoding="utf-8"))
    assert "vpa-recommender" in images, "run playbooks/images.yml -e vpa_enabled=true"
    began = time.monotonic()
    site(vpa_enabled=True)
    print(f"turned on in {time.monotonic() - began:.0f} s")
    yield
    site(vpa_enabled=False)
    definitions = [one["metadata"]["name"] for one in get(kubeconfig, "crd")["items"]]
    assert not [name for name in definitions if name.endswith(".autoscaling.k8s.io")]


def test_a_recommendation_comes_and_a_pod_gets_it(kubeconfig, watching, tmp_path):
    began = time.monotonic()
    found = until(lambda: recommended(kubeconfig), lambda each: len(each) > 15, RECOMMENDED_SECONDS)
    print(f"{len(found)} workloads have a recommendation after {time.monotonic() - began:.0f} s")
    assert len(found) > 15 and f"{NAMESPACE}/{WORKLOAD}" in found
    # Pods of an operator, too.
    assert any(name.endswith("/prometheus-platform") for name in found)
    outputs = {"report_output": str(tmp_path / "report.html"), "report_json_output": str(tmp_path / "report.json")}
    code, said = playbook("playbooks/report.yml", **outputs)
    assert code == 0 and "memory asked" in said, said[-2000:]
    rows = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["recommendations"]
    assert all(row["used_cpu"] != "-" for row in rows if row["workload"] == f"{NAMESPACE}/{WORKLOAD}")

    before = requests(kubeconfig)
    assert before and all(parse_quantity(each["cpu"]) < parse_quantity(LEAST["cpu"]) for each in before.values())
    site(**ACTS)
    began = time.monotonic()

    def lifted(pods: dict[str, dict[str, str]]) -> bool:
        return bool(pods) and all(
            parse_quantity(asked[resource]) >= parse_quantity(LEAST[resource])
            for asked in pods.values()
            for resource in LEAST
        )

    after = until(lambda: requests(kubeconfig), lifted, CHANGED_SECONDS)
    print(f"all pods asked for the least that they may after {time.monotonic() - began:.0f} s: {before} -> {after}")
    assert lifted(after), after
    # Resized as they ran, where the cluster can.
    assert set(after) & set(before), "all pods were replaced"
    # A new one gets it when it is made.
    name = sorted(after)[0]
    subprocess.run(
        ["kubectl", "--kubeconfig", kubeconfig, "-n", NAMESPACE, "delete", "pod", name], check=True, timeout=120
    )
    new = until(lambda: set(requests(kubeconfig)) - set(after), bool, 120)
    assert new and lifted({pod: requests(kubeconfig)[pod] for pod in new})

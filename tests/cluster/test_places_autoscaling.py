"""Scripts that sleep use no CPU: more pods start because their places are taken."""

from __future__ import annotations

import json
import subprocess
import time

import pytest
from kubernetes.utils.quantity import parse_quantity

from .sleeping import Callers

pytestmark = pytest.mark.cluster

APP = "python-runtime"
CALLERS = 12
"""More than two pods of the local cluster have places for."""
SLEEP_SECONDS = 8
WITHIN_SECONDS = 240
"""The figure is of the last 15 s, is asked for every 15 s, and has to stay for 60 s (stabilizationWindowSeconds)."""


def get(kubeconfig: str, kind: str) -> dict:
    command = ["kubectl", "--kubeconfig", kubeconfig, "-n", "openfaas-fn", "get", kind, APP, "-o", "json"]
    return json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)


def test_sleeping_scripts_scale_out(kubeconfig):
    hpa = get(kubeconfig, "hpa")
    metrics = [metric["type"] for metric in hpa["spec"]["metrics"]]
    if "Pods" not in metrics:
        pytest.skip("runtimes_places_percent is 0 here")
    before = get(kubeconfig, "deployment")["spec"]["replicas"]
    assert before < hpa["spec"]["maxReplicas"], "it has as many pods as it may have: wait until it has fewer"
    most = 0.0
    with Callers(SLEEP_SECONDS) as callers:
        began = time.monotonic()
        callers.at_least(CALLERS)
        while time.monotonic() - began < WITHIN_SECONDS:
            time.sleep(3)
            status = get(kubeconfig, "hpa")["status"]
            for metric in status.get("currentMetrics") or []:
                if metric["type"] == "Pods":
                    most = max(most, float(parse_quantity(metric["pods"]["current"]["averageValue"])))
            replicas = get(kubeconfig, "deployment")["spec"]["replicas"]
            if replicas > before:
                break
    print(f"places used: {most:.0f} %, {before} to {replicas} pods after {time.monotonic() - began:.0f} s")
    assert replicas > before, f"places used {most:.0f} %, status {status}"
    assert most > 70

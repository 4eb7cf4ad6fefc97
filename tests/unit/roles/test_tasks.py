"""What the tasks of every role have in common."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

ROLES = Path(__file__).resolve().parents[3] / "roles"
TASKS = ROLES.glob("*/tasks/main.yml")
WITH_PODS = sorted(path.parents[1].name for path in TASKS if "platform.chart:" in path.read_text())


@pytest.mark.parametrize("role", WITH_PODS)
def test_the_ways_are_there_before_the_pods_and_are_waited_for_once(role: str) -> None:
    tasks = yaml.safe_load((ROLES / role / "tasks/main.yml").read_text())
    modules = [key.rpartition(".")[2] for task in tasks for key in task if key.startswith("lambda_microservice.")]
    last = [len(modules) - 1 - modules[::-1].index(module) for module in ("policy", "chart", "rollout")]
    assert last == sorted(last), "a pod without its ways ends, or waits, at its start"
    assert modules[-1] == "rollout"


def test_there_are_roles_with_pods() -> None:
    assert {"controller", "data_services", "ingress", "logging", "runtimes"} <= set(WITH_PODS)

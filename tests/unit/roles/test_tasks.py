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


def merged_twice(node: yaml.Node) -> list[str]:
    """Keys of a mapping that also come with ``<<``, of which Ansible warns at each run; with their lines."""
    children = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
    found = [] if isinstance(node, yaml.ScalarNode) else [one for child in children for one in merged_twice(child)]
    if isinstance(node, yaml.MappingNode):
        own = {key.value: key.start_mark.line + 1 for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"}
        sources = [value for key, value in node.value if key.tag == "tag:yaml.org,2002:merge"]
        merged = {key.value for source in sources if isinstance(source, yaml.MappingNode) for key, _ in source.value}
        found += [f"line {line}: {name}" for name, line in own.items() if name in merged]
    return found


YAML = sorted(
    path
    for folder in ("roles", "playbooks", "molecule", "inventories")
    for path in ROLES.parent.glob(f"{folder}/**/*.yml")
)


@pytest.mark.parametrize("path", YAML, ids=lambda path: str(path.relative_to(ROLES.parent)))
def test_no_key_takes_a_merged_one_s_place(path: Path) -> None:
    assert [one for node in yaml.compose_all(path.read_text()) if node for one in merged_twice(node)] == []

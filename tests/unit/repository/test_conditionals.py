"""Conditionals are true or false: Ansible refuses a list or a text there, and only where a run comes to the task."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from jinja2 import nodes

ROOT = Path(__file__).parents[3]
FILES = sorted([*ROOT.glob("playbooks/**/*.yml"), *ROOT.glob("roles/*/tasks/*.yml"), ROOT / "site.yml"])
CONDITIONALS = ("when", "until", "changed_when", "failed_when")
BOOLEAN = (nodes.Compare, nodes.Test, nodes.Not)


class Loader(yaml.SafeLoader):
    """Ansible's own tags are texts here."""


Loader.add_multi_constructor("!", lambda loader, suffix, node: None)


def documents(file: Path) -> list[Any]:
    return list(yaml.load_all(file.read_text(encoding="utf-8"), Loader))


def options() -> dict[str, bool]:
    """Of every specified variable, whether it is a boolean."""
    specs = [*ROOT.glob("roles/*/meta/argument_specs.yml"), ROOT / "playbooks/meta/argument_specs.yml"]
    return {
        name: option.get("type") == "bool"
        for file in specs
        for entry in documents(file)[0]["argument_specs"].values()
        for name, option in entry.get("options", {}).items()
    }


def mappings(part: Any) -> Iterator[dict[str, Any]]:
    if isinstance(part, dict):
        yield part
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from mappings(inner)


def parsed(expression: str) -> nodes.Node:
    (output,) = jinja2.Environment(autoescape=True).parse("{{ %s }}" % expression).body
    return output.nodes[0]


def is_boolean(node: nodes.Node, known: dict[str, Any], specified: dict[str, bool]) -> bool:
    if isinstance(node, nodes.And | nodes.Or):
        return all(is_boolean(side, known, specified) for side in (node.left, node.right))
    if isinstance(node, nodes.CondExpr):
        return all(is_boolean(side, known, specified) for side in (node.expr1, node.expr2))
    if isinstance(node, nodes.Filter):
        # default gives what stands before it, or its argument.
        return node.name == "bool" or (
            node.name == "default" and all(is_boolean(part, known, specified) for part in (node.node, node.args[0]))
        )
    if isinstance(node, nodes.Const):
        return isinstance(node.value, bool)
    if isinstance(node, nodes.Getattr):
        of = node.node.name if isinstance(node.node, nodes.Name) else ""
        # Rows of a loop are not followed.
        return node.attr == "failed" or of == "item" or (of == "__platform" and specified.get(node.attr, False))
    if isinstance(node, nodes.Name):
        value = known.get(node.name)
        if isinstance(value, str) and value.strip().startswith("{{"):
            return is_boolean(parsed(value.strip()[2:-2]), known, specified)
        return node.name == "ansible_check_mode" or isinstance(value, bool)
    return isinstance(node, BOOLEAN)


def variables(file: Path) -> dict[str, Any]:
    """Those that the file and its role define."""
    role = file.parents[1] / "vars/main.yml"
    known = documents(role)[0] if role.is_file() else {}
    for part in mappings(documents(file)):
        for name in ("vars", "ansible.builtin.set_fact"):
            known |= part[name] if isinstance(part.get(name), dict) else {}
    return known


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_conditionals_are_true_or_false(file: Path) -> None:
    known, specified = variables(file), options()
    wrong = []
    for part in mappings(documents(file)):
        for keyword in CONDITIONALS:
            said = part.get(keyword)
            for one in said if isinstance(said, list) else [said]:
                if isinstance(one, str) and not is_boolean(parsed(one), known, specified):
                    wrong.append(f"{keyword}: {one}")
    assert not wrong


def imported(task: dict[str, Any], file: Path) -> Path | None:
    """The file of tasks that a task imports, with the task's own conditional before each of them."""
    if tasks := task.get("ansible.builtin.import_tasks"):
        return file.parent / tasks
    if role := task.get("ansible.builtin.import_role"):
        return ROOT / "roles" / role["name"].rpartition(".")[2] / "tasks" / f"{role.get('tasks_from', 'main')}.yml"
    return None


def reads_variables(file: Path) -> bool:
    tasks = list(mappings(documents(file)))
    inner = [imported(task, file) for task in tasks]
    return any(task.get("register") == "__platform" for task in tasks) or any(map(reads_variables, filter(None, inner)))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_what_is_imported_under_a_condition_does_not_read_the_variables(file: Path) -> None:
    """Where it does not hold, the task that reads them is skipped, and leaves the next none."""
    under = [task for task in mappings(documents(file)) if "when" in task]
    assert not [path for task in under if (path := imported(task, file)) and reads_variables(path)]

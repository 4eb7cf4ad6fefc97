"""Defaults, argument specifications and the README say the same; and the roles use the checked values."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.specifications import (
    CLIENT_OPTIONS,
)

from .evaluation import DEFAULTS, KNOWN, OPTIONS, PLAYBOOKS

ROOT = Path(__file__).resolve().parents[3]
ROLES = sorted(path.parents[1] for path in ROOT.glob("roles/*/meta/argument_specs.yml"))
NAME = re.compile(r"(?<![\w.])(" + "|".join(sorted(KNOWN, key=len, reverse=True)) + r")(?!\w)")


def content(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_defaults_and_specifications_are_the_same(role: Path):
    options = content(role / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    defaults = content(role / "defaults/main.yml")
    said = {name: option["default"] for name, option in options.items() if "default" in option}
    assert said == defaults
    for name, option in options.items():
        assert name.startswith(f"{role.name}_")
        assert option.get("description")
        assert "type" in option


def test_the_playbooks_variables_begin_with_their_word_and_are_described():
    for playbook in PLAYBOOKS:
        for name, option in playbook.options.items():
            assert name == playbook.name or name.startswith(f"{playbook.name}_")
            assert option.get("description")
            assert "type" in option


def test_playbooks_ask_for_the_variables_that_they_use():
    words = {name: playbook.name for playbook in PLAYBOOKS for name in playbook.options}
    for path in ROOT.glob("playbooks/*.yml"):
        text = path.read_text(encoding="utf-8")
        imported = re.findall(r"import_tasks: (\S+)", text)
        text += "".join((path.parent / name).read_text(encoding="utf-8") for name in imported)
        used = {words[name] for name in re.findall(r"__platform\.(\w+)", text) if name in words}
        asked = re.findall(r"playbook: \[(.*)\]", text)
        assert used == {word.strip() for words_ in asked for word in words_.split(",")}, path.name


def test_every_role_has_a_specification():
    assert [role.name for role in ROLES] == sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())


def test_the_dictionaries_of_clients_are_variables():
    assert CLIENT_OPTIONS.keys() <= OPTIONS.keys()


def shown(default: Any) -> str | None:
    """As the README's table has it; None where it may say it in words."""
    if isinstance(default, list) and all(isinstance(part, str) for part in default):
        return ", ".join(default)
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, dict | list) or "{{" in str(default):
        return None
    return str(default)


def test_the_table_of_the_readme():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split("## Variables that people change", 1)[1].split("\n## ", 1)[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("| `")
    ]
    assert len(rows) > 5
    for names, default, _what in rows:
        variables = re.findall("`([a-z_0-9]+)`", names)
        assert set(variables) <= OPTIONS.keys(), names
        values = [shown(DEFAULTS[name]) for name in variables]
        if None not in values:
            assert default == ", ".join(filter(None, values)), names


def test_variables_that_the_documents_name_are_known():
    """Such as those of the READMEs, the changelog and the examples."""
    texts = [*ROOT.glob("README*.md"), *ROOT.glob("roles/*/README.md"), *ROOT.glob("docs/**/*.md")]
    heads = tuple(f"{role.name}_" for role in [*ROLES, *PLAYBOOKS])
    others = {"data_services_chart", "data_services_policy", "mesh_authority", "mesh_identities"}  # tags
    others |= {"platform_forbidden_connection_open", "platform_restore_rehearsed_seconds"}  # series
    for path in texts:
        for name in re.findall(r"`([a-z][a-z0-9_]+)`", path.read_text(encoding="utf-8")):
            if name.startswith(heads) and not re.search(r"_(chart|policy|rollout|secret|validate)$", name):
                assert (
                    name in KNOWN
                    or name in others
                    or name in ("platform_image", "platform_flows", "platform_chart_values")
                ), f"{path.name}: {name}"


def used(path: Path) -> list[str]:
    """Variables that a file of a role or a playbook uses as they were given, where they may be texts."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        code = line.split(" # ")[0]
        if (
            code.lstrip().startswith("#")
            or "platform_kubeconfig | default(omit)" in code
            or "platform_context | default(omit)" in code
        ):
            continue
        expressions = re.findall(r"\{\{(.*)\}\}|\{%(.*)%\}|(?:when|that|until|failed_when): (.*)", code)
        found += [
            f"{path.relative_to(ROOT)}:{number} {name}"
            for parts in expressions
            for part in parts
            for name in NAME.findall(part)
        ]
    return found


def test_roles_and_playbooks_use_the_checked_values():
    files = [
        *ROOT.glob("roles/*/tasks/*.yml"),
        *ROOT.glob("roles/*/vars/*.yml"),
        *ROOT.glob("roles/*/templates/*"),
        *ROOT.glob("playbooks/**/*.yml"),
    ]
    assert len(files) > 20
    # What the local cluster's folder is where there is none.
    allowed = {"cluster_state_dir"}
    assert [place for path in files for place in used(path) if place.split()[-1] not in allowed] == []


def test_every_role_begins_with_its_variables():
    for role in ROLES:
        first = content(role / "tasks/main.yml")[0]
        assert "lambda_microservice.platform.variables" in first, role.name
        assert (first["register"], first["tags"]) == ("__platform", ["always"]), role.name


def test_defaults_that_count_or_are_another_role_s_are_made_of_checked_values():
    for role in ROLES:
        for name, default in content(role / "defaults/main.yml").items():
            for expression in re.findall(r"\{\{(.*?)\}\}", str(default)):
                bare = NAME.findall(expression)
                assert all(other.startswith(f"{role.name}_") for other in bare), name
                assert not bare or expression.strip() == bare[0], name

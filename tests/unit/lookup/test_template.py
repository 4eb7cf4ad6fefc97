"""The lookup gives what Ansible's own gives, and leaves the play's variables as they are."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import lookup_loader
from ansible.template import Templar, trust_as_template

TEXTS = {
    "plain.j2": "{% if wanted %}\nname: {{ name }}\n{% endif %}\n",
    "list.j2": "{% for one in items %}\n- {{ one | to_json }}\n{% endfor %}\n",
    "backslash.j2": "path: {{ path }} \\d {{ '\\\\n' }}\n",
    "side.j2": "{{ side | default('none') }} {{ name }}",
    "nested.j2": "{{ lookup(used, 'plain.j2') }}end\n",
    "yaml.j2": "{{ {'a': [1, name]} }}",
}


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "templates").mkdir()
    for name, text in TEXTS.items():
        (tmp_path / "templates" / name).write_text(text)
    # A variable that is itself a template, as those of a role are.
    seen = {"wanted": True, "items": ["a", 'b"', 3], "path": r"C:\d", "name": trust_as_template("{{ other }}")}
    return {**seen, "other": "it", "ansible_search_path": [str(tmp_path)]}


def looked_up(which: str, name: str, variables: dict[str, Any], **options: Any) -> list[Any]:
    seen = {**variables, "used": which}
    plugin = lookup_loader.get(which, loader=DataLoader(), templar=Templar(DataLoader(), seen))
    found: list[Any] = plugin.run([name], variables=seen, **options)
    return found


@pytest.mark.parametrize("name", TEXTS)
def test_it_gives_what_ansibles_own_gives(name: str, variables: dict[str, Any]) -> None:
    options = {"template_vars": {"side": "left"}} if name == "side.j2" else {}
    before = copy.deepcopy(variables)
    ours = looked_up("lambda_microservice.platform.template", name, variables, **options)
    assert ours == looked_up("ansible.builtin.template", name, variables, **options)
    assert variables == before


def test_a_file_that_is_missing_is_named(variables: dict[str, Any]) -> None:
    with pytest.raises(AnsibleError, match=r"no gone\.j2 in templates"):
        looked_up("lambda_microservice.platform.template", "gone.j2", variables)


def test_every_role_fills_in_its_templates_with_it() -> None:
    root = Path(__file__).resolve().parents[3]
    files = [path for folder in ("roles", "playbooks") for path in (root / folder).rglob("*.*") if path.is_file()]
    uses = [path for path in files if "ansible.builtin.template'" in path.read_text(errors="replace")]
    assert uses == []

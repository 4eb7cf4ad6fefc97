"""awx/configuration as the roles of infra.aap_configuration get it, and the surveys' answers as jobs do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

ROOT = Path(__file__).resolve().parents[3]
FORMS = yaml.safe_load((Path(__file__).parent / "forms.yml").read_text(encoding="utf-8"))
LISTS = [name for name in FORMS if name.startswith(("aap_", "controller_"))]
ENVIRONMENTS = ["staging", "production-eks", "production-gke"]

SITE = {
    "awx_project_url": "https://example.com/platform.git",
    "awx_clusters": {
        name: {"host": "https://api.example.com", "token": "t", "ca_certificate": "c", "edge_api_key": "k"}
        for name in ENVIRONMENTS
    },
    "awx_registry": {"host": "registry.example.com", "username": "u", "password": 'p"{{ x }}'},
    "awx_notifications": [
        {
            "name": "On duty",
            "organization": "Lambda platform",
            "notification_type": "slack",
            "notification_configuration": {"token": "t", "channels": ["#on-duty"]},
        }
    ],
}
"""What an operator would give (docs/awx.md)."""

LOADER = DataLoader()
PLAY = LOADER.load_from_file(str(ROOT / "awx/configure.yml"), trusted_as_template=True)[0]


def shared(**given: Any) -> dict[str, Any]:
    """The variables of configuration/shared.yml, evaluated."""
    return _evaluated("shared.yml", {**PLAY["vars"], **SITE, **given})


def environment(name: str = "staging", **given: Any) -> dict[str, Any]:
    """The variables of configuration/environment.yml for an environment, evaluated."""
    return _evaluated("environment.yml", {**PLAY["vars"], **SITE, "awx_environment": name, **given})


def _evaluated(file: str, variables: dict[str, Any]) -> dict[str, Any]:
    read = LOADER.load_from_file(str(ROOT / "awx/configuration" / file), trusted_as_template=True)
    templar = Templar(loader=LOADER, variables={**variables, **read})
    # What they are made of is read by them, as in a play: not all of it can be without awx_registry.
    wanted = {key: templar.template(value) for key, value in read.items() if key in LISTS or key.endswith("_roles")}
    # Without Ansible's own types.
    return json.loads(json.dumps(wanted))


def questions(template: dict[str, Any]) -> list[dict[str, Any]]:
    """The questions of a job template's survey."""
    return (template.get("survey_spec") or {}).get("spec", [])


def answer(question: dict[str, Any]) -> Any:
    """What AWX passes on where nobody answers: the default; texts and lists without one are empty, numbers left out."""
    kind, default = question["type"], question.get("default")
    if kind == "multiselect":
        return [line for line in (default or "").splitlines() if line]
    if kind in ("integer", "float"):
        return default if default != "" else None
    if kind == "multiplechoice":
        return default or None
    return default or ""

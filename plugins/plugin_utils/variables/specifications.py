# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the collection's roles and playbooks know: specifications, defaults and own variables, read from their files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from ansible.template import trust_as_template

SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

ROLES = Path(__file__).parents[3] / "roles"
PLAYBOOKS = Path(__file__).parents[3] / "playbooks"

CLIENT_OPTIONS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "data_services_redis_clients": {
        "namespaces": {"type": "list", "elements": "str"},
        "redis": {"type": "str"},
        "sentinel": {"type": "str"},
    },
    "data_services_postgresql_clients": {
        "namespaces": {"type": "list", "elements": "str"},
        "connections": {"type": "int", "required": True},
        "pool": {"type": "int", "required": True},
        "schemas": {"type": "list", "elements": "str"},
    },
}
"""The entries of dictionaries whose keys are names, which argument_specs.yml has no form for."""


class Role(NamedTuple):
    """A role of the collection, or what stands for one: the variables of playbooks that begin with ``name``.

    ``options`` are of a specification (meta/argument_specs.yml, of a role its entry point main), ``own`` are variables
    that nobody gives, and ``documented`` says where a user reads of them.
    """

    name: str
    path: Path
    options: Mapping[str, Mapping[str, Any]]
    defaults: Mapping[str, Any]
    own: Mapping[str, Any]
    documented: str


def read_roles(folder: Path = ROLES) -> list[Role]:
    """Every role that has a specification. Ansible's own loader takes ten times as long."""
    return [
        Role(
            path.parts[-3],
            path.parents[1],
            read_file(path)["argument_specs"]["main"]["options"],
            trusted(read_file(path.parents[1] / "defaults" / "main.yml")),
            trusted(read_file(path.parents[1] / "vars" / "main.yml")),
            f"ansible-doc -t role lambda_microservice.platform.{path.parts[-3]}",
        )
        for path in sorted(folder.glob("*/meta/argument_specs.yml"))
    ]


def read_playbooks(folder: Path = PLAYBOOKS) -> list[Role]:
    """What belongs to playbooks alone, in the form of roles."""
    specifications = read_file(folder / "meta" / "argument_specs.yml").get("argument_specs", {})
    return [
        Role(
            name,
            folder,
            specification["options"],
            {name: option["default"] for name, option in specification["options"].items() if "default" in option},
            {},
            "playbooks/meta/argument_specs.yml",
        )
        for name, specification in specifications.items()
    ]


def read_file(path: Path) -> Any:
    """What a YAML file of the collection has in it, as plain data."""
    # Libyaml's safe loader, where it is there.
    return (yaml.load(path.read_bytes(), Loader=SafeLoader) or {}) if path.exists() else {}  # noqa: S506


def may_be_template(value: Any) -> bool:
    """Whether a text in it could be a template of Ansible's."""
    if isinstance(value, str):
        return "{{" in value or "{%" in value
    if isinstance(value, Mapping):
        return any(may_be_template(part) for part in value.values())
    return isinstance(value, list) and any(may_be_template(part) for part in value)


def trusted(value: Any) -> Any:
    """What the collection's own files say may be a template."""
    if isinstance(value, str):
        return trust_as_template(value) if may_be_template(value) else value
    if isinstance(value, dict):
        return {key: trusted(part) for key, part in value.items()}
    return [trusted(part) for part in value] if isinstance(value, list) else value

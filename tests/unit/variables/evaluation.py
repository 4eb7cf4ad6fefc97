"""The roles' variables as the action plugin `variables` sees them, without a run of Ansible."""

from __future__ import annotations

from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables import contradictions
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.specifications import (
    Role,
    read_playbooks,
    read_roles,
)
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.values import evaluate

ROLES = read_roles()
PLAYBOOKS = read_playbooks()
OWN = {name: value for role in ROLES for name, value in role.own.items()}
DEFAULTS = {name: value for role in ROLES for name, value in role.defaults.items()}
OPTIONS = {name: option for role in ROLES for name, option in role.options.items()}
KNOWN = OPTIONS | {name: option for playbook in PLAYBOOKS for name, option in playbook.options.items()}
# A registry for the images that are ours, without which no set of variables is right.
# And a public edge asks for a proof, or says that it does not.
REGISTRY = {"platform_image_registry": "registry.example.com", "ingress_accept_anonymous": True}


def evaluated(_roles: list[Role] = ROLES, **given: Any) -> tuple[dict[str, Any], list[PlatformError]]:
    """The values by name, with ``given`` over the defaults; and what is wrong."""
    variables = {**DEFAULTS, **OWN, "ansible_playbook_python": "/usr/bin/python3", **REGISTRY, **given}

    def template(seen: dict[str, Any], value: Any) -> Any:
        return Templar(loader=DataLoader(), variables=seen).template(value)

    return evaluate(_roles, variables, template)


def found(**given: Any) -> list[PlatformError]:
    """What contradicts what, with ``given`` over the defaults, all of which have their types."""
    values, wrong = evaluated(**given)
    assert not wrong
    return contradictions.find(values, OWN)

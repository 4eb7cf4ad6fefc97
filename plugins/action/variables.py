# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give every role variable its specification's type, and name all that are wrong, unknown or contradict each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.lambda_microservice.platform.plugins.module_utils.chart import chart
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy import policy
from ansible_collections.lambda_microservice.platform.plugins.module_utils.preflight import preflight
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rollout import rollout
from ansible_collections.lambda_microservice.platform.plugins.module_utils.secret import secret
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils import in_process
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables import contradictions
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.specifications import (
    read_playbooks,
    read_roles,
)
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.unknown import find_unknown
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.values import CHECKED, evaluate

IMPORTED = (chart, in_process, policy, preflight, rollout, secret)
"""Not used here. Ansible imports this plugin before it makes a process for each task: the modules that run in those
find themselves imported, and the Kubernetes client, which takes half a second (plugin_utils/in_process.py)."""

SPEC = {
    "contradictions": {"type": "bool", "default": True},
    "images": {"type": "bool", "default": True},
    "stop": {"type": "bool", "default": True},
    "playbook": {"type": "list", "elements": "str", "default": []},
}


class ActionModule(ActionBase):
    """See plugins/modules/variables.py for its documentation."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """The values by name, for ``register: __platform``."""
        result = super().run(tmp, task_vars)
        dummy, arguments = self.validate_argument_spec(argument_spec=SPEC)
        given = task_vars or {}
        # Not shown with -v: what users give their programs may be secret.
        quiet = {"changed": False, "_ansible_no_log": True}
        before = given.get(CHECKED)
        # A playbook that was left out leaves the result of a task that was skipped.
        if isinstance(before, Mapping) and "inputs" in before:
            # A role that is called with variables of its own leaves the playbook what it has.
            arguments["playbook"] = sorted({*arguments["playbook"], *before["inputs"]["playbook"]})
            if not before.get("problems") and _holds(before, given, arguments):
                result.update({**before, **quiet})
                return result
        playbooks = read_playbooks()
        everybody = read_roles() + playbooks
        # A playbook's own may need what another has not, such as a vault.
        roles = [role for role in everybody if role not in playbooks or role.name in arguments["playbook"]]
        own = {name: value for role in roles for name, value in role.own.items()}
        defaults = {name: value for role in roles for name, value in role.defaults.items()}
        variables = {**defaults, **own, **given}
        known = {name for role in everybody for name in role.options} | defaults.keys() | own.keys()
        checked, errors = evaluate(roles, variables, self._template)
        if checked.get("platform_unknown_variables") != "allow":
            # A word that is a whole variable (component) begins no other's name.
            words = [role.name for role in everybody if role.name not in role.options]
            errors += find_unknown(_names(given), words, known)
        if arguments["contradictions"]:
            errors += contradictions.find(checked, own, arguments["images"])
        told = [{**each.parts(), **each.details} for each in errors]
        if errors and arguments["stop"]:
            error = PlatformError.of_many("the variables are wrong, and nothing was changed", errors)
            result.update({"failed": True, "msg": str(error), "reason": error.reason, "errors": told})
            return result
        inputs = {name: _digest(variables[name]) for name in _names(given) | defaults.keys()}
        changed = sorted(name for name in _names(given) & defaults.keys() if given[name] != defaults[name])
        result.update(
            {**checked, **quiet, "problems": told, "inputs": {"digests": inputs, "given": changed, **arguments}}
        )
        return result

    def _template(self, variables: dict[str, Any], value: Any) -> Any:
        return self._templar.copy_with_new_env(available_variables=variables).template(value)


def _holds(before: Mapping[str, Any], given: Mapping[str, Any], arguments: Mapping[str, Any]) -> bool:
    """Whether an earlier task has looked at the same values: each role asks again, as it may be called with its own."""
    inputs = before["inputs"]
    if any(arguments[name] > inputs[name] for name in ("contradictions", "images")):
        return False
    if arguments["playbook"] != inputs["playbook"]:
        return False
    digests = inputs["digests"]
    return all(name in given for name in inputs["given"]) and all(
        digests.get(name) == _digest(given[name]) for name in _names(given)
    )


def _names(given: Mapping[str, Any]) -> set[str]:
    """What a user may have given: neither Ansible's own variables, nor those inside of the roles."""
    return {name for name in given if not name.startswith(("_", "ansible_")) and name not in _MAGIC}


_MAGIC = frozenset(
    ("environment", "group_names", "groups", "hostvars", "inventory_dir", "inventory_file", "inventory_hostname")
    + ("inventory_hostname_short", "omit", "parent_role_names", "parent_role_paths", "play_hosts", "playbook_dir")
    + (
        "platform_chart_values",
        "platform_flows",
        "platform_image",
        "role_name",
        "role_names",
        "role_path",
        "role_uuid",
        "vars",
    )
)


def _digest(value: Any) -> int:
    return hash(repr(value))

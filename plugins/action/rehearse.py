# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the module ``rehearse`` with what the play knows: the plan, its variables, its command line's inventories."""

from __future__ import annotations

import json
from typing import Any

from ansible import context
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.plan import PlannedAction
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.specifications import ROLES
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.values import CHECKED


class ActionModule(PlannedAction):
    """See plugins/modules/rehearse.py for its documentation."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """The module's result; what the task does not give is the play's."""
        seen, given = task_vars or {}, self._task.args
        checked = seen.get(CHECKED) or {}
        given.setdefault("variables", {name: value for name, value in checked.items() if name != "inputs"})
        given.setdefault("node_pools", checked.get("platform_node_pools") or [])
        given.setdefault("own_node_types", checked.get("platform_node_types") or {})
        given.setdefault("node_types", str(ROLES / "platform/files/capacity/node_types.yml"))
        given.setdefault("clouds", str(ROLES / "platform/files/rehearsal"))
        given.setdefault("stages", str(ROLES / "platform/files/rehearsal/stages.yml"))
        given.setdefault("helm_binary", checked.get("platform_helm_binary") or "helm")
        given.setdefault("arguments", command_line(context.CLIARGS, seen.get("ansible_inventory_sources") or []))
        if "components" not in given:
            given["components"] = self.planned_or_why(seen)
        return super().run(tmp, task_vars)


def command_line(given: Any, inventories: Any) -> list[str]:
    """The options of ansible-playbook by which site.yml reads what this play has read."""
    found: list[str] = []
    for source in inventories:
        found += ["--inventory", str(source)]
    for extra in given.get("extra_vars") or ():
        found += ["--extra-vars", extra if isinstance(extra, str) else json.dumps(extra)]
    for identity in given.get("vault_ids") or ():
        found += ["--vault-id", str(identity)]
    for file in given.get("vault_password_files") or ():
        found += ["--vault-password-file", str(file)]
    return found

# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the module ``preflight`` with what the play knows: the plan, its variables and the table of versions."""

from __future__ import annotations

import contextlib
from typing import Any

from ansible.errors import AnsibleError
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.plan import PlannedAction
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.specifications import (
    ROLES,
    read_roles,
)
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.values import CHECKED


class ActionModule(PlannedAction):
    """See plugins/modules/preflight.py for its documentation."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """The module's result; what the task does not give is the play's."""
        seen, given = task_vars or {}, self._task.args
        checked = seen.get(CHECKED) or {}
        given.setdefault("variables", {name: value for name, value in checked.items() if name != "inputs"})
        given.setdefault("node_types", str(ROLES / "platform/files/capacity/node_types.yml"))
        given.setdefault("ignore", checked.get("preflight_ignore", []))
        if "components" not in given:
            # Secrets are made in namespaces that releases are in: their rights are asked for with those.
            given["components"] = self.planned_or_why(seen, ("chart", "policy"))
        if "versions" not in given:
            own = next(role.own for role in read_roles() if role.name == "platform")
            # Of a value that is wrong, the task before has told.
            with contextlib.suppress(AnsibleError):
                rows = self.template({**own, **seen}, own["__platform_versions"])
                given["versions"] = [row for row in rows if row["wanted"]]
        return super().run(tmp, task_vars)

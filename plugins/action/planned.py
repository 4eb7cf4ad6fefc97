# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the modules that look at what site.yml would do: they get the plan (plugin_utils/plan.py) as ``components``."""

from __future__ import annotations

from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.plan import PlannedAction
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.values import CHECKED


class ActionModule(PlannedAction):
    """By the logic of the module that the task names."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """The module's result, for the components that the task names or, without them, for those of site.yml."""
        seen = task_vars or {}
        if "components" not in self._task.args and CHECKED in seen:
            self._task.args["components"] = self.planned_or_why(seen)
        return super().run(tmp, task_vars)

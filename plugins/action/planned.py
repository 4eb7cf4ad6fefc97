# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the modules that look at what site.yml would do: they get the plan (plugin_utils/plan.py) as ``components``."""

from __future__ import annotations

import importlib
from functools import cached_property
from types import ModuleType
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.in_process import InProcessAction
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.plan import plan
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.specifications import read_roles
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.values import CHECKED

_SUBJECTS = "ansible_collections.lambda_microservice.platform.plugins.module_utils"


class ActionModule(InProcessAction):
    """The logic of the module that the task names, by module_utils/NAME/NAME.py."""

    @cached_property
    def LOGIC(self) -> ModuleType:
        """Imported where it runs."""
        name = self._task.action.rpartition(".")[2]
        return importlib.import_module(f"{_SUBJECTS}.{name}.{name}")

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """The module's result, for the components that the task names or, without them, for those of site.yml."""
        seen = task_vars or {}
        if "components" not in self._task.args and CHECKED in seen:
            self._task.args["components"] = plan(read_roles(), seen, seen[CHECKED], self._template, self._holds)
        return super().run(tmp, task_vars)

    def _template(self, variables: dict[str, Any], value: Any) -> Any:
        return self._templar.copy_with_new_env(available_variables=variables).template(value)

    def _holds(self, variables: dict[str, Any], condition: Any) -> bool:
        return bool(self._templar.copy_with_new_env(available_variables=variables).evaluate_conditional(condition))

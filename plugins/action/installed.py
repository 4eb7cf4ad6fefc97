# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the modules that look at, undo or remove what is installed: they get the whole plan as ``components``.

Some of what the roles render depends on what their tasks found in the cluster (a certificate's end, an authority). So
the tasks that make Secrets and those that wait are played in check mode while the plan is made.
"""

from __future__ import annotations

import importlib
import json
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.json import Direction, get_module_encoder
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.in_process import SUBJECTS
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.plan import PlannedAction
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.values import CHECKED

_PLAYED = ("secret", "rollout")


class ActionModule(PlannedAction):
    """By the logic of the module that the task names."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """The module's result, for the components that the task gives or, without them, for those of site.yml."""
        seen = task_vars or {}
        if "components" not in self._task.args and CHECKED in seen:
            self._task.args["components"] = self.installed(seen, self._registered)
        return super().run(tmp, task_vars)

    def _registered(self, module: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """What the task would register now; nothing where it would fail, which the module itself tells."""
        if module not in _PLAYED:
            return {}
        logic = importlib.import_module(f"{SUBJECTS}.{module}.{module}")
        access = {name: value for name, value in self._task.args.items() if name in logic.auth_argument_spec()}
        text = json.dumps({**arguments, **access}, cls=get_module_encoder("legacy", Direction.CONTROLLER_TO_MODULE))
        validation = ArgumentSpecValidator(logic.ARGUMENT_SPEC).validate(json.loads(text))
        if validation.error_messages:
            return {}
        try:
            return logic.run(validation.validated_parameters, check_mode=True, diff=False)
        except PlatformError:
            return {}

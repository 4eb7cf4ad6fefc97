# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the modules that meta/runtime.yml names this for; plugin_utils/in_process.py says why."""

from __future__ import annotations

import importlib
from functools import cached_property
from types import ModuleType

from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.in_process import InProcessAction

_SUBJECTS = "ansible_collections.lambda_microservice.platform.plugins.module_utils"


class ActionModule(InProcessAction):
    """The logic of the module that the task names, by module_utils/NAME/NAME.py."""

    @cached_property
    def LOGIC(self) -> ModuleType:
        """Imported where it runs here: with it comes the Kubernetes client, which takes half a second."""
        name = self._task.action.rpartition(".")[2]
        return importlib.import_module(f"{_SUBJECTS}.{name}.{name}")

# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a module's logic inside the controller process instead of packing it up for another Python.

On ``localhost`` with a local connection, packing the module, starting an interpreter and importing the Kubernetes
client would cost more than a second for each task, ten times what the logic itself takes. Whatever asks for another
place or another identity (a remote connection, another interpreter, become, async, an environment) gets the ordinary
module, which runs the same logic.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from types import ModuleType
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.json import Direction, get_module_encoder
from ansible.module_utils.common.parameters import remove_values
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError

display = Display()

IN_PROCESS_VARIABLE = "platform_modules_in_process"
"""Set it to false to run the modules as any other module is run."""


class InProcessAction(ActionBase):
    """Base of the action plugins. A subclass names its logic: a module_utils module with ``ARGUMENT_SPEC`` (and, as
    needed, ``REQUIRED_IF`` and the like) and ``run(params, check_mode, diff, progress) -> dict``.
    """

    TRANSFERS_FILES = False
    LOGIC: ModuleType

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """The module's result."""
        task_vars = task_vars or {}
        if not self._may_run_here(task_vars):
            return self._execute_module(task_vars=task_vars, wrap_async=bool(self._task.async_val))
        result = super().run(tmp, task_vars)
        params, secrets, warnings = self._validated()
        try:
            outcome = self.LOGIC.run(
                params, check_mode=bool(self._task.check_mode), diff=bool(self._task.diff), progress=_Progress()
            )
        except PlatformError as error:
            outcome = {"failed": True, **error.result()}
        if warnings:
            outcome["warnings"] = [*outcome.get("warnings", []), *warnings]
        # The module of the same name would go through exit_json, which hides the values of no_log arguments.
        if not getattr(self.LOGIC, "RESULT_NEEDS_NO_MASKING", False):
            outcome = remove_values(outcome, secrets)
        result.update(outcome)
        return result

    def _may_run_here(self, task_vars: dict[str, Any]) -> bool:
        if self._connection.transport != "local" or self._connection.become or self._task.async_val:
            return False
        if any(self._task.environment or []):
            return False
        interpreter = task_vars.get("ansible_python_interpreter")
        if self._task.delegate_to:
            delegated = (task_vars.get("ansible_delegated_vars") or {}).get(self._task.delegate_to) or {}
            interpreter = delegated.get("ansible_python_interpreter", interpreter)
        if interpreter is not None:
            interpreter = str(self._templar.template(interpreter))
        if not _is_this_python(interpreter):
            return False
        wanted = task_vars.get(IN_PROCESS_VARIABLE, True)
        return boolean(self._templar.template(wanted), strict=False)

    def _validated(self) -> tuple[dict[str, Any], set[str], list[str]]:
        # The same bytes that a module would be sent: tags are dropped, vaulted strings decrypted, dates made strings.
        sent = json.dumps(dict(self._task.args), cls=get_module_encoder("legacy", Direction.CONTROLLER_TO_MODULE))
        rules = {
            name: getattr(self.LOGIC, name.upper(), None)
            for name in ("mutually_exclusive", "required_together", "required_one_of", "required_if", "required_by")
        }
        validation = ArgumentSpecValidator(self.LOGIC.ARGUMENT_SPEC, **rules).validate(json.loads(sent))
        if validation.error_messages:
            raise AnsibleActionFail(validation.errors.msg, obj=self._task.args)
        warnings = [
            "%s is given both as %s and by its alias %s" % (entry["option"], entry["option"], entry["alias"])
            for entry in getattr(validation, "_warnings", [])
        ]
        return validation.validated_parameters, set(validation._no_log_values), warnings


class _Progress:
    """Shows a line at once; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __call__(self, line: str) -> None:
        with self._lock:
            display.display("  " + line)


def _is_this_python(interpreter: str | None) -> bool:
    """Whether a task that asks for this interpreter can be run by the process that we are in."""
    if interpreter is None or interpreter in ("auto", "auto_silent", "auto_legacy", "auto_legacy_silent"):
        return True
    # Not realpath: a virtual environment's python is a link to one that has other packages.
    return os.path.abspath(interpreter) == os.path.abspath(sys.executable)

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

import contextlib
import hashlib
import importlib
import json
import os
import sys
import threading
from functools import cached_property
from types import ModuleType
from typing import Any

from ansible import constants
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.json import Direction, get_module_encoder
from ansible.module_utils.common.parameters import remove_values
from ansible.module_utils.errors import UnsupportedError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.plugins.callback.default import CallbackModule as ForPeople
from ansible.plugins.loader import callback_loader
from ansible.utils.display import Display
from ansible_collections.lambda_microservice.platform.plugins.module_utils.module import (
    hidden_values,
    result_of,
    rules_of,
)

display = Display()

SUBJECTS = "ansible_collections.lambda_microservice.platform.plugins.module_utils"

IN_PROCESS_VARIABLE = "platform_modules_in_process"
"""Set it to false to run the modules as any other module is run."""


class InProcessAction(ActionBase):
    """Base of the action plugins."""

    TRANSFERS_FILES = False

    @cached_property
    def LOGIC(self) -> ModuleType:
        """module_utils/NAME/NAME.py of the module that the task names; module_utils/module.py says what is in it.

        Imported where it runs here: with it comes the Kubernetes client, which takes half a second.
        """
        name = self._task.action.rpartition(".")[2]
        return importlib.import_module(f"{SUBJECTS}.{name}.{name}")

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """The module's result."""
        task_vars = task_vars or {}
        if not self._may_run_here(task_vars):
            return self._execute_module(task_vars=task_vars, wrap_async=bool(self._task.async_val))
        result = super().run(tmp, task_vars)
        # The same bytes that a module would be sent: tags are dropped, vaulted strings decrypted, dates made strings.
        sent = json.dumps(dict(self._task.args), cls=get_module_encoder("legacy", Direction.CONTROLLER_TO_MODULE))
        validation = ArgumentSpecValidator(self.LOGIC.ARGUMENT_SPEC, **rules_of(self.LOGIC)).validate(json.loads(sent))
        if validation.error_messages:
            # As AnsibleModule says it.
            unsupported = isinstance(validation.errors[0], UnsupportedError)
            begin = f"Unsupported parameters for ({self._task.action}) module: " if unsupported else ""
            return {**result, "failed": True, "msg": begin + validation.errors.msg}
        params, no_log_values = validation.validated_parameters, validation._no_log_values
        progress = Progress(hidden_values(self.LOGIC, params, no_log_values), silent=bool(self._task.no_log))
        outcome = result_of(
            self.LOGIC,
            params,
            no_log_values,
            check_mode=bool(self._task.check_mode),
            diff=bool(self._task.diff),
            verbosity=display.verbosity,
            progress=progress,
            connected=lambda cluster: self._name(cluster, progress),
        )
        twice = [
            "Both option %s and its alias %s are set." % (entry["option"], entry["alias"])
            for entry in getattr(validation, "_warnings", [])
        ]
        if twice:
            outcome["warnings"] = [*twice, *outcome.get("warnings", [])]
        result.update(outcome)
        return result

    def _name(self, cluster: Any, progress: Progress) -> None:
        """Say once in a play which cluster it works on."""
        play = getattr(self._task.get_play(), "_uuid", "")
        which = [play, cluster.host, *(self._task.args.get(name) for name in ("kubeconfig", "context"))]
        mark = "cluster-" + hashlib.sha256(repr(which).encode()).hexdigest()
        # Each task is a process of its own, and this folder belongs to the run: who makes the file is the first.
        with contextlib.suppress(FileExistsError):
            os.close(os.open(os.path.join(constants.DEFAULT_LOCAL_TMP, mark), os.O_CREAT | os.O_EXCL, 0o600))
            progress(f"cluster: {cluster.described()}")

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


class Progress:
    """Shows a line at once, without the ``hidden`` values; threads may share it.

    Programs read what another callback than Ansible's default one (and those that are made from it) prints, such as
    ``ansible.posix.json``: the lines go to stderr then.
    """

    def __init__(self, hidden: set[str], silent: bool = False) -> None:
        self._hidden = hidden
        self._silent = silent
        self._to_stderr = not stdout_is_for_people()
        self._lock = threading.Lock()

    def __call__(self, line: str) -> None:
        """Show the line, unless the task's ``no_log`` forbids it."""
        if self._silent:
            return
        with self._lock:
            display.display("  " + remove_values(line, self._hidden), stderr=self._to_stderr)


def stdout_is_for_people() -> bool:
    """Whether lines between those of the stdout callback disturb nobody."""
    found = callback_loader.get_with_context(constants.DEFAULT_STDOUT_CALLBACK, class_only=True).object
    return isinstance(found, type) and issubclass(found, ForPeople)


def _is_this_python(interpreter: str | None) -> bool:
    """Whether a task that asks for this interpreter can be run by the process that we are in."""
    if interpreter is None or interpreter in ("auto", "auto_silent", "auto_legacy", "auto_legacy_silent"):
        return True
    # Not realpath: a virtual environment's python is a link to one that has other packages.
    return os.path.abspath(interpreter) == os.path.abspath(sys.executable)

# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a long command on the control node and show its lines while it runs.

``ansible.builtin.command`` shows nothing until a command ends, which for a twenty-minute build looks like a hang.
"""

from __future__ import annotations

import os
import re
import signal
from collections import deque
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.interruption import (
    Interrupted,
    interruptible,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.programs import Programs
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.in_process import Progress

SPEC = {
    "argv": {"type": "list", "elements": "str", "required": True},
    "chdir": {"type": "path"},
    "environment": {"type": "dict", "default": {}},
    "check_argv": {"type": "list", "elements": "str"},
    "timeout_seconds": {"type": "int", "default": 3600},
}

# A command that cannot show progress by whole lines draws bars with carriage returns and colours.
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
_KEPT_LINES = 40


class ActionModule(ActionBase):
    """Shows stdout and stderr line by line; the task has changed something if the command printed anything."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run argv (check_argv in check mode) and return stdout lines, rc and changed."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        dummy, args = self.validate_argument_spec(argument_spec=SPEC)
        argv = args["argv"]
        if self._task.check_mode:
            if not args["check_argv"]:
                result.update(skipped=True, msg="not run in check mode: %s" % " ".join(argv))
                return result
            argv = args["check_argv"]

        progress = Progress(set(), silent=bool(self._task.no_log))
        lines: deque[str] = deque(maxlen=_KEPT_LINES)

        def show(raw: str) -> None:
            line = _CONTROL.sub("", raw).rstrip()
            if line:
                lines.append(line)
                progress(line)

        environment = {key: str(value) for key, value in args["environment"].items()}
        try:
            with interruptible(), Programs() as programs:
                rc = programs.follow(argv, show, args["chdir"], environment, args["timeout_seconds"])
        except Interrupted as interrupted:
            # All is ended: what would have happened without us happens now.
            signal.raise_signal(interrupted.number)
            raise
        except PlatformError as error:
            if error.reason != "timeout":
                return {**result, "failed": True, **error.result()}
            rc, why = -signal.SIGTERM, "took longer than %d s and was ended" % args["timeout_seconds"]
        else:
            why = "ended with %d" % rc

        result.update(changed=bool(lines), rc=rc)
        if rc == 0:
            result["stdout_lines"] = list(lines)
        else:
            # Ansible shows a failure's message in spite of no_log.
            tail = "hidden, as no_log is set" if self._task.no_log else "\n" + "\n".join(list(lines)[-12:])
            result.update(failed=True, msg="%s %s. Its last lines: %s" % (os.path.basename(argv[0]), why, tail))
        return result

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
import subprocess
import threading
from collections import deque

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

display = Display()

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

    def run(self, tmp=None, task_vars=None):
        """Run argv (check_argv in check mode) and return stdout lines, rc and changed."""
        result = super().run(tmp, task_vars)
        dummy, args = self.validate_argument_spec(argument_spec=SPEC)
        argv = args["argv"]
        if self._task.check_mode:
            if not args["check_argv"]:
                result.update(skipped=True, msg="not run in check mode: %s" % " ".join(argv))
                return result
            argv = args["check_argv"]

        environment = dict(os.environ, **{key: str(value) for key, value in args["environment"].items()})
        try:
            process = subprocess.Popen(
                argv,
                cwd=args["chdir"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            raise AnsibleActionFail("cannot run %s: %s" % (argv[0], error)) from error

        expired = threading.Event()

        def expire():
            expired.set()
            os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(args["timeout_seconds"], expire)
        timer.daemon = True
        timer.start()
        lines: deque[str] = deque(maxlen=_KEPT_LINES)
        try:
            for raw in process.stdout:
                line = _CONTROL.sub("", raw).rstrip()
                if line:
                    lines.append(line)
                    display.display("  " + line)
            rc = process.wait()
        except BaseException:
            # Ctrl-C must not leave a build running behind the user's back.
            os.killpg(process.pid, signal.SIGTERM)
            raise
        finally:
            timer.cancel()

        result.update(changed=bool(lines), rc=rc)
        if rc == 0:
            result["stdout_lines"] = list(lines)
        else:
            limit = args["timeout_seconds"]
            why = "took longer than %d s and was ended" % limit if expired.is_set() else "ended with %d" % rc
            tail = "\n".join(list(lines)[-12:])
            result.update(failed=True, msg="%s %s. Its last lines:\n%s" % (os.path.basename(argv[0]), why, tail))
        return result

# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: steps
type: aggregate
short_description: Say before each step how long it took last time
version_added: 0.2.0
description:
  - C(make demo) enables it. At the beginning it tells what the whole took last time, at each playbook and each long
    task what these took, apart for a run that changed something and one that did not.
  - A run that is ended keeps what its finished tasks took. What failed or was skipped does not count.
author:
  - Lambda Microservice Platform team (@lambda-microservice-platform)
requirements:
  - C(lambda_microservice.platform.steps) in the setting C(callbacks_enabled)
options:
  file:
    description:
      - The JSON file that durations are kept in.
      - Without it, C(lambda-microservice-platform/steps.json) in the user's cache folder, for all checkouts.
    type: path
    env:
      - name: LAMBDA_STEPS_FILE
"""

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

from ansible import context
from ansible.plugins.callback import CallbackBase

LONG_SECONDS = 5.0
"""A task that never took longer is not told of."""
_KEPT_SECONDS = 0.5

UNCHANGED = "unchanged"
CHANGED = "changed"


def shown(seconds: float) -> str:
    """``0.4 s``, ``53 s`` or ``16 min 4 s``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def told(times: dict[str, float]) -> str:
    """What something took; empty where it was never done."""
    parts = [
        f"{shown(times[kind])} where {said}"
        for kind, said in ((CHANGED, "something changed"), (UNCHANGED, "nothing did"))
        if kind in times
    ]
    return ", ".join(parts)


class Times:
    """Durations by the name of a step and by whether it changed something, in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._times: dict[str, dict[str, float]] = {}
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
            read = json.loads(path.read_text(encoding="utf-8"))
            self._times = {
                str(name): {kind: float(times[kind]) for kind in (CHANGED, UNCHANGED) if kind in times}
                for name, times in read.items()
            }

    def of(self, name: str) -> dict[str, float]:
        """What is known of a step."""
        return self._times.get(name, {})

    def note(self, name: str, changed: bool, seconds: float) -> None:
        """Keep it. A file that cannot be written is no reason to fail."""
        self._times.setdefault(name, {})[CHANGED if changed else UNCHANGED] = round(seconds, 1)
        arriving = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            arriving.write_text(json.dumps(self._times, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            # Whole or not at all, whoever else does the same.
            arriving.replace(self.path)


class _Step:
    """What has begun and not ended."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.began = time.monotonic()
        self.ran = self.changed = self.failed = False

    def seconds(self) -> float:
        return time.monotonic() - self.began


class CallbackModule(CallbackBase):
    """What Ansible calls."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "lambda_microservice.platform.steps"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._playbooks = [Path(name).stem for name in context.CLIARGS.get("args") or ()]
        self._count = 0
        self._play = ""
        self._whole = _Step("all of: " + ", ".join(self._playbooks))
        self._part: _Step | None = None
        self._task: _Step | None = None

    def set_options(self, *args: Any, **kwargs: Any) -> None:
        """With the file of durations."""
        super().set_options(*args, **kwargs)
        home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        self._times = Times(Path(self.get_option("file") or f"{home}/lambda-microservice-platform/steps.json"))

    def _say(self, text: str) -> None:
        self._display.display(text)

    def _end(self, step: _Step | None) -> None:
        if step is None or not step.ran or step.failed:
            return
        seconds = step.seconds()
        # Of the many that take no time only a file would grow.
        if seconds >= _KEPT_SECONDS or self._times.of(step.name):
            self._times.note(step.name, step.changed, seconds)

    def _steps(self) -> list[_Step]:
        return [step for step in (self._whole, self._part, self._task) if step is not None]

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """One of those that the command names."""
        self._end_part()
        if not self._count and len(self._playbooks) > 1:
            before = told(self._times.of(self._whole.name)) or "not known, it was never done to its end here"
            self._say(f"{len(self._playbooks)} steps: {', '.join(self._playbooks)}. How long last time: {before}.")
        self._count += 1
        name = Path(playbook._file_name).stem
        self._part = _Step(f"playbook {name}")
        before = told(self._times.of(self._part.name))
        if len(self._playbooks) > 1:
            self._say(f"Step {self._count} of {len(self._playbooks)}, {name}" + (f": {before}" if before else ""))

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Tasks of several plays have the same name."""
        self._play = play.get_name()

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """And the end of the task before."""
        self._end(self._task)
        self._task = _Step(f"{self._play}: {task.get_name()}")
        before = self._times.of(self._task.name)
        if max(before.values(), default=0) >= LONG_SECONDS:
            self._say(f"(last time: {told(before)})")

    def v2_runner_on_ok(self, result: Any) -> None:
        """Of a task, on a host."""
        for step in self._steps():
            step.ran = True
            step.changed |= bool(result._result.get("changed"))

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """What an error took says nothing."""
        for step in self._steps():
            step.failed |= not ignore_errors or step is self._task

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """The end of a playbook."""
        self._end_part()
        # Ansible has statistics of each playbook.
        if self._count == len(self._playbooks) > 1:
            self._end(self._whole)
            self._say(f"It took {shown(self._whole.seconds())}.")

    def _end_part(self) -> None:
        for step in (self._task, self._part):
            self._end(step)
        self._task = self._part = None

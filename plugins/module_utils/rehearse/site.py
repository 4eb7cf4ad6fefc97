# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs site.yml as a program of its own, with the inventory that is rehearsed and a few variables over its own."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.programs import Programs

NOT_SERVED = ("metrics",)
"""Checks of preflight that no simulated cluster can pass; the report names what they would have looked at."""

OWN_IMAGES = (
    *("controller", "runtime-nodejs", "runtime-python", "runtime-rust", "postgresql"),
    *("kube-state-exporter", "openfaas-compatible"),
)
"""Those without an upstream, which an inventory has to have built."""

ROLLOUT_SECONDS = 180

_SHOWN = re.compile(r"^(TASK \[|fatal:|PLAY RECAP|\s+rollout:|\[ERROR\]|failed:)")
_LAST_LINES = 20


def images(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """A made-up table of what playbooks/images.yml would have built and pushed: nobody pulls anything."""
    return {
        name: {
            "repository": f"registry.rehearsal.invalid/{name}",
            "digest": "sha256:" + hashlib.sha256(name.encode()).hexdigest(),
        }
        for name in names
    }


def overrides(kubeconfig: str, context: str, images_file: str, ignore: Iterable[str]) -> dict[str, Any]:
    """The variables that stand over the inventory's. Everything else is the inventory's own."""
    return {
        "platform_kubeconfig": kubeconfig,
        "platform_context": context,
        "platform_images_file": images_file,
        "preflight_ignore": sorted({*ignore, *NOT_SERVED}),
        # Nothing is pulled and no load balancer registers anybody: who does not come in this time does not come.
        "platform_rollout_timeout_seconds": ROLLOUT_SECONDS,
        # Of a simulated control plane nobody would answer who gets a proxy, and no pod would be let in.
        "mesh_enabled": False,
    }


class Site:
    """One run of it. ``arguments`` are those of the command line that is rehearsed: inventories, variables, vaults."""

    def __init__(
        self, playbook: str, arguments: list[str], folder: str, over: dict[str, Any], progress: Callable[[str], None]
    ) -> None:
        self.playbook = playbook
        self.arguments = arguments
        self.folder = folder
        self.over = over
        self.progress = progress

    def run(self, timeout_seconds: float) -> float:
        """To its end; the seconds it took. Raises where it fails, with its last lines."""
        began = time.monotonic()
        lines: list[str] = []

        def heard(line: str) -> None:
            lines.append(line.rstrip())
            if _SHOWN.match(line):
                self.progress(line.rstrip().rstrip("*").rstrip())

        # A kubeconfig of the environment or of AWX names another cluster than the simulated one.
        hidden = [name for name in os.environ if name.startswith("K8S_AUTH_") or name == "KUBECONFIG"]
        kept = {name: os.environ.pop(name) for name in hidden}
        try:
            with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file, Programs() as programs:
                json.dump(self.over, file)
                file.flush()
                argv = [_program(), *self.arguments, "--extra-vars", f"@{file.name}", self.playbook]
                code = programs.follow(
                    argv,
                    heard,
                    self.folder,
                    {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0", "PYTHONUNBUFFERED": "1"},
                    timeout_seconds,
                )
        finally:
            os.environ.update(kept)
        if code != 0:
            raise PlatformError(
                "site.yml does not come to its end on the simulated cluster",
                where=self.playbook,
                found="it ended with %s: %s" % (code, _said(lines)),
                expected="a run as against the cluster itself",
                fix="correct what it says, in the inventory or in a role",
                reason="rollout",
            )
        return round(time.monotonic() - began, 1)


def _said(lines: list[str]) -> str:
    """What Ansible says of the task that failed, or its last lines."""
    errors = [line.partition("Task failed: ")[2] for line in lines if line.startswith("[ERROR]: Task failed: ")]
    return errors[-1].removeprefix("Action failed: ") if errors else "\n".join(lines[-_LAST_LINES:])


def _program() -> str:
    beside = Path(sys.executable).with_name("ansible-playbook")
    return str(beside) if beside.exists() else "ansible-playbook"

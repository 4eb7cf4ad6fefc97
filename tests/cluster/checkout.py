"""What the tests use of the checkout that they are in: its images, its charts and its playbooks, run as a person does.

INVENTORY is the inventory of the platform, if not the local one; IMAGES the table of the images that were built for it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHARTS = ROOT / "roles" / "data_services" / "files" / "charts"
INVENTORY = os.environ.get("INVENTORY", "inventories/local")
IMAGES = Path(os.environ.get("IMAGES", ROOT / ".local" / "images.json"))


def image(name: str) -> str:
    """The reference of one of the images that were built for the local cluster."""
    built = json.loads(IMAGES.read_text(encoding="utf-8"))[name]
    return "{repository}:{tag}".format(**built)


def run(
    *command: str | Path, given: str | None = None, check: bool = True, seconds: float = 400
) -> subprocess.CompletedProcess[str]:
    """A program, which must succeed unless ``check`` is False."""
    done = subprocess.run(command, cwd=ROOT, input=given, capture_output=True, text=True, timeout=seconds, check=False)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Waits until it holds, and fails where it does not within that time."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.5)


def start_playbook(path: str, *options: str | Path, **variables: Any) -> subprocess.Popen[str]:
    """The playbook as a group of processes of its own, which os.killpg ends together."""
    command = [Path(sys.executable).with_name("ansible-playbook"), "--inventory", INVENTORY, path, *options]
    # The inventory names the cluster; an environment of the tests must not lead elsewhere.
    environment = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
    return subprocess.Popen(
        [*command, "--extra-vars", json.dumps(variables)],
        cwd=ROOT,
        env={**environment, "ANSIBLE_NOCOLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def playbook(path: str, *options: str | Path, **variables: Any) -> tuple[int, str]:
    """The playbook's exit code, and what it said in one line: Ansible breaks its lines anywhere."""
    with start_playbook(path, *options, **variables) as process:
        try:
            said, _ = process.communicate(timeout=900)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, " ".join(said.split())


def helm_upgrade(chart: str, namespace: str, kubeconfig: str, values: dict[str, Any]) -> None:
    """``helm upgrade --install`` of one of the role's charts with these values alone."""
    options = ("--namespace", namespace, "--values", "-", "--kubeconfig", kubeconfig)
    run(_helm(), "upgrade", "--install", chart, CHARTS / chart, *options, given=yaml.safe_dump(values))


def helm_template(chart: str, namespace: str, values: dict[str, Any], template: str) -> str:
    """What one template of one of the role's charts makes, without a release."""
    options = ("--namespace", namespace, "--values", "-", "--show-only", f"templates/{template}.yaml")
    return run(_helm(), "template", chart, CHARTS / chart, *options, given=yaml.safe_dump(values)).stdout


def _helm() -> str:
    return shutil.which("helm") or str(ROOT / ".local" / "bin" / "helm")

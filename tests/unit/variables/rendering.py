"""Runs a playbook of the collection with the real Ansible and without a cluster: what its modules are asked is kept.

The collection is a folder of links to the checkout, in which the action plugins that would speak to a cluster are
others: each writes its arguments to a file. All else (roles, filters, variables, Envoy's judgement of the edge) is
the checkout's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
RECORDED = ("in_process", "installed", "preflight", "stream")
"""in_process runs every module that meta/runtime.yml names it for."""

_RECORDER = '''
"""Written by the tests."""
import json
import os

from ansible.plugins.action import ActionBase
from ansible.module_utils.common.json import Direction, get_module_encoder


class ActionModule(ActionBase):
    TRANSFERS_FILES = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        asked = {"module": self._task.action.rsplit(".", 1)[-1], "task": self._task.name, "args": dict(self._task.args)}
        encoder = get_module_encoder("legacy", Direction.CONTROLLER_TO_MODULE)
        # preflight looks at a cluster, of which there is none, and changes nothing.
        if asked["module"] != "preflight":
            with open(os.environ["RECORDED_CALLS"], "a", encoding="utf-8") as file:
                file.write(json.dumps(asked, cls=encoder) + "\\n")
        changed = self._task.args.get("name") in os.environ.get("RECORDED_AS_CHANGED", "").split()
        result.update({"changed": changed, "certificates_expire": {}, "ca_certificates": {}, "overlaps": {}})
        # As the module secret tells of what it has filled in.
        secrets = [secret for secret in self._task.args.get("secrets") or [] if "render" in secret]
        result["rendered"] = {secret["name"]: dict.fromkeys(secret["render"], "0" * 64) for secret in secrets}
        # As kubernetes.core tells of a cluster in which there is nothing.
        result.update({"resources": [], "rc": 0, "stdout": "", "stderr": ""})
        return result
'''
_OF_KUBERNETES_CORE = ("k8s", "k8s_exec", "k8s_info", "k8s_scale")


@dataclass
class Run:
    """A finished run of ansible-playbook."""

    rc: int
    output: str
    calls: list[dict[str, Any]]

    def asked(self, module: str) -> list[dict[str, Any]]:
        """The arguments of every call of a module, in order."""
        return [call["args"] for call in self.calls if call["module"] == module]

    def release(self, name: str) -> dict[str, Any]:
        """The release of that name which the module chart was asked for."""
        (found,) = [release for args in self.asked("chart") for release in args["releases"] if release["name"] == name]
        return found


def collection_without_cluster(folder: Path) -> Path:
    """A collections path whose lambda_microservice.platform records instead of speaking to a cluster."""
    collection = folder / "ansible_collections" / "lambda_microservice" / "platform"
    collection.mkdir(parents=True)
    for entry in ("images", "meta", "playbooks", "roles", "tools", "docs", "galaxy.yml"):
        (collection / entry).symlink_to(ROOT / entry)
    for kind in (ROOT / "plugins").iterdir():
        if kind.is_dir() and kind.name != "action":
            (collection / "plugins").mkdir(exist_ok=True)
            (collection / "plugins" / kind.name).symlink_to(kind)
    actions = collection / "plugins" / "action"
    actions.mkdir()
    for action in (ROOT / "plugins" / "action").glob("*.py"):
        if action.stem in RECORDED:
            (actions / action.name).write_text(_RECORDER, encoding="utf-8")
        else:
            (actions / action.name).symlink_to(action)
    _kubernetes_core_without_cluster(folder / "ansible_collections" / "kubernetes" / "core")
    return folder


def _kubernetes_core_without_cluster(collection: Path) -> None:
    """Its modules that our playbooks name: without this, a test would change the cluster that the checkout has."""
    (collection / "meta").mkdir(parents=True)
    (collection / "meta" / "runtime.yml").write_text(
        json.dumps({"action_groups": {"k8s": list(_OF_KUBERNETES_CORE)}}), encoding="utf-8"
    )
    for kind, text in (("action", _RECORDER), ("modules", "# An action plugin stands in for it.\n")):
        (collection / "plugins" / kind).mkdir(parents=True)
        for name in _OF_KUBERNETES_CORE:
            (collection / "plugins" / kind / f"{name}.py").write_text(text, encoding="utf-8")


def run(collections: Path, playbook: str | Path, *arguments: str, folder: Path, inventory: str | Path = "local") -> Run:
    """Runs a playbook of the checkout (by name) or another one (by path) with an inventory (by name or path)."""
    book = playbook if isinstance(playbook, Path) else f"lambda_microservice.platform.{playbook}"
    source = inventory if isinstance(inventory, Path) else ROOT / "inventories" / inventory
    calls = folder / "calls.jsonl"
    calls.unlink(missing_ok=True)
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(collections),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_LOCALHOST_WARNING": "0",
        "RECORDED_CALLS": str(calls),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", source, book, *arguments],
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )
    lines = calls.read_text(encoding="utf-8").splitlines() if calls.exists() else []
    return Run(done.returncode, done.stdout, [json.loads(line) for line in lines])

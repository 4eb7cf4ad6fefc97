"""The action plugins' base, and the module of the same logic, in real runs of ansible-playbook."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

LOGIC = '''
import time
from pathlib import Path
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError


class Cluster:
    """Stands in for a connection."""

    host = "https://cluster.example:6443"

    def __init__(self, params):
        self.warnings = ["Warning: v1 Thing is deprecated"]

    def described(self):
        return self.host + " (context blue)"


ARGUMENT_SPEC = {
    "do": {"type": "str", "default": "pass"},
    "password": {"type": "str", "no_log": True},
    "items": {"type": "list", "elements": "dict", "options": {"data": {"type": "dict", "no_log": True}}},
    "kubeconfig": {"type": "raw"},
    "marker": {"type": "path"},
}
MUTUALLY_EXCLUSIVE = [["password", "marker"]]
RESULT_HOLDS_NONE_OF = ("items",)


def run(params, check_mode, diff, progress, connect=None):
    cluster = connect(params)
    progress("step 1 of 2, " + str(params["password"]))
    if params["do"] == "fail":
        try:
            raise OSError("disk full at %s" % params["password"])
        except OSError as failure:
            raise PlatformError("it failed", found="no room, controller, token-abc", reason="full") from failure
    if params["do"] == "wait":
        try:
            Path(params["marker"]).write_text("begun")
            time.sleep(60)
        finally:
            time.sleep(0.3)
            Path(params["marker"]).write_text("cleaned up")
    return {
        "changed": False,
        "msg": "done with %s" % params["password"],
        "nothing": None,
        "said": "the token token-abc of the controller",
        "warnings": ["mind the gap", "Warning: v1 Thing is deprecated"],
    }
'''

KUBECONFIG = {"users": [{"name": "me", "user": {"token": "token-abc"}}]}


@pytest.fixture
def playbook(tmp_path):
    """Write the play and give the command, its folder and its environment."""
    (tmp_path / "action_plugins").mkdir()
    (tmp_path / "library").mkdir()
    (tmp_path / "module_utils").mkdir()
    (tmp_path / "module_utils" / "thing_logic.py").write_text(LOGIC)
    base = "ansible_collections.lambda_microservice.platform.plugins"
    (tmp_path / "action_plugins" / "thing.py").write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(tmp_path / 'module_utils')!r})\n"
        "import thing_logic\n"
        f"from {base}.plugin_utils.in_process import InProcessAction\n"
        "class ActionModule(InProcessAction):\n    LOGIC = thing_logic\n"
    )
    (tmp_path / "library" / "thing.py").write_text(
        "#!/usr/bin/python\n"
        f"from {base}.module_utils.module import require_python, run_as_module\n"
        "def main():\n"
        "    require_python()\n"
        "    from ansible.module_utils import thing_logic\n"
        "    run_as_module(thing_logic)\n"
        "if __name__ == '__main__':\n    main()\n"
    )

    def write(tasks, *options, **environment):
        tasks = [{"ignore_errors": True, **task} for task in tasks]
        play = {"hosts": "localhost", "gather_facts": False, "tasks": tasks}
        (tmp_path / "play.yml").write_text(json.dumps([play]))
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "-c", "local"]
        command += ["-e", f"ansible_python_interpreter={sys.executable}", *options, "play.yml"]
        settings = {
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
            "ANSIBLE_MODULE_UTILS": str(tmp_path / "module_utils"),
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_INJECT_INVOCATION": "true",
            "ANSIBLE_VERBOSE_TO_STDERR": "true",
            **environment,
        }
        return {"args": command, "cwd": tmp_path, "env": {**os.environ, **settings}}

    return write


def ran(command):
    return subprocess.run(**command, capture_output=True, text=True, timeout=240)


MACHINE = {"ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"}


def results(done):
    """Of all tasks, from what a machine reads: none of our lines may be in it."""
    tasks = json.loads(done.stdout)["plays"][0]["tasks"]
    return [task["hosts"]["localhost"] for task in tasks]


def test_lines_go_where_people_read_and_name_the_cluster_once(playbook):
    done = ran(playbook([{"thing": {"password": "sesame"}}, {"thing": {}}]))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("  cluster: https://cluster.example:6443 (context blue)\n") == 1
    assert done.stdout.count("  step 1 of 2, ") == 2
    assert "sesame" not in done.stdout + done.stderr


def test_what_a_machine_reads_is_not_broken(playbook):
    done = ran(playbook([{"thing": {}}], **MACHINE))
    assert not results(done)[0]["changed"]
    assert done.stderr.count("  step 1 of 2, ") == 1


@pytest.mark.parametrize("callback", ["ansible.builtin.default", "ansible.posix.json"])
def test_no_log_silences_the_lines(playbook, callback):
    done = ran(playbook([{"thing": {}, "no_log": True}], ANSIBLE_STDOUT_CALLBACK=callback))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "step 1" not in done.stdout + done.stderr
    assert "cluster:" not in done.stdout + done.stderr


FULL = {"password": "sesame", "items": [{"data": {"user": "controller"}}], "kubeconfig": KUBECONFIG}
CASES = [FULL, {**FULL, "do": "fail"}, {"password": "sesame", "marker": "x"}, {"x": 1}, {"items": [{"x": 1}]}]


@pytest.mark.parametrize("verbose", [False, True])
def test_both_ways_give_the_same_result(playbook, verbose):
    tasks = [
        {"thing": args, "vars": {"platform_modules_in_process": in_process}}
        for args in CASES
        for in_process in (True, False)
    ]
    done = ran(playbook(tasks, *(["-vvv"] if verbose else []), **MACHINE))
    assert "sesame" not in done.stdout
    assert "token-abc" not in done.stdout
    found = results(done)
    for here, there in zip(found[::2], found[1::2], strict=True):
        assert "invocation" in there
        there.pop("invocation")
        assert here == there
    passed, failed, *refused = found[::2]
    assert passed["warnings"] == ["mind the gap", "Warning: v1 Thing is deprecated"]
    assert passed["nothing"] is None
    assert passed["said"].endswith("of the controller")
    assert failed["reason"] == "full"
    assert ("OSError: disk full at " in str(failed.get("causes"))) == verbose
    assert all(result["failed"] for result in refused)


@pytest.mark.parametrize("in_process", [True, False])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_what_was_started_be_cleaned_up(playbook, tmp_path, in_process, number):
    marker = tmp_path / "marker"
    task = {"thing": {"do": "wait", "marker": str(marker)}, "vars": {"platform_modules_in_process": in_process}}
    process = subprocess.Popen(**playbook([task]), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        until(marker.exists)
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    until(lambda: marker.read_text() == "cleaned up")
    assert process.returncode != 0
    assert "Traceback" not in output


def until(true):
    ends = time.monotonic() + 120
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_a_tasks_time_limit_ends_it(playbook, tmp_path):
    marker = tmp_path / "marker"
    began = time.monotonic()
    done = ran(playbook([{"thing": {"do": "wait", "marker": str(marker)}, "timeout": 1}]))
    assert "Timed out after 1 second(s)" in done.stdout
    assert marker.read_text() == "cleaned up"
    assert time.monotonic() - began < 20


def test_what_a_play_begins_with_imports_the_kubernetes_client() -> None:
    """Ansible asks for the class before it makes a process for each task; what is imported there is lost with it."""
    program = (
        "import sys\n"
        "from ansible.plugins.loader import action_loader, init_plugin_loader\n"
        f"init_plugin_loader([{str(ROOT / 'collections')!r}])\n"
        "assert action_loader.get('lambda_microservice.platform.variables', class_only=True)\n"
        "print(*sys.modules, sep='\\n')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    own = "ansible_collections.lambda_microservice.platform.plugins.module_utils"
    wanted = {
        "kubernetes.client.api_client",
        *(f"{own}.{name}.{name}" for name in ("chart", "policy", "rollout", "secret")),
    }
    assert wanted - set(done.stdout.split()) == set()

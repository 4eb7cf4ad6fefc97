"""Each module gives the same result in the controller's process and as a module of its own.

A case is a list of tasks, each of which is played both ways at the same time, each way in a namespace of its own; the
results are compared.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from .bundled import bundle_of
from .small_chart import SmallChart, helm

ROOT = Path(__file__).resolve().parents[2]
COLLECTION = "lambda_microservice.platform"

LEGITIMATE = {
    "invocation": "a module's arguments, which Ansible adds to what a module of its own returns",
}
"""The fields of a result that differ, and why."""

NO_MODULES = {
    "stream": "only an action plugin shows lines as they come",
    "variables": "only an action plugin sees the play's variables",
}
"""What has no module of its own, and why. The documentation stands where a module would be."""

CHANGING = {
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}": "UID",
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)?": "TIME",
    r"resourceVersion: '?\"?\d+'?\"?": "resourceVersion: VERSION",
    r"applyset-[\w-]+-v1": "APPLYSET",  # a hash over the namespace
    r"\b\d+(\.\d+)? ?m?s\b": "SECONDS",
    r"\(hidden, mark [0-9a-f]+\)": "HIDDEN",  # salted, so that nobody can try values
}
"""What differs between any two runs."""


WAYS = {"here": True, "there": False}
"""Two hosts, both this machine; on the first, modules run in the controller's process."""


def play(folder: Path, module: str, namespaces: dict[str, str], steps: list[dict[str, Any]]) -> dict[str, Any]:
    """The tasks' results, as a playbook sees them, by host. Each task is played on both hosts at the same time."""
    names = [f"result_{number}" for number in range(len(steps))]
    hosts = {
        host: {
            "platform_modules_in_process": in_process,
            # So that none has to be found, which a result would tell.
            "ansible_python_interpreter": sys.executable,
            "ansible_connection": "local",
            "namespace": namespaces[host],
        }
        for host, in_process in WAYS.items()
    }
    tasks = [
        # As playbooks begin, by which the Kubernetes client is imported once.
        {f"{COLLECTION}.variables": {"contradictions": False}, "run_once": True},
        *({**step, "register": name} for step, name in zip(steps, names, strict=True)),
        {
            "ansible.builtin.copy": {
                "content": "{{ [%s] | to_json }}" % ", ".join(names),
                "dest": f"{folder}/{{{{ inventory_hostname }}}}.json",
                "mode": "0600",
            },
            "check_mode": False,
            "diff": False,
        },
    ]
    text = json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]).replace("NAMESPACE", "{{ namespace }}")
    (folder / "playbook.yml").write_text(yaml.safe_dump(json.loads(text)))
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": hosts}}))
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1",
        # It tells which way a result has come.
        "ANSIBLE_INJECT_INVOCATION": "true",
        # A module is given to Python, not copied first.
        "ANSIBLE_PIPELINING": "true",
    }
    program = Path(sys.executable).with_name("ansible-playbook")
    command = [program, "--inventory", folder / "hosts.yml", folder / "playbook.yml"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    results = {}
    for host, in_process in WAYS.items():
        output = folder / f"{host}.json"
        assert output.exists(), done.stdout + done.stderr
        results[host] = json.loads(output.read_text())
        # Each went the way that it was meant to go.
        ways = {"invocation" not in result for result in results[host]}
        assert ways == {in_process or module in NO_MODULES}
        results[host] = [_comparable(result, namespaces[host]) for result in results[host]]
    return results


def _comparable(result: dict[str, Any], namespace: str) -> dict[str, Any]:
    text = json.dumps({name: value for name, value in result.items() if name not in LEGITIMATE}, sort_keys=True)
    text = text.replace(namespace, "NAMESPACE")
    for pattern, name in CHANGING.items():
        text = re.sub(pattern, name, text)
    return json.loads(text)


def _differences(here: Any, there: Any, where: str) -> list[str]:
    """What is not the same, and where, so that a failure tells it whole."""
    if isinstance(here, dict) and isinstance(there, dict):
        names = sorted({*here, *there})
        return [line for name in names for line in _differences(here.get(name), there.get(name), f"{where}.{name}")]
    return [] if here == there else [f"{where}: {here!r} here, {there!r} there"]


@pytest.fixture
def both(make_namespace, tmp_path):
    """Play a case both ways; the results in process and those of the module, alike but for what is legitimate.

    ``arguments`` stand before those that a task gives.
    """

    def compare(module: str, arguments: dict[str, Any], tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
        steps = [
            {
                f"{COLLECTION}.{module}": {**arguments, **task.get("arguments", {})},
                "check_mode": task.get("check_mode", False),
                "diff": True,
                "ignore_errors": True,
            }
            for task in tasks
        ]
        results = play(tmp_path, module, {host: make_namespace() for host in WAYS}, steps)
        pairs = enumerate(zip(results["here"], results["there"], strict=True))
        assert [line for number, pair in pairs for line in _differences(*pair, f"task {number}")] == []
        return results["here"]

    return compare


def test_every_module_is_compared() -> None:
    modules = {path.stem for path in (ROOT / "plugins" / "modules").glob("*.py")}
    assert {module for module in modules - NO_MODULES.keys() if f"test_{module}" not in globals()} == set()


def config_map(name: str, **data: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def test_chart(both, tmp_path, kubeconfig) -> None:
    small = SmallChart(tmp_path, kubeconfig, "NAMESPACE")

    def task(check_mode: bool = False, **changes: Any) -> dict[str, Any]:
        release = {"name": "w", "namespace": "NAMESPACE", "chart": str(small.folder), **changes}
        return {"arguments": {"releases": [release]}, "check_mode": check_mode}

    results = both(
        "chart",
        {"kubeconfig": kubeconfig, "helm_binary": helm()},
        [
            task(check_mode=True),
            task(),
            task(),
            task(check_mode=True, values={"secret": "second-secret-value", "replicas": 1}),
            task(values={"replicas": "many"}),
            task(values={"broken": True}),
            task(state="absent"),
            task(no_such_option=1),
        ],
    )
    assert [result["changed"] for result in results[:4]] == [True, True, False, True]
    assert [result["failed"] for result in results] == [False] * 4 + [True] * 2 + [False, True]


def test_policy(both, kubeconfig) -> None:
    good = [config_map("one", a="1"), config_map("two", b="2")]
    hidden = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"k": "hunter2-hunter2"}}
    wrong = {**config_map("three"), "dada": {}}

    def task(objects: list[Any], **changes: Any) -> dict[str, Any]:
        check_mode = changes.pop("check_mode", False)
        return {"arguments": {"objects": objects, **changes}, "check_mode": check_mode}

    results = both(
        "policy",
        {"kubeconfig": kubeconfig, "name": "batch", "namespace": "NAMESPACE"},
        [
            task(good, check_mode=True),
            task(good),
            task(good),
            task([config_map("one", a="other"), hidden]),
            task([config_map("four", a={"not": "text"}), wrong]),
            task([], state="absent"),
            task(good, state="gone"),
        ],
    )
    assert [result["failed"] for result in results] == [False] * 4 + [True, False, True]
    assert [result["changed"] for result in results[:4]] == [True, True, False, True]


def test_secret(both, kubeconfig) -> None:
    password = {"name": "p", "namespaces": ["NAMESPACE"], "random": {"password": {}}, "data": {"user": "application"}}
    authority = {"name": "ca", "namespaces": ["NAMESPACE"], "certificate": {"common_name": "ca", "is_ca": True}}

    def task(*entries: Any, check_mode: bool = False) -> dict[str, Any]:
        return {"arguments": {"secrets": list(entries)}, "check_mode": check_mode}

    results = both(
        "secret",
        {"kubeconfig": kubeconfig},
        [
            task(password, check_mode=True),
            task(password),
            task(password),
            task({**password, "data": {"user": "application", "more": "another-value"}}),
            task({**password, "namespaces": ["no-such-namespace"]}),
            task({**authority, "certificate": {"common_name": "", "is_ca": True}}),
            task({**password, "state": "absent"}),
            task({"name": "nothing"}),
        ],
    )
    assert [result["failed"] for result in results] == [False] * 4 + [True] * 2 + [False, True]


def test_secret_whose_value_is_a_word_of_the_result(both, kubeconfig) -> None:
    entry = {"name": "p", "namespaces": ["NAMESPACE"], "data": {"phase": "created", "other": "generated"}}
    entry["random"] = {"password": {}}
    (result,) = both("secret", {"kubeconfig": kubeconfig}, [{"arguments": {"secrets": [entry]}}])
    assert result["secrets"][0]["action"] == "created"


def test_rollout(both, kubeconfig) -> None:
    missing = {"kind": "Deployment", "name": "web", "namespace": "NAMESPACE"}
    phase = {"kind": "Namespace", "api_version": "v1", "name": "NAMESPACE", "condition": "NoSuchCondition"}
    results = both(
        "rollout",
        {"kubeconfig": kubeconfig, "timeout_seconds": 1},
        [
            {"arguments": {"workloads": [missing]}, "check_mode": True},
            {"arguments": {"workloads": [missing]}},
            {"arguments": {"workloads": [phase]}},
            {"arguments": {"workloads": [{"kind": "Widget", "name": "w"}]}},
            {"arguments": {"workloads": [missing], "host": "https://127.0.0.1:1", "api_key": "x", "kubeconfig": None}},
        ],
    )
    assert [result["failed"] for result in results] == [False, True, True, True, True]


def test_verify(both, kubeconfig, tmp_path) -> None:
    arguments = {
        "kubeconfig": kubeconfig,
        # Nothing listens there.
        "edge": {"url": "https://127.0.0.1:1"},
        "namespaces": [{"name": "NAMESPACE"}],
        "workloads": [{"name": "web", "namespace": "NAMESPACE"}],
        "controller": {"namespace": "NAMESPACE", "app": "controller"},
        "wait_seconds": 1,
    }
    results = both(
        "verify",
        arguments,
        [
            {
                "arguments": {
                    "edge": {"url": "https://127.0.0.1:1", "api_key": "a-key-of-theirs", "token": "a-token-of-theirs"}
                }
            },
            {"arguments": {"edge": {"url": "https://127.0.0.1:1", "api_key": "a-key-of-theirs"}}},
        ],
    )
    assert all(result["failed"] for result in results)


def test_logs(both, kubeconfig) -> None:
    arguments = {"kubeconfig": kubeconfig, "namespace": "NAMESPACE", "request": "5e3d9a52-71c4-4c1b-9f0e-6a1b2c3d4e5f"}
    # There is no store; logs are off; what is no request's id.
    tasks = [{}, {"arguments": {"enabled": False}}, {"arguments": {"request": "what"}}]
    assert all(result["failed"] for result in both("logs", arguments, tasks))


def test_dashboards(both, kubeconfig, tmp_path) -> None:
    arguments = {
        "kubeconfig": kubeconfig,
        "folder": str(ROOT / "roles/monitoring/files/dashboards"),
        "page": str(ROOT / "roles/monitoring/files/page"),
        "library": str(tmp_path),
        "output": str(tmp_path / "dashboards.html"),
        "prometheus": {"namespace": "NAMESPACE"},
    }
    # There is no Prometheus, no folder.
    tasks = [{}, {"arguments": {"folder": "/nowhere"}}]
    assert all(result["failed"] for result in both("dashboards", arguments, tasks))


def test_elasticsearch(both, kubeconfig) -> None:
    arguments = {
        "kubeconfig": kubeconfig,
        "namespace": "NAMESPACE",
        "name": "logs",
        "user_secret": "elasticsearch-platform",
        "documents": [{"path": "/_ilm/policy/logs", "body": {"policy": {"phases": {}}}}],
    }
    # As on a cluster that has none yet.
    [result] = both("elasticsearch", arguments, [{"check_mode": True}])
    assert result["changed"]


def test_drill(both, kubeconfig, tmp_path) -> None:
    pods = {"namespace": "NAMESPACE", "selector": "app=redis"}
    failure = {"kind": "kill_pod", "target": "redis"}
    store = {
        "namespace": "NAMESPACE",
        "url": "redis://redis:6379",
        "app": "redis",
        "port": 6379,
        "credentials": "redis",
    }
    drill = {"name": "killed", "load": "redis", "failure": failure, "must_hold": {"lost_at_most": 0}}
    arguments = {
        "kubeconfig": kubeconfig,
        "drills": [drill],
        "loads": {"redis": store},
        "targets": {"redis": pods},
        "workloads": [],
        "edge": {"url": "https://127.0.0.1:1"},
        "generator": "/nowhere/load",
        "generator_image": "load",
        "output": str(tmp_path / "NAMESPACE-drill.json"),
    }
    results = both(
        "drill",
        arguments,
        [
            {"check_mode": True},
            {},  # there is no pod to kill
            {"arguments": {"drills": [{**drill, "load": "none"}]}},
            {"arguments": {"loads": {"redis": {}}}},
        ],
    )
    assert [result["failed"] for result in results] == [False] + [True] * 3


def test_image(both, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    arguments = {
        "root": str(tmp_path),
        "repository": "localhost:1/NAMESPACE",
        "base_images": {"trixie": "no-such-image-here:none"},
        "cache_dir": str(tmp_path / "cache"),
        "output": str(tmp_path / "NAMESPACE-images.json"),
    }
    results = both(
        "image",
        arguments,
        [
            {"arguments": {"images": []}},
            {"arguments": {"images": [{"name": "i", "context": "empty"}]}},
            {"arguments": {"images": [{"name": "i"}]}},
        ],
    )
    assert [result["failed"] for result in results] == [False, True, True]


@pytest.fixture
def based_on_nothing():
    """An image of the Docker engine to build on, and the programs to look at it."""
    name = f"lambda-microservice/nothing:{time.time_ns()}"
    empty = subprocess.run(["tar", "-cf", "-", "--files-from", "/dev/null"], capture_output=True, check=True).stdout
    try:
        subprocess.run(["docker", "import", "-", name], input=empty, capture_output=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"no Docker engine to build images with: {error}")
    yield name
    subprocess.run(["docker", "image", "rm", "--force", name], capture_output=True, check=False)


def test_image_that_is_built_and_pushed(both, tmp_path, registry, based_on_nothing) -> None:
    (tmp_path / "little").mkdir()
    (tmp_path / "little" / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\nCOPY Dockerfile /\n")
    arguments = {
        "root": str(tmp_path),
        "repository": f"{registry}/NAMESPACE",
        "base_images": {"trixie": based_on_nothing},
        "cache_dir": str(tmp_path / "cache"),
        "output": str(tmp_path / "NAMESPACE-images.json"),
        "images": [{"name": "little", "context": "little"}],
    }
    results = both("image", arguments, [{"check_mode": True}, {}, {}, {"arguments": {"refresh": True}}])
    # It has no shell that could be asked for newer packages, and no packages.
    assert [result["changed"] for result in results] == [True, True, False, False]


def test_attest(both, registry, tmp_path) -> None:
    image = {"repository": f"{registry}/nothing", "tag": "1", "digest": "sha256:" + "0" * 64}
    arguments = {"images": {"nothing": image}, "bills": str(tmp_path / "NAMESPACE"), "syft_binary": "/bin/false"}
    tasks = [{"check_mode": True}, {}, {"arguments": {"images": {"odd": {}}}}, {"arguments": {"cosign_key": "x"}}]
    results = both("attest", arguments, tasks)
    assert [result["failed"] for result in results] == [False, True, True, True]
    assert results[0]["written"] == ["nothing"]


def web(replicas: Any = 2) -> dict[str, Any]:
    """A component with one workload."""
    requests = {"cpu": "500m", "memory": "1Gi"}
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": "none", "resources": {"requests": requests}}]},
    }
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    metadata = {"name": "web", "namespace": "NAMESPACE"}
    return {
        "name": "web",
        "objects": [{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}],
    }


def test_capacity(both, tmp_path) -> None:
    data = ROOT / "roles/platform/files/capacity"
    pool = {"name": "general", "type": "m5.2xlarge", "zones": ["a", "b", "c"], "min_count": 3, "max_count": 6}
    arguments = {
        "components": [web()],
        "node_pools": [pool],
        "node_types": str(data / "node_types.yml"),
        "prices": str(data / "prices.yml"),
        "design": str(data / "design.yml"),
        "styles": [str(data / "page.css")],
        "helm_binary": helm(),
        "output": str(tmp_path / "NAMESPACE.html"),
        "json_output": str(tmp_path / "NAMESPACE.json"),
    }
    wrong = {**pool, "type": "m5.nonsense"}
    tasks = [
        {"check_mode": True},
        {},
        {},
        {"arguments": {"node_pools": [wrong]}},
        {"arguments": {"prices": "/nowhere"}},
    ]
    results = both("capacity", arguments, tasks)
    assert [result["failed"] for result in results] == [False] * 3 + [True] * 2
    assert [result["changed"] for result in results[:3]] == [True, True, False]


def test_preflight(both, kubeconfig) -> None:
    arguments = {
        "kubeconfig": kubeconfig,
        "components": [web()],
        "variables": {"ingress_tls_source": "self_signed", "controller_namespace": "NAMESPACE", "problems": []},
        "versions": [{"name": "the platform", "floor": "1.25"}],
        "node_types": str(ROOT / "roles/platform/files/capacity/node_types.yml"),
        "ignore": [],
    }
    # A cluster without nodes and metrics.
    tasks = [{"check_mode": True}, {}, {"arguments": {"show": "problems"}}, {"arguments": {"ignore": ["nothing"]}}]
    results = both("preflight", arguments, tasks)
    assert [result["failed"] for result in results] == [False, True, True, True]


def installed(**more: Any) -> dict[str, Any]:
    """A component of the whole plan: a batch of one object."""
    batch = {"name": "web", "namespace": "NAMESPACE", "objects": [config_map("one", a="1")]}
    return {"name": "web", "batches": [batch], **more}


def test_drift(both, kubeconfig, tmp_path) -> None:
    arguments = {"kubeconfig": kubeconfig, "components": [installed()], "helm_binary": helm()}
    arguments["output"] = str(tmp_path / "NAMESPACE.json")
    # Nothing is there.
    tasks = [{"check_mode": True}, {}, {"arguments": {"fail": False}}, {"arguments": {"only": ["nothing"]}}]
    results = both("drift", arguments, tasks)
    assert [result["failed"] for result in results] == [True, True, False, True]
    assert results[2]["counts"] == {"missing": 2}


def test_rollback(both, tmp_path, kubeconfig) -> None:
    small = SmallChart(tmp_path, kubeconfig, "NAMESPACE")
    component = installed(releases=small.arguments()["releases"])
    arguments = {"kubeconfig": kubeconfig, "components": [component], "component": "web", "helm_binary": helm()}
    # There is no revision, and no such component.
    tasks = [{"check_mode": True}, {"arguments": {"revision": 3}}, {"arguments": {"component": "nothing"}}]
    assert all(result["failed"] for result in both("rollback", arguments, tasks))


def test_teardown(both, kubeconfig) -> None:
    arguments = {"kubeconfig": kubeconfig, "components": [installed()], "helm_binary": helm()}
    tasks = [
        {"check_mode": True},
        {},
        {"arguments": {"volumes": ["NAMESPACE/nothing/at-all"]}, "check_mode": True},
        {"arguments": {"components": [installed(unknown=[{"task": "a", "why": "b"}])]}, "check_mode": True},
    ]
    results = both("teardown", arguments, tasks)
    assert [result["failed"] for result in results] == [False, True, True, True]
    assert not results[0]["changed"]


def test_settled(both, kubeconfig) -> None:
    served = {"secret": "no-such-certificate", "namespace": "NAMESPACE", "app": "web", "port": 6379}
    arguments = {"kubeconfig": kubeconfig, "certificates": [served], "timeout_seconds": 1}
    # Where nobody is ready there is nobody to wait for.
    tasks = [{"check_mode": True}, {}, {"arguments": {"certificates": []}}, {"arguments": {"timeout_seconds": "x"}}]
    results = both("settled", arguments, tasks)
    assert [result["failed"] for result in results] == [False, False, False, True]


def test_report(both, kubeconfig, tmp_path) -> None:
    styles = [str(ROOT / "roles/monitoring/files/page/page.css")]
    arguments = {"kubeconfig": kubeconfig, "components": [installed()], "styles": styles, "helm_binary": helm()}
    arguments["output"] = str(tmp_path / "NAMESPACE.html")
    # An empty cluster has a page too.
    results = both(
        "report", arguments, [{"check_mode": True}, {}, {"arguments": {"prometheus_namespace": "NAMESPACE"}}]
    )
    assert not any(result["failed"] or result["changed"] for result in results)
    assert [len(result["written"]) for result in results] == [0, 1, 1]


def test_rehearse(both, kubeconfig, tmp_path) -> None:
    """What is told before anything is started; a cluster of nodes that are played is made by `make rehearse` alone."""
    data = ROOT / "roles/platform/files"
    pool = {"name": "general", "type": "m5.2xlarge", "zones": ["a", "b", "c"], "min_count": 3, "max_count": 6}
    arguments = {
        "kubeconfig": kubeconfig,
        "inventory": "NAMESPACE",
        "components": [web()],
        "variables": {"problems": []},
        "node_pools": [pool],
        "node_types": str(data / "capacity/node_types.yml"),
        "clouds": str(data / "rehearsal"),
        "stages": str(data / "rehearsal/stages.yml"),
        "kwok_binary": "/nowhere/kwok",
        "helm_binary": helm(),
        "playbook": str(ROOT / "site.yml"),
        "arguments": [],
        "folder": str(ROOT),
        "state_dir": str(tmp_path),
    }
    tasks = [
        {"check_mode": True},
        {"check_mode": True, "arguments": {"accept": ["nothing"]}},
        {"check_mode": True, "arguments": {"node_pools": []}},
        {"arguments": {"node_pools": [{**pool, "type": "m5.nonsense"}]}},
    ]
    results = both("rehearse", arguments, tasks)
    assert [result["failed"] for result in results] == [False, True, True, True]


def test_bundle(both, bundled) -> None:
    arguments = {**bundled, "output": bundled["output"].replace("bundle.tar", "NAMESPACE.tar")}
    tasks = [{"check_mode": True}, {}, {}, {"arguments": {"oras_binary": "/nowhere/oras"}}]
    results = both("bundle", arguments, tasks)
    assert [result["failed"] for result in results] == [False, False, False, True]
    assert [result["changed"] for result in results[:3]] == [True, True, False]


def test_unbundle(both, bundled, registry, tmp_path) -> None:
    bundle_of(bundled)
    arguments = {
        "archive": bundled["output"],
        "folder": str(tmp_path / "NAMESPACE"),
        "registry": f"{registry}/NAMESPACE",
    }
    tasks = [{"check_mode": True}, {}, {}, {"arguments": {"registry": "https://registry.example.com"}}]
    results = both("unbundle", arguments, tasks)
    assert [result["failed"] for result in results] == [True, False, False, True]
    assert [result["changed"] for result in results[1:3]] == [True, False]


def test_stream(both) -> None:
    results = both(
        "stream",
        {"argv": ["sh", "-c", "echo one; echo two >&2"], "check_argv": ["echo", "would"]},
        [
            {},
            {"check_mode": True},
            {"arguments": {"argv": ["sh", "-c", "echo why; exit 3"]}},
            {"arguments": {"argv": ["no-such-program"]}},
        ],
    )
    assert [result["failed"] for result in results] == [False, False, True, True]

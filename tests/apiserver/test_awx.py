"""Jobs as AWX starts them, on a real API server: streamed to ansible-runner, as any user, with a read-only home.

The job templates, their surveys and the image's environment are those of awx/ and execution-environment.yml.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.free_ports import free_port
from tests.unit.awx.data import answer, environment, questions
from tests.unit.awx.test_execution_environment import variables_of_the_image

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(sys.executable).parent
TEMPLATES = {each["name"].removeprefix("staging: "): each for each in environment()["controller_templates"]}
ANY_USER = ["unshare", "--user", "--map-user=1000810000", "--map-group=0"]
"""As OpenShift gives users to pods: a number that no file knows. ansible-runner and what it starts are this user."""


@dataclass
class Job:
    """A job that has ended, as AWX reads it out of the events."""

    status: str
    output: str
    artifacts: dict[str, Any]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as AWX has it: what git has, and what its operator has committed for staging."""
    folder = tmp_path_factory.mktemp("project")
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    # What tests and images are made of would only be sent to and fro.
    left_out = ("tests/", "images/")
    wanted = [name for name in names if name and not name.startswith(left_out) and os.path.lexists(ROOT / name)]
    wanted.append("images/images.yml")
    packed = subprocess.run(["tar", "-c", *wanted], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x"], cwd=folder, input=packed, check=True)
    shutil.copy(ROOT / "tests/images.json", folder / "inventories/staging/images.json")
    # The tests' API server has no DNS that would be found, and there is no edge.
    here = {
        "foundation_dns_peers": [{"ipBlock": {"cidr": "10.0.0.10/32"}}],
        "verify_edge_url": f"https://127.0.0.1:{free_port()}",
    }
    (folder / "inventories/staging/group_vars/all/site.yml").write_text(yaml.safe_dump(here))
    return folder


@pytest.fixture(scope="module")
def inventory(project: Path) -> str:
    """The inventory as AWX imports it (ansible-inventory --export), as the script that it gives to a job."""
    command = [PROGRAMS / "ansible-inventory", "-i", "inventories/staging/hosts.yml", "--list", "--export"]
    read = json.loads(subprocess.run(command, cwd=project, capture_output=True, check=True).stdout)
    known = {"remote_tower_enabled": "true", "remote_tower_id": 1}
    hosts = {name: {**given, **known} for name, given in read["_meta"]["hostvars"].items()}
    written = {"all": {"hosts": list(hosts), "vars": read["all"]["vars"]}, "_meta": {"hostvars": hosts}}
    return f"#! /usr/bin/env python3\nprint({json.dumps(written)!r})\n"


class _Unsafe(str):
    """A text that Ansible takes for no template, as AWX marks what callers give."""


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(_Unsafe, lambda dumper, text: dumper.represent_scalar("!unsafe", str(text)))


@pytest.fixture
def start(project: Path, inventory: str, kubeconfig: str, tmp_path: Path) -> Callable[..., Job]:
    """Launch a job template with answers to its survey."""

    def launch(name: str, tags: str = "", **answers: Any) -> Job:
        template = TEMPLATES[name]
        given = {question["variable"]: answer(question) for question in questions(template)}
        assert answers.keys() <= given.keys()
        data = tmp_path / "data"
        for folder in ("env", "inventory"):
            (data / folder).mkdir(parents=True)
        shutil.copytree(project, data / "project", symlinks=True)
        (data / "inventory/hosts").write_text(inventory)
        (data / "inventory/hosts").chmod(0o700)
        asked = {key: value for key, value in {**given, **answers}.items() if value is not None}
        variables = {**template["extra_vars"], **_marked(asked), "awx_job_id": 1, "awx_inventory_name": "staging"}
        (data / "env/extravars").write_text(yaml.dump(variables, Dumper=_Dumper))
        (data / "env/envvars").write_text(json.dumps(_environment(kubeconfig, tmp_path)))
        if tags:
            (data / "env/cmdline").write_text(f"-t {tags}")
        return _run(template["playbook"], data, tmp_path)

    return launch


def _marked(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _marked(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_marked(part) for part in value]
    return _Unsafe(value) if isinstance(value, str) else value


def _environment(kubeconfig: str, folder: Path) -> dict[str, str]:
    """What AWX and its credential for the cluster set, and no kubeconfig."""
    read = yaml.safe_load(Path(kubeconfig).read_text())
    authority = folder / "ca.crt"
    shutil.copy(read["clusters"][0]["cluster"]["certificate-authority"], authority)
    return {
        "K8S_AUTH_HOST": read["clusters"][0]["cluster"]["server"],
        "K8S_AUTH_API_KEY": read["users"][0]["user"]["token"],
        "K8S_AUTH_VERIFY_SSL": "True",
        "K8S_AUTH_SSL_CA_CERT": str(authority),
        "VERIFY_API_KEY": "key",
        "JOB_ID": "1",
        "INVENTORY_ID": "1",
        "ANSIBLE_FORCE_COLOR": "True",
        "ANSIBLE_INVENTORY_UNPARSED_FAILED": "True",
        "ANSIBLE_COLLECTIONS_PATH": "/runner/requirements_collections:collections:~/.ansible/collections",
    }


def _run(playbook: str, data: Path, folder: Path) -> Job:
    """Sent, worked on and read: the three steps of AWX, the second in a container of the execution environment."""
    home, there = folder / "home", folder / "runner"
    home.mkdir()
    there.mkdir()
    home.chmod(0o555)
    programs = folder / "bin"
    programs.mkdir()
    shutil.copy(ROOT / ".local/bin/helm", programs / "helm")
    # Of the image, below the test's own folder: one job after the other has a machine's /tmp, and none finds another's.
    image = {name: value.replace("/tmp", str(folder), 1) for name, value in variables_of_the_image().items()}
    own = {"PATH": f"{programs}:{PROGRAMS}:/usr/bin:/bin", "HOME": str(home), "LANG": "C.UTF-8", **image}
    runner = str(PROGRAMS / "ansible-runner")
    sent = subprocess.run(
        [runner, "transmit", data, "--playbook", playbook, "--ident", "1"], capture_output=True, check=True, timeout=120
    )
    worked = subprocess.run(
        [*ANY_USER, runner, "worker", "--private-data-dir", there],
        input=sent.stdout, env=own, cwd=folder, capture_output=True, check=False, timeout=600,
    )  # fmt: skip
    read = subprocess.run(
        [runner, "process", data, "--ident", "1"], input=worked.stdout, capture_output=True, check=False, timeout=120
    )
    artifacts = data / "artifacts/1"
    assert artifacts.is_dir(), (worked.stderr + read.stdout + read.stderr).decode()
    events = [json.loads(path.read_text()) for path in sorted((artifacts / "job_events").glob("*.json"))]
    ended = [event["event_data"] for event in events if event["event"] == "playbook_on_stats"]
    output = (artifacts / "stdout").read_text()
    assert [*home.iterdir()] == []
    return Job(
        status=(artifacts / "status").read_text().strip(),
        output=output,
        artifacts=ended[-1].get("artifact_data", {}) if ended else {},
    )


def test_site_deploys_with_the_answers_of_its_survey(start: Callable[..., Job], cluster: Any) -> None:
    job = start("site", tags="foundation", preflight_ignore_also=["nodes"], platform_rollout_timeout_seconds=120)
    assert job.status == "successful", job.output
    names = {each["metadata"]["name"] for each in cluster.list("v1", "Namespace")}
    assert {"ingress", "controller", "openfaas-fn", "data-services"} <= names


def test_an_answer_that_is_no_value_stops_the_job_before_anything(start: Callable[..., Job]) -> None:
    # A text that would be a template is none: AWX marks what callers give.
    job = start("site", tags="foundation", platform_rollout_timeout_seconds="{{ 60 }}")
    assert job.status == "failed"
    assert "platform_rollout_timeout_seconds" in job.output and "'{{ 60 }}'" in job.output


def test_a_workflow_sees_what_preflight_found(start: Callable[..., Job]) -> None:
    job = start("preflight", preflight_ignore_also=["storage"])
    assert job.status == "failed", job.output
    found = job.artifacts["lambda_preflight"]
    # There are no nodes, and no StorageClass either.
    assert found["result"] == "failed" and "nodes" in found["failed"]
    assert "storage" not in found["failed"] + found["warned"]


def test_a_workflow_sees_that_there_is_no_platform(start: Callable[..., Job]) -> None:
    job = start("verify", verify_wait_seconds=0)
    assert job.status == "failed", job.output
    assert job.artifacts["lambda_verify"]["result"] == "failed"
    # Each by its name, and what stands on an edge that does not answer is not made.
    assert len(job.artifacts["lambda_verify"]["failed"]) > 1

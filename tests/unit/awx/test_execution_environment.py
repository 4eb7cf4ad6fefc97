"""The context that ansible-builder makes of execution-environment.yml, and the programs that come into the image."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from .data import PLAY, ROOT, environment

BUILDER = Path(sys.executable).parent / "ansible-builder"
INSTALL = ROOT / "awx/execution-environment/install-programs"
PROGRAMS = [
    line.split()
    for line in (ROOT / "awx/execution-environment/programs.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
DEFINITION: dict[str, Any] = yaml.safe_load((ROOT / "execution-environment.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a container's build would get. Any file stands for the load generator, whose build is tested elsewhere."""
    folder = tmp_path_factory.mktemp("definition")
    for name in ("execution-environment.yml", "awx", "collections", "meta"):
        (folder / name).symlink_to(ROOT / name)
    (folder / ".local/load").mkdir(parents=True)
    (folder / ".local/load/load").write_text("the load generator")
    command = [BUILDER, "create", "--context", folder / "context", "--output-filename", "Containerfile"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "context"


def test_the_image_gets_the_ranges_that_users_get(context: Path) -> None:
    assert (context / "_build/requirements.txt").read_text() == (ROOT / "meta/requirements.txt").read_text()
    asked = yaml.safe_load((context / "_build/requirements.yml").read_text())
    assert asked == yaml.safe_load((ROOT / "collections/requirements.yml").read_text(encoding="utf-8"))
    file = (context / "Containerfile").read_text()
    runtime = yaml.safe_load((ROOT / "meta/runtime.yml").read_text(encoding="utf-8"))["requires_ansible"]
    assert re.search(r"ansible-core([<>=.,0-9]+)", file)[1] == runtime.replace(".0", "")
    assert "ansible-runner" in file


def test_the_programs_are_those_of_the_table_and_checked(context: Path) -> None:
    built = context / "_build/programs"
    assert {path.name for path in built.iterdir()} == {"programs.txt", "install-programs", "load"}
    assert os.access(built / "install-programs", os.X_OK)
    file = (context / "Containerfile").read_text()
    steps = [line for line in file.splitlines() if "/tmp/programs" in line]
    assert steps[0] == "COPY _build/programs /tmp/programs"
    assert any("install-programs /tmp/programs/programs.txt /usr/local/bin" in step for step in steps)
    # Where the jobs look for it.
    (drill,) = [each for each in environment()["controller_templates"] if each["name"].endswith(": drill")]
    assert any(drill["extra_vars"]["drill_generator"] == f"{word}" for step in steps for word in step.split())
    assert {(program, machine) for program, machine, *_ in PROGRAMS} == {
        (program, machine) for program in ("helm", "kubectl") for machine in ("x86_64", "aarch64")
    }


def test_the_versions_are_those_that_the_tests_run_with() -> None:
    module = (ROOT / "tools/go.mod").read_text(encoding="utf-8")
    helm = re.search(r"helm\.sh/helm/v3 (v\S+)", module)[1]
    kubernetes = re.search(r"k8s\.io/kubernetes (v\d+\.\d+)", module)[1]
    for program, machine, checksum, address in PROGRAMS:
        assert re.fullmatch(r"[0-9a-f]{64}", checksum)
        assert f"-{helm}-" in address if program == "helm" else f"/{kubernetes}." in address
        assert {"x86_64": "amd64", "aarch64": "arm64"}[machine] in address
    assert len({checksum for _, _, checksum, _ in PROGRAMS}) == len(PROGRAMS)


def test_a_program_comes_in_by_its_checksum_only(tmp_path: Path) -> None:
    said = b"#!/bin/sh\necho the program\n"
    (tmp_path / "upstream").write_bytes(said)
    row = f"helm {os.uname().machine} {{}} file://{tmp_path}/upstream\n"
    table, made = tmp_path / "programs.txt", tmp_path / "bin"
    made.mkdir()
    table.write_text("# a comment\n\n" + row.format(hashlib.sha256(said).hexdigest()))
    subprocess.run([INSTALL, table, made], check=True, timeout=60)
    assert subprocess.run([made / "helm"], capture_output=True, check=True, timeout=60).stdout == b"the program\n"
    (made / "helm").unlink()
    table.write_text(row.format("0" * 64))
    refused = subprocess.run([INSTALL, table, made], capture_output=True, text=True, check=False, timeout=60)
    assert refused.returncode != 0
    assert "is not what was published" in refused.stderr
    assert not (made / "helm").exists()
    table.write_text("helm another " + row.split(" ", 2)[2].format("0" * 64))
    assert subprocess.run([INSTALL, table, made], capture_output=True, check=False, timeout=60).returncode != 0


def test_the_collection_tells_an_execution_environment_what_it_needs(tmp_path: Path) -> None:
    collection = tmp_path / "ansible_collections/lambda_microservice/platform"
    collection.parent.mkdir(parents=True)
    collection.symlink_to(ROOT)
    found = subprocess.run(
        [BUILDER, "introspect", tmp_path], capture_output=True, text=True, check=True, timeout=120
    ).stdout
    for line in (ROOT / "meta/requirements.txt").read_text(encoding="utf-8").splitlines():
        assert line.startswith("#") or line in found


def test_the_navigator_passes_on_what_the_credentials_of_awx_set() -> None:
    settings = yaml.safe_load((ROOT / "ansible-navigator.yml").read_text(encoding="utf-8"))["ansible-navigator"]
    environment_of = settings["execution-environment"]
    assert environment_of["image"] == PLAY["vars"]["awx_execution_environment_image"]
    passed = set(environment_of["environment-variables"]["pass"])
    assert {"K8S_AUTH_HOST", "K8S_AUTH_API_KEY", "VERIFY_API_KEY"} <= passed


def variables_of_the_image() -> dict[str, str]:
    """What the image's ENV sets."""
    steps = [shlex.split(step) for step in DEFINITION["additional_build_steps"]["append_final"]]
    return dict(word.split("=", 1) for step in steps if step[0] == "ENV" for word in step[1:])


def test_nothing_is_written_to_a_home() -> None:
    assert variables_of_the_image()
    assert all(path.startswith("/tmp/") for path in variables_of_the_image().values())

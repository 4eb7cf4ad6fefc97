"""What make demo runs, with a bundle and without."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import yaml
from ansible_collections.lambda_microservice.platform.plugins.module_utils.bundle import archive

ROOT = Path(__file__).resolve().parents[3]
DIGEST = "sha256:" + hashlib.sha256(b"an image").hexdigest()
OWN = ["playbooks/cluster.yml", "playbooks/images.yml", "site.yml", "playbooks/verify.yml", "playbooks/index.yml"]


def commands(*arguments: str) -> list[list[str]]:
    # Not as a part of the make that may run these tests, which would say which folder it enters.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    argv = ["make", "-n", "demo", *arguments]
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return [shlex.split(line) for line in done.stdout.replace("\\\n", "").splitlines()]


def playbooks(command: list[str]) -> list[str]:
    return [word for word in command if word.endswith(".yml") and not word.startswith("@")]


def test_the_machine_is_looked_at_before_anything_is_written() -> None:
    first, second, demo = commands("EXTRA=-e cluster_registry_port=5009")
    assert first == ["tools/machine", "-e", "cluster_registry_port=5009"]
    assert second[0] == "tools/python-env"
    assert playbooks(demo) == OWN and demo[-2:] == ["-e", "cluster_registry_port=5009"]


def test_with_a_bundle_no_image_is_built_and_each_is_the_bundle_s(tmp_path: Path) -> None:
    """The playbook itself, with an oras that finds each image in the registry as it is in the bundle."""
    content = tmp_path / "content"
    content.mkdir()
    image = {"repository": "localhost:5001/lambda-microservice/redis", "tag": "0123", "digest": DIGEST}
    index = {
        "format": archive.FORMAT, "inventory": "local", "images": {"redis": image}, "charts": {}, "files": {},
        "collections": {}, "sboms": False,
    }  # fmt: skip
    (content / archive.INDEX).write_text(json.dumps(index))
    archive.pack(content, tmp_path / "bundle.tar")
    oras = tmp_path / "oras"
    oras.write_text(f'#!/bin/sh\necho "$@" >>"{tmp_path}/asked"\necho \'{{"digest": "{DIGEST}"}}\'\n')
    oras.chmod(0o755)

    _machine, _environment, first, copied, second = commands(
        f"BUNDLE={tmp_path}/bundle.tar", "EXTRA=-e cluster_registry_port=5009"
    )
    assert playbooks(first) + playbooks(second) == [
        name.replace("images.yml", "unbundle.yml") for name in OWN
    ]  # fmt: skip
    given = [word for word in first if word not in playbooks(first)][1:]
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("ansible-playbook"), "playbooks/unbundle.yml", *given),
            *("-e", f"unbundle_folder={tmp_path}/unbundled", "-e", f"unbundle_oras={oras}"),
        ],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # Asked for its digest, and not pushed.
    assert (tmp_path / "asked").read_text() == (
        "manifest fetch --descriptor --plain-http localhost:5009/lambda-microservice/redis:0123\n"
    )
    table = {"redis": {**image, "repository": "localhost:5009/lambda-microservice/redis"}}
    assert json.loads((tmp_path / "unbundled/images.json").read_text()) == table
    variables = yaml.safe_load((tmp_path / "unbundled/variables.yml").read_text())
    assert variables["platform_images_file"] == f"{tmp_path}/unbundled/images.json"
    # Where the second command and every later one find them.
    assert copied == ["cp", ".local/unbundled/images.json", ".local/images.json"]
    assert second[second.index("-e") + 1] == "@.local/unbundled/variables.yml"
    inventory = yaml.safe_load((ROOT / "inventories/local/group_vars/all/platform.yml").read_text())
    assert inventory["platform_images_file"] == "{{ cluster_state_dir }}/images.json"

"""The script that brings the kind cluster up, with programs that stand for Docker and kind."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[4] / "roles/cluster/files/kind-cluster"


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder that is first on the search path: no node is there, and kind makes none."""
    folder = tmp_path / "programs"
    folder.mkdir()
    texts = {
        "docker": '[ "$1" != inspect ] || exit 1; [ "$1" != exec ] || echo "etcd: the disk is full"',
        "kind": f'echo "$@" >> "{tmp_path}/asked"; echo "ERROR: failed to create cluster"; exit 1',
        "kubectl": "exit 1",
    }
    for name, text in texts.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def another(tmp_path: Path, programs: Path):
    """Run the script where another checkout has a cluster of this name; what it said, and what kind was asked."""
    other = tmp_path / "other" / "certs.d"
    other.mkdir(parents=True)
    (tmp_path / "image").write_text("a/node:image")
    (tmp_path / "kind.yml").write_text("nodes:\n  - role: control-plane\n")
    docker = """case $1 in
        ps) echo "made-control-plane $STATE" ;;
        inspect) echo "%s" ;;
        update) echo "$@" >> "%s/asked" ;;
    esac""" % (other, tmp_path)
    (programs / "docker").write_text(f"#!/bin/sh\n{docker}\n")
    (programs / "kind").write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/asked"\n')
    (programs / "kubectl").write_text("#!/bin/sh\n")

    def run(state: str, *options: str) -> tuple[subprocess.CompletedProcess[str], str]:
        environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "STATE": state}
        arguments = ["made", tmp_path / "image", tmp_path / "kind.yml", tmp_path / "kubeconfig", *options]
        done = subprocess.run(
            [SCRIPT, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        asked = tmp_path / "asked"
        return done, asked.read_text() if asked.exists() else ""

    return run


@pytest.mark.parametrize(
    ("state", "options"),
    [("running", []), ("exited", []), ("running", ["--throwaway"]), ("exited", ["--check"])],
)
def test_another_checkouts_cluster_is_not_touched(another, state: str, options: list[str]):
    done, asked = another(state, *options)
    assert done.returncode == 1 and "belongs to another checkout" in done.stderr
    assert asked == ""


def test_a_tests_cluster_replaces_one_that_was_left_and_is_not_started_again_by_docker(another):
    done, asked = another("exited", "--throwaway", "--check")
    assert (done.returncode, done.stdout, asked) == (0, "would create or start the cluster made\n", "")
    done, asked = another("exited", "--throwaway")
    assert done.returncode == 0, done.stderr
    lines = asked.splitlines()
    assert lines[0].startswith("delete cluster --name made")
    assert lines[1].startswith("create cluster --retain --name made")
    assert lines[2] == "update --restart=no made-control-plane"


def test_a_cluster_that_does_not_come_up_says_what_its_control_plane_said(programs: Path, tmp_path: Path):
    (tmp_path / "image").write_text("a/node:image")
    (tmp_path / "kind.yml").write_text("nodes:\n  - role: control-plane\n")
    arguments = ["made", tmp_path / "image", tmp_path / "kind.yml", tmp_path / "kubeconfig"]
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    command = [SCRIPT, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "ERROR: failed to create cluster" in done.stdout
    assert "the cluster made did not come up" in done.stderr
    assert "etcd: the disk is full" in done.stderr
    # kind would remove the nodes, and with them what can be looked at.
    assert "--retain" in (tmp_path / "asked").read_text()
    assert not (tmp_path / "kubeconfig.complete").exists()

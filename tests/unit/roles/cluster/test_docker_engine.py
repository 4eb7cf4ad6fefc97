"""The script that starts Docker where none runs, with programs that stand for Docker's."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[4] / "roles/cluster/files/docker-engine"


@pytest.fixture
def machine(tmp_path: Path) -> Callable[..., str]:
    """``machine(*options)`` runs the script on a machine that withholds capabilities; in ``tmp_path``, ``started`` has
    the arguments and ``path`` the search path of the engine once it is started.
    """
    programs = {
        "docker": f'test -e "{tmp_path}/started"',
        "dockerd": f'echo "$PATH" > "{tmp_path}/path"; echo "$@" > "{tmp_path}/started"',
        "id": "echo 0",
        "awk": "echo 0000000000000000",
        "install": "",
    }
    (tmp_path / "machine").mkdir()
    for name, text in programs.items():
        program = tmp_path / "machine" / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)

    def run(*options: str) -> str:
        return subprocess.run(
            ["bash", SCRIPT, tmp_path / "state", "runc-bounded", *options],
            env={**os.environ, "PATH": f"{tmp_path}/tools:{tmp_path}/machine:{os.environ['PATH']}"},
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout

    return run


def test_an_engine_that_answers_is_left_alone(machine, tmp_path) -> None:
    (tmp_path / "started").touch()
    assert machine() == ""
    assert not (tmp_path / "path").exists()


def test_check_mode_starts_nothing(machine, tmp_path) -> None:
    assert machine("--check") == "would install and start a Docker engine\n"
    assert not (tmp_path / "started").exists()


def test_the_engine_starts_the_programs_of_the_machine(machine, tmp_path) -> None:
    """The tools folder gets a containerd-shim-runc-v2 for the nodes, which the machine's containerd can't start."""
    assert "starting dockerd" in machine()
    assert "--default-runtime bounded" in (tmp_path / "started").read_text()
    path = (tmp_path / "path").read_text().strip().split(":")
    assert path[0] == str(tmp_path / "machine")
    assert str(tmp_path / "tools") not in path
    assert "/usr/bin" in path

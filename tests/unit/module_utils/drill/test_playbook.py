"""Which tasks of playbooks/drill.yml a choice of tags runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]


def tasks(*options: str) -> str:
    program = Path(sys.executable).with_name("ansible-playbook")
    command = [program, "--inventory", "inventories/local", "playbooks/drill.yml", "--list-tasks", *options]
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "What was broken comes back" in done.stdout
    return done.stdout


DESTROYS = [
    "Every volume of PostgreSQL is deleted, and its pods are killed",
    "PostgreSQL is stopped",
    "What Patroni knows of it is gone, and its volumes are",
]
NOTES = "The day of the rehearsal is noted"


@pytest.mark.parametrize("tag", ["redis", "edge", "controller", "runtimes", "nodes"])
def test_no_other_drill_deletes_the_data(tag: str) -> None:
    listed = tasks("--tags", tag)
    assert not [name for name in DESTROYS if name in listed]
    assert NOTES not in listed


@pytest.mark.parametrize("options", [(), ("--tags", "restore"), ("--tags", "postgresql"), ("--tags", "short")])
def test_a_restore_is_whole(options: tuple[str, ...]) -> None:
    listed = tasks(*options)
    assert [name for name in DESTROYS if name in listed] == DESTROYS
    assert listed.index("The row of the drills' table") < listed.rindex(NOTES)
    for check in ("The time can be restored", "All of them are read", "The answer is yes"):
        assert check in listed

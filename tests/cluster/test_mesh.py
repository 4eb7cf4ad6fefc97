"""The mesh comes to a platform that runs, and goes again: no request of 50 a second fails, executions have results."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.edge import Edge

from .edge_load import AUTHORITY, KEPT, RATE, ROOT, URL, Load, assert_no_failure

pytestmark = pytest.mark.cluster


def play(playbook: str, enabled: bool) -> str:
    command = [
        "ansible-playbook",
        "--inventory=inventories/local",
        f"playbooks/{playbook}.yml",
        f"--extra-vars=mesh_enabled={enabled}",
    ]
    done = subprocess.run(command, cwd=ROOT, check=False, timeout=3600, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


@contextmanager
def executions(wrong: list[str], made: list[int]) -> Iterator[None]:
    """Two a second of one session, through controller and runtime."""
    edge = Edge(URL, ca_file=AUTHORITY)
    session = edge.initialize("python", "result = context['kept'] + params['n']", {"kept": 40})["request_id"]
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.5):
            answer = edge.execute(session, {"n": 2})
            made.append(answer.status)
            if answer.status != 200 or answer.json()["result"] != 42:
                wrong.append(f"{time.strftime('%H:%M:%S')} {answer.spoken()}")

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        over.set()
        asking.join()


@pytest.mark.parametrize("enabled", [True, False], ids=["comes", "goes"])
def test_nobody_notices(tmp_path: Path, enabled: bool) -> None:
    if enabled:
        play("images", enabled)
    load, wrong, made = Load(tmp_path, KEPT), [], []
    began = time.monotonic()
    with load.running(), executions(wrong, made):
        play("site", enabled)
    print(f"site.yml took {time.monotonic() - began:.0f} s; {len(made)} executions, {len(wrong)} without their result")
    assert_no_failure(load, "the mesh " + ("comes" if enabled else "goes"), RATE * 30)
    assert not wrong, "\n".join(wrong)
    assert "changed=0 " in play("site", enabled)
    play("verify", enabled)

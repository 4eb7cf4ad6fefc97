"""What make demo says before each step, by the real ansible-playbook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.lambda_microservice.platform.plugins.callback.steps import Times, shown, told

ROOT = Path(__file__).resolve().parents[3]
Demo = Callable[..., str]

FIRST = """
- name: The cluster
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Programs
      ansible.builtin.command: sleep 1
      changed_when: "{{ built | default(true) | bool }}"
    - name: Left out
      ansible.builtin.command: sleep 1
      when: false
"""
SECOND = """
- name: The images
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Pushed
      ansible.builtin.command: "{{ 'false' if broken | default(false) | bool else 'sleep 1' }}"
      changed_when: false
"""


@pytest.fixture
def demo(tmp_path: Path) -> Demo:
    """``demo(*options)`` runs two playbooks and gives what was said. ``steps.json`` has the durations."""
    (tmp_path / "cluster.yml").write_text(FIRST)
    (tmp_path / "images.yml").write_text(SECOND)

    def run(*options: str) -> str:
        done = subprocess.run(
            [Path(sys.executable).with_name("ansible-playbook"), "cluster.yml", "images.yml", "-c", "local", *options],
            cwd=tmp_path,
            env={
                **os.environ,
                "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
                "ANSIBLE_CALLBACKS_ENABLED": "lambda_microservice.platform.steps",
                "ANSIBLE_LOCALHOST_WARNING": "false",
                "LAMBDA_STEPS_FILE": str(tmp_path / "steps.json"),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert "Traceback" not in done.stderr and "Failed" not in done.stderr, done.stderr
        return done.stdout

    return run


def _kept(tmp_path: Path) -> dict[str, dict[str, float]]:
    return json.loads((tmp_path / "steps.json").read_text())


def test_each_step_is_told_with_what_it_took_last_time(demo: Demo, tmp_path: Path) -> None:
    said = demo()
    assert "2 steps: cluster, images. How long last time: not known, it was never done to its end here." in said
    assert "Step 1 of 2, cluster\n" in said and "Step 2 of 2, images\n" in said
    kept = _kept(tmp_path)
    assert kept.keys() == {
        "The cluster: Programs", "The images: Pushed", "playbook cluster", "playbook images", "all of: cluster, images",
    }  # fmt: skip
    assert kept["The cluster: Programs"].keys() == {"changed"} and kept["The images: Pushed"].keys() == {"unchanged"}
    assert kept["The cluster: Programs"]["changed"] >= 1
    assert (
        kept["all of: cluster, images"]["changed"]
        >= sum(kept[f"playbook {name}"].popitem()[1] for name in ("cluster", "images")) - 1
    )

    # Now with a long one.
    times = {
        **_kept(tmp_path),
        "The cluster: Programs": {"changed": 964.2},
        "all of: cluster, images": {"changed": 2294},
    }
    (tmp_path / "steps.json").write_text(json.dumps(times))
    said = demo("-e", "built=false")
    assert "How long last time: 38 min 14 s where something changed." in said
    task = said.index("TASK [Programs]")
    assert task < said.index("(last time: 16 min 4 s where something changed)") < said.index("TASK [Left out]")
    # What it takes with nothing to do is known beside it.
    assert _kept(tmp_path)["The cluster: Programs"].keys() == {"changed", "unchanged"}
    assert _kept(tmp_path)["all of: cluster, images"].keys() == {"changed", "unchanged"}


def test_what_failed_does_not_count_and_what_was_done_before_does(demo: Demo, tmp_path: Path) -> None:
    said = demo("-e", "broken=true")
    assert "Step 2 of 2" in said
    assert _kept(tmp_path).keys() == {"The cluster: Programs", "playbook cluster"}


def test_a_file_that_is_no_such_file_is_written_anew(tmp_path: Path) -> None:
    for text in ("", "[", "[]", '{"a": 1}', '{"a": {"changed": "x"}}'):
        (tmp_path / "steps.json").write_text(text)
        times = Times(tmp_path / "steps.json")
        times.note("a", True, 3.21)
        assert Times(tmp_path / "steps.json").of("a") == {"changed": 3.2}
    Times(Path("/proc/none/steps.json")).note("a", True, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["steps.json"]


def test_durations_are_read_as_people_say_them() -> None:
    assert [shown(seconds) for seconds in (0.44, 53.4, 60, 3599.9)] == ["0.4 s", "53 s", "1 min 0 s", "60 min 0 s"]
    assert told({}) == ""
    assert told({"unchanged": 2, "changed": 60}) == "1 min 0 s where something changed, 2.0 s where nothing did"

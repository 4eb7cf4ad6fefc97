"""Which node image is chosen, and which programs are built with it, with programs that stand for Docker's and Go's."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = "roles/cluster/files/node-image"
ROOT = Path(__file__).resolve().parents[4]
OWN = "kindest/node:v1.37.2"
BUILT = "lambda-microservice/node:0123456789abcdef"
Choose = Callable[..., list[str]]


@pytest.fixture
def choose(tmp_path: Path) -> Choose:
    """``choose(*options, pulls=..., chosen=...)`` gives what was called, and what was said. ``tag`` has the choice."""
    checkout = tmp_path / "checkout"
    (checkout / SCRIPT).parent.mkdir(parents=True)
    shutil.copy2(ROOT / SCRIPT, checkout / SCRIPT)
    kind = tmp_path / "kind"
    (kind / "pkg/apis/config/defaults").mkdir(parents=True)
    (kind / "pkg/apis/config/defaults/image.go").write_text(f'package defaults\n\nconst Image = "{OWN}"\n')
    called = tmp_path / "called"
    programs = {
        checkout / "tools/build": f'echo build "$@" >>"{called}"',
        checkout / "images/base-image": f'echo base-image "$@" >>"{called}"',
        checkout / "images/node/build": f'echo node/build "$@" >>"{called}"; printf %s {BUILT} >"$3"',
        tmp_path / "programs/go": f'test "$2" = -m && echo "{kind}"',
        tmp_path / "programs/docker": f'cd "{tmp_path}"; case $1 in pull) test -e pulls;; image) test -e there;; esac',
    }  # fmt: skip
    for path, text in programs.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def run(source: str, *options: str, image: str = "", pulls: bool = False, chosen: str = "") -> list[str]:
        for name, there in (("pulls", pulls), ("there", bool(chosen))):
            (tmp_path / name).touch() if there else (tmp_path / name).unlink(missing_ok=True)
        called.write_text("")
        if chosen:
            (tmp_path / "tag").write_text(chosen)
        done = subprocess.run(
            [checkout / SCRIPT, source, image, "bin", "base", tmp_path / "tag", *options],
            cwd=checkout / "roles/cluster",
            env={**os.environ, "PATH": f"{tmp_path}/programs:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode in (0, 1), done.stderr
        return [*called.read_text().splitlines(), *done.stdout.splitlines(), *done.stderr.splitlines()]

    return run


def test_with_an_image_that_was_pulled_kubernetes_is_not_built(choose: Choose, tmp_path: Path) -> None:
    assert choose("auto", pulls=True) == ["build bin --clients", f"node image: pulled {OWN}"]
    assert (tmp_path / "tag").read_text() == OWN
    # Another time nothing is said, and the programs are looked at.
    assert choose("auto", chosen=OWN) == ["build bin --clients"]
    assert choose("pull", image="mine:1", pulls=True)[0] == "build bin --clients"
    assert (tmp_path / "tag").read_text() == "mine:1"


def test_what_cannot_be_pulled_is_built_from_all_programs(choose: Choose, tmp_path: Path) -> None:
    built = ["build bin", "base-image bookworm base auto", f"node/build bin base {tmp_path}/tag"]
    said = choose("auto")
    assert said[:3] == built and "can't be pulled, so it is built" in said[3]
    assert (tmp_path / "tag").read_text() == BUILT
    # It is kept, without another look at the registry.
    assert choose("auto", pulls=True, chosen=BUILT) == built
    assert choose("build", pulls=True) == built


def test_who_asks_for_a_pull_gets_nothing_else(choose: Choose) -> None:
    (said,) = choose("pull")
    assert f"{OWN} can't be pulled. Set cluster_node_image_source to build" in said


def test_check_mode_asks_only(choose: Choose, tmp_path: Path) -> None:
    assert choose("auto", "--check", pulls=True) == [f"would pull {OWN}, or build a node image from packages"]
    assert not (tmp_path / "tag").exists()
    assert choose("auto", "--check", chosen=OWN) == ["build bin --clients --check"]
    assert choose("build", "--check") == ["build bin --check", f"node/build bin base {tmp_path}/tag --check"]

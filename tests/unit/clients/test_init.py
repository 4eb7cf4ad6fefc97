"""What `lambdactl init` makes is whole: its test passes with the language's own tools, and it can be deployed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from lambdactl import failure, project

from tests.unit.clients.conftest import Lambdactl
from tests.unit.clients.test_commands import one_line

TESTS = {"python": [sys.executable, "-m", "unittest"], "nodejs": ["node", "--test"], "rust": ["cargo", "test", "-q"]}


@pytest.mark.parametrize("language", ["python", "nodejs"])
def test_its_test_passes_and_fails_with_a_wrong_script(lambdactl: Lambdactl, environment: Path, language: str) -> None:
    ended = lambdactl("init", f"{language}-hello")
    assert ended.code == 0, ended.err
    folder = environment / f"{language}-hello"
    if not shutil.which(TESTS[language][0]):
        pytest.skip(f"there is no {TESTS[language][0]}")
    run = subprocess.run(TESTS[language], cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    script = folder / project.SCRIPTS[language]
    script.write_text(script.read_text().replace("Hello", "Bye"))
    run = subprocess.run(TESTS[language], cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode != 0, run.stdout + run.stderr


@pytest.mark.parametrize("language", ["python", "nodejs", "rust"])
def test_its_configuration_is_one_that_deploy_takes(lambdactl: Lambdactl, environment: Path, language: str) -> None:
    ended = lambdactl("init", f"alice/{language}-hello", "folder")
    assert (
        f"its test: cd folder && {' '.join(TESTS[language]).replace(sys.executable, 'python3').removesuffix(' -q')}"
        in ended.out
    )
    read = project.read(environment / "folder")
    assert read.name == f"alice/{language}-hello"
    assert "greeting" in read.script
    # What is a comment is allowed where it is none.
    file = environment / "folder" / project.FILE
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], *(line.removeprefix("# ") for line in lines[1:])]))
    told = project.read(file)
    assert (told.timeout_seconds, told.visibility, told.environment) == (5, "private", {"MODE": "test"})


def test_nothing_is_written_over(lambdactl: Lambdactl, environment: Path) -> None:
    (environment / "python-hello").mkdir()
    (environment / "python-hello/mine").touch()
    ended = lambdactl("init", "python-hello")
    assert ended.code == failure.WRONG_USE and "python-hello is not empty" in one_line(ended.err)
    assert [one.name for one in (environment / "python-hello").iterdir()] == ["mine"]


@pytest.mark.parametrize("name", ["hello", "go-hello", "python-", "python-a/b", "python-ü", f"python-{'a' * 130}"])
def test_a_name_that_cannot_be_is_told_and_nothing_is_made(lambdactl: Lambdactl, environment: Path, name: str) -> None:
    ended = lambdactl("init", name)
    assert ended.code == failure.WRONG_USE and "is no name of a function" in one_line(ended.err)
    assert list(environment.iterdir()) == []


def test_a_file_in_the_place_of_the_folder_is_told(lambdactl: Lambdactl, environment: Path) -> None:
    (environment / "python-hello").touch()
    assert "python-hello: File exists" in one_line(lambdactl("init", "python-hello").err)

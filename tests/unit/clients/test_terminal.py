"""lambdactl as a process of its own: a terminal, Ctrl-C, a pipe that closes, completion, and the wheel."""

from __future__ import annotations

import errno
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
import zipfile
from pathlib import Path

import lambda_microservice_client
import pytest
import yaml

from tests.unit.clients.edge import Edge, Reply, refusal
from tests.unit.clients.test_client import FUNCTION

ROOT = Path(__file__).resolve().parents[3]
SOURCE = ROOT / "clients/python/src"
PROGRAM = [sys.executable, "-m", "lambdactl"]
MANY = Reply(200, {"functions": [FUNCTION] * 5000, "per_page": 100})


@pytest.fixture
def variables(environment: Path, edge: Edge) -> dict[str, str]:
    path = os.pathsep.join([str(SOURCE), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "LANG": "C.UTF-8", "TERM": "xterm", "LAMBDACTL_URL": edge.url}


def at_a_terminal(
    words: list[str], variables: dict[str, str], typed: bytes = b"", hidden: bool = False
) -> tuple[int, str]:
    """The exit code, and all that the terminal showed. What is typed follows the first prompt, and where it is hidden
    the moment from which the terminal shows nothing, as what came before that is thrown away."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*PROGRAM, *words], stdin=theirs, stdout=theirs, stderr=theirs, env=variables, start_new_session=True
    ) as process:
        os.close(theirs)
        shown, ends = b"", time.monotonic() + 120
        while time.monotonic() < ends:
            silent = not termios.tcgetattr(ours)[3] & termios.ECHO
            if typed and shown.rstrip().endswith(b":") and (silent or not hidden):
                os.write(ours, typed)
                typed = b""
            if not select.select([ours], [], [], 0.1)[0]:
                continue
            try:
                part = os.read(ours, 65536)
            except OSError as error:  # Linux tells the end so
                assert error.errno == errno.EIO
                break
            shown += part
            if not part:
                break
        os.close(ours)
        return process.wait(60), shown.decode()


def test_a_terminal_has_bold_heads_unless_no_color(edge: Edge, variables: dict[str, str]) -> None:
    edge.replies = [Reply(200, {"functions": [FUNCTION], "per_page": 100})] * 2
    assert "\x1b[1m" in at_a_terminal(["list"], variables)[1]
    assert "\x1b" not in at_a_terminal(["list"], {**variables, "NO_COLOR": "1"})[1]


def test_a_key_that_is_typed_is_not_shown_nor_in_the_arguments(edge: Edge, variables: dict[str, str]) -> None:
    code, shown = at_a_terminal(["login", edge.url, "--auth", "api-key"], variables, b"hunter2\n", hidden=True)
    assert code == 0 and "logged in" in shown and "hunter2" not in shown
    assert edge.requests[0].headers["x-api-key"] == "hunter2"


def test_remove_is_done_only_after_a_yes(edge: Edge, variables: dict[str, str]) -> None:
    code, shown = at_a_terminal(["remove", "python-sum"], variables, b"n\n")
    assert (code, edge.requests) == (2, []) and "nothing was changed" in shown


def test_a_wait_is_told_at_a_terminal(edge: Edge, variables: dict[str, str]) -> None:
    edge.replies = [refusal(503, "UNAVAILABLE", retry_after="1"), Reply(200, {"functions": [], "per_page": 100})]
    code, shown = at_a_terminal(["list"], variables)
    assert code == 0 and "nothing ran, again in 1.0 s" in shown


@pytest.mark.parametrize("moment", ["asking", "starting"])
def test_ctrl_c_is_clean(edge: Edge, variables: dict[str, str], moment: str) -> None:
    edge.replies = [Reply(wait_seconds=60, body={"functions": [], "per_page": 100})]
    with subprocess.Popen(
        [*PROGRAM, "list"], env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        ends = time.monotonic() + 120
        # It has begun to import what it asks with, or it has asked.
        maps = Path(f"/proc/{process.pid}/maps")
        while not (edge.requests if moment == "asking" else "ssl" in maps.read_text()):
            assert time.monotonic() < ends and process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert "Traceback" not in err and out == ""
    assert process.returncode == 130


def test_a_pipe_that_closes_early_is_clean(edge: Edge, variables: dict[str, str]) -> None:
    edge.replies = [MANY, MANY]
    for form in ("table", "json"):
        with subprocess.Popen(
            [*PROGRAM, "list", "-o", form], env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None and process.stderr is not None
            process.stdout.read(10)
            process.stdout.close()
            err = process.stderr.read()
            assert (process.wait(60), err) == (141, b""), form


def test_a_stdout_that_is_full_is_one_line(edge: Edge, variables: dict[str, str]) -> None:
    edge.replies = [MANY]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*PROGRAM, "list"], env=variables, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=120
        )
    assert done.stderr.count("\n") == 1 and "No space left" in done.stderr
    assert done.returncode == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_for_the_shell(variables: dict[str, str], shell: str) -> None:
    made = subprocess.run([*PROGRAM, "completion", shell], env=variables, capture_output=True, text=True, check=True)
    assert "_LAMBDACTL_COMPLETE" in made.stdout and made.stderr == ""
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=made.stdout, text=True, check=True)


def test_bash_completes_commands_and_contexts(variables: dict[str, str], environment: Path) -> None:
    file = environment / "contexts.json"
    file.write_text('{"current": "", "contexts": {"staging": {"url": "https://localhost"}}}')
    file.chmod(0o600)

    def completed(*words: str) -> str:
        asked = {"COMP_WORDS": " ".join(["lambdactl", *words]), "COMP_CWORD": str(len(words))}
        more = {**variables, **asked, "_LAMBDACTL_COMPLETE": "bash_complete"}
        return subprocess.run(PROGRAM, env=more, capture_output=True, text=True, check=True).stdout

    assert completed("ro") == "plain,rollback\n"
    assert completed("list", "--context", "st") == "plain,staging\n"


def test_the_wheel_has_the_program_and_its_templates(tmp_path: Path, variables: dict[str, str]) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=ROOT / "clients/python", env=variables, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        names = content.namelist()
        content.extractall(tmp_path / "installed")
    assert "lambda_microservice_client/py.typed" in names
    assert [name for name in names if "__pycache__" in name] == []
    entry = next(name for name in names if name.endswith("entry_points.txt"))
    assert "lambdactl = lambdactl.__main__:main" in (tmp_path / "installed" / entry).read_text()
    dependencies = [one for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one and Path(one) != SOURCE]
    alone = {**variables, "PYTHONPATH": os.pathsep.join([str(tmp_path / "installed"), *dependencies])}
    subprocess.run([*PROGRAM, "init", "rust-words"], cwd=tmp_path, env=alone, check=True, capture_output=True)
    assert sorted(one.name for one in (tmp_path / "rust-words").iterdir()) == [
        "Cargo.toml",
        "function.rs",
        "lambda.toml",
        "test.rs",
    ]


def test_its_version_is_the_collection_s() -> None:
    galaxy = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))
    assert lambda_microservice_client.__version__ == galaxy["version"]

"""lambdactl's commands one after the other on the platform, through its edge, as somebody does who begins.

EDGE_URL and EDGE_CA_FILE name the edge, or it is the local one's; it has to take X-User-ID, as the local one does.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .checkout import ROOT, image
from .edge_load import AUTHORITY, URL

pytestmark = pytest.mark.cluster

SCRIPTS = {"python": "function.py", "nodejs": "function.js", "rust": "function.rs"}
FAILING = {
    "python": 'raise ValueError("no")',
    "nodejs": 'throw new Error("no")',
    "rust": 'fn handle(_: Value, _: Value) -> Result<Value, String> { Err("no".into()) }',
}
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """``run(*words, code=0)``: lambdactl in a folder of its own, with that exit code."""
    source = [str(ROOT / "clients/python/src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LAMBDACTL_")}
    environment = {**kept, "PYTHONPATH": os.pathsep.join(source), "LAMBDACTL_CONFIG": str(tmp_path / "contexts.json")}

    def call(*words: str, code: int = 0, given: str = "") -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "lambdactl", *words],
            cwd=tmp_path,
            env=environment,
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
        assert (done.stderr == "") == (code == 0) and done.stderr.count("\n") == (code != 0), done.stderr
        return done

    return call


@pytest.fixture
def users(run: Run) -> tuple[str, str]:
    """Two users, each in a context of that name; the first is the current one."""
    first, second = (f"ctl-{uuid.uuid4().hex[:8]}" for _ in range(2))
    for user in (second, first):
        trust = ["--ca", AUTHORITY] if URL.startswith("https:") else []
        run("login", URL, *trust, "--user", user, "--name", user)
    return first, second


@pytest.fixture(params=SCRIPTS)
def function(request: pytest.FixtureRequest, run: Run, users: tuple[str, str]) -> Iterator[str]:
    name = f"{request.param}-{users[0]}"
    run("init", name)
    yield name
    run("remove", name, "--yes")
    assert "not found" in run("show", name, code=4).stderr


def answer(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(done.stdout)


def test_a_function_s_life(run: Run, function: str, users: tuple[str, str], tmp_path: Path) -> None:
    script = tmp_path / function / SCRIPTS[function.partition("-")[0]]
    assert f"{function} is new" in run("deploy", function, "--dry-run").stdout
    run("show", function, code=4)
    assert f"deployed {function}, version 1" in run("deploy", function, "--yes").stdout
    assert "nothing to deploy" in run("deploy", function).stdout
    assert answer(run("invoke", function, "-p", "name=Ada")) == {"greeting": "Hello, Ada!"}
    assert answer(run("invoke", f"{users[0]}/{function}", "-f", "-", given="{}")) == {"greeting": "Hello, world!"}

    assert run("alias", "set", function, "live", "1").stdout == f"{function} live: 1\n"
    script.write_text(script.read_text().replace("Hello", "Bye"))
    (tmp_path / function / "lambda.toml").open("a").write("timeout_seconds = 20\n")
    assert answer(run("deploy", function, "--yes", "-o", "json"))["version"] == 2
    assert answer(run("invoke", function)) == {"greeting": "Bye, world!"}
    assert answer(run("invoke", function, "--version", "live")) == {"greeting": "Hello, world!"}
    run("alias", "set", function, "live", "2")
    assert run("rollback", function, "live").stdout == f"{function} live: 1\n"
    called = answer(run("invoke", function, "--version", "live", "-o", "json"))
    assert (called["version"], called["result"]) == (1, {"greeting": "Hello, world!"})
    run("alias", "set", function, "canary", "1=90", "2=10")
    assert [one["alias"] for one in answer(run("alias", "list", function, "-o", "json"))] == ["canary", "live"]
    assert [one["version"] for one in answer(run("versions", function, "-o", "json"))] == [2, 1]
    assert "canary 10%" in run("versions", function).stdout
    run("alias", "remove", function, "canary")
    shown = answer(run("show", function, "-o", "json"))
    assert (shown["owner"], shown["timeout_seconds"], shown["visibility"]) == (users[0], 20, "shared")
    assert function in run("list", "--owner", users[0]).stdout

    key = uuid.uuid4().hex
    once, again = (answer(run("invoke", function, "--idempotency-key", key, "-o", "json")) for _ in range(2))
    assert once == again


def test_others_and_failures_end_with_their_exit_codes(
    run: Run, function: str, users: tuple[str, str], tmp_path: Path
) -> None:
    other = ["--context", users[1]]
    script = tmp_path / function / SCRIPTS[function.partition("-")[0]]
    run("deploy", function, "--yes")
    assert answer(run("invoke", function, *other)) == {"greeting": "Hello, world!"}
    assert users[0] in run("deploy", function, "--yes", *other, code=3).stderr
    run("remove", f"{users[0]}/{function}", "--yes", *other, code=3)
    (tmp_path / function / "lambda.toml").open("a").write('visibility = "private"\n')
    run("deploy", function, "--yes")
    run("invoke", function, *other, code=4)
    script.write_text(FAILING[function.partition("-")[0]])
    run("deploy", function, "--yes")
    assert "the script failed" in run("invoke", function, code=1).stderr
    run("invoke", function, "--version", "nowhere", code=4)
    run("invoke", function, "--timeout", "1e9", code=2)


def test_the_first_commands_of_the_document(run: Run, users: tuple[str, str], tmp_path: Path) -> None:
    page = (ROOT / "docs/lambdactl.md").read_text(encoding="utf-8")
    block = next(
        one for one in re.findall(r"^```\n(.*?)^```", page, re.MULTILINE | re.DOTALL) if "lambdactl login" in one
    )
    name = f"python-first-{users[0]}"
    for line in block.splitlines():
        words = shlex.split(line.replace("python-hello", name).replace(" me", f" {users[0]}"))
        assert words[0] == "lambdactl"
        if words[1] == "login":
            words[2:5] = [URL, *(["--ca", AUTHORITY] if URL.startswith("https:") else [])]
        done = run(*words[1:], *(["--yes"] if words[1] == "deploy" else []))
        if words[1] == "invoke":
            assert answer(done) == {"greeting": "Hello, Ada!"}
    run("remove", name, "--yes")


@pytest.mark.parametrize("language", SCRIPTS)
def test_a_file_runs_in_the_runtime_s_own_container_and_leaves_nothing(run: Run, tmp_path: Path, language: str) -> None:
    run("init", f"{language}-here")
    script = tmp_path / f"{language}-here" / SCRIPTS[language]
    chosen = ["--image", image(f"runtime-{language}")]
    assert answer(run("run", str(script), *chosen, "-p", "name=Ada")) == {"greeting": "Hello, Ada!"}
    script.write_text(FAILING[language])
    assert "the script failed" in run("run", str(script), *chosen, code=1).stderr
    listed = ["docker", "ps", "--all", "--filter", "name=lambdactl-", "--format", "{{.Names}}"]
    assert subprocess.run(listed, capture_output=True, text=True, check=True).stdout == ""

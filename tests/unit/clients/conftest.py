"""The server, and lambdactl with an environment of its own."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from lambdactl import program

from tests.unit.clients import edge as server

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def edge() -> Iterator[server.Edge]:
    with server.running() as running:
        yield running


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of localhost, by itself; its key is in the same file."""
    file = tmp_path_factory.mktemp("certificate") / "localhost.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    subprocess.run([*command, *names, "-keyout", file, "-out", f"{file}.crt"], check=True, capture_output=True)
    file.write_text(file.read_text() + Path(f"{file}.crt").read_text())
    return file


@dataclass
class Ended:
    code: int
    out: str
    err: str


Lambdactl = Callable[..., Ended]


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing of this machine's: no proxy, no contexts. The folder is the working one, and the home."""
    for name in list(os.environ):
        if name.startswith("LAMBDACTL_") or name.lower().endswith("_proxy") or name == "NO_COLOR":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LAMBDACTL_CONFIG", str(tmp_path / "contexts.json"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def lambdactl(environment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Lambdactl:
    """``lambdactl(*arguments, given=stdin, **variables)``."""

    def run(*arguments: str, given: str = "", **variables: str) -> Ended:
        with monkeypatch.context() as patched:
            for name, value in variables.items():
                patched.setenv(name, value)
            patched.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given.encode()), encoding="utf-8"))
            capsys.readouterr()
            code = program.run(list(arguments))
        out, err = capsys.readouterr()
        return Ended(code, out, err)

    return run

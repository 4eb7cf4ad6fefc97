"""A Redis that is started again has all that it had confirmed, transactions too, and nobody is its default user."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.free_ports import free_port
from tests.unit.variables.rendering import ROOT

USERS = (ROOT / "roles/data_services/templates/users.acl.j2").read_text()
(DEFAULT,) = [line for line in USERS.splitlines() if line.startswith("user default")]


def ask(port: int, *command: str, user: tuple[str, ...] = ("--user", "client", "--pass", "secret")) -> str:
    argv = ["redis-cli", "-p", str(port), "--no-auth-warning", *user, *command]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=10).stdout.strip()


@contextmanager
def redis(folder: Path) -> Iterator[int]:
    port = free_port()
    (folder / "users.acl").write_text(f"{DEFAULT}\nuser client on >secret ~* &* +@all\n")
    options = ["--port", str(port), "--dir", str(folder), "--appendonly", "yes", "--aclfile", str(folder / "users.acl")]
    with (folder / "log").open("ab") as log:
        server = subprocess.Popen(["redis-server", *options], stdout=log, stderr=log)
    try:
        end = time.monotonic() + 30
        while ask(port, "ping") != "PONG":
            assert server.poll() is None and time.monotonic() < end, (folder / "log").read_text()[-2000:]
            time.sleep(0.1)
        yield port
    finally:
        server.kill()
        server.wait()


def test_a_transaction_is_there_after_a_start(tmp_path: Path) -> None:
    with redis(tmp_path) as port:
        assert ask(port, "set", "alone", "1") == "OK"
        script = "return redis.call('set', KEYS[1], '2')"
        assert ask(port, "eval", script, "1", "by-script") == "OK"
        together = subprocess.run(
            ["redis-cli", "-p", str(port), "--no-auth-warning", "--user", "client", "--pass", "secret"],
            input="MULTI\nSET one 3\nEXPIRE one 1000\nEXEC\n",
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
        assert "QUEUED" in together.stdout
        time.sleep(1.5)  # the file is synced each second
    with redis(tmp_path) as port:
        assert [ask(port, "get", key) for key in ("alone", "by-script", "one")] == ["1", "2", "3"]


def test_nobody_is_the_default_user(tmp_path: Path) -> None:
    with redis(tmp_path) as port:
        assert ask(port, "get", "alone", user=()).startswith("NOAUTH")
        for password in ("", "secret", "default"):
            assert "WRONGPASS" in ask(port, "auth", "default", password, user=())
        assert ask(port, "--user", "default", "--pass", "x", "ping", user=()).startswith(
            ("NOAUTH", "WRONGPASS", "AUTH")
        )

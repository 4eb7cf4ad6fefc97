"""A full copy for a replica that takes longer than a minute of writes: in small, with Redis itself.

The master saves slowly (rdb-key-save-delay), and is written to meanwhile.
"""

from __future__ import annotations

import re
import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.free_ports import free_port

from .conftest import ROOT, Render
from .test_redis import configuration_of

CHART = ROOT / "roles/data_services/files/charts/redis"
NAME = "client-output-buffer-limit"
# As Redis has it, 256mb 64mb 60, with a two-hundredth of the bytes and a thirtieth of the time.
BY_DEFAULT = "replica 1310720 327680 2"


@contextmanager
def server(folder: Path, *options: str):
    folder.mkdir()
    port = free_port()
    command = ["redis-server", "--port", str(port), "--dir", str(folder), "--save", "", "--appendonly", "no", *options]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as running:
        try:
            end = time.monotonic() + 30
            while cli(port, "ping") != "PONG":
                assert running.poll() is None and time.monotonic() < end, (folder / "log").read_text()
                time.sleep(0.1)
            yield port
        finally:
            running.kill()


def cli(port: int, *command: str) -> str:
    done = subprocess.run(
        ["redis-cli", "-p", str(port), *command], capture_output=True, text=True, timeout=10, check=False
    )
    return done.stdout.strip()


def figure(port: int, section: str, name: str) -> str:
    return dict(re.findall(r"^(\w+):(.*?)\r?$", cli(port, "info", section), re.M)).get(name, "")


def copies_of(tmp_path: Path, limit: str, seconds: float) -> tuple[int, bool]:
    """How many full copies were begun, and whether the replica is in step at the end."""
    with ExitStack() as stack:
        slowly = ("--rdb-key-save-delay", "4000", "--repl-diskless-sync-delay", "0", "--repl-backlog-size", "16kb")
        master = stack.enter_context(server(tmp_path / "master", *slowly, f"--{NAME}", limit))
        with socket.create_connection(("127.0.0.1", master)) as writer:
            writer.sendall(b"".join(b"SET key:%d x\r\n" % number for number in range(1000)))
            stack.enter_context(server(tmp_path / "replica", "--replicaof", "127.0.0.1", str(master)))
            until = time.monotonic() + seconds
            value = b"v" * 20_000
            while time.monotonic() < until and figure(master, "replication", "slave0").find("state=online") < 0:
                writer.sendall(b"*3\r\n$3\r\nSET\r\n$7\r\nwritten\r\n$%d\r\n%s\r\n" % (len(value), value))
                time.sleep(0.05)
        in_step = "state=online" in figure(master, "replication", "slave0")
        return int(figure(master, "stats", "sync_full")), in_step


def test_a_replica_gets_its_copy_while_clients_write(tmp_path: Path, render: Render) -> None:
    (line,) = [line for line in configuration_of(render(CHART)) if line.startswith(NAME)]
    kind, hard, soft, seconds = line.split()[1:]
    assert (kind, hard, soft, seconds) == ("replica", "512mb", "0", "0")
    begun, in_step = copies_of(tmp_path, f"replica {(512 << 20) // 200} 0 0", 40)
    assert (begun, in_step) == (1, True)


def test_by_default_it_would_be_cut_off_again_and_again(tmp_path: Path) -> None:
    """What the chart's line is for; where Redis does otherwise one day, the line can go."""
    begun, in_step = copies_of(tmp_path, BY_DEFAULT, 12)
    assert begun > 1 and not in_step

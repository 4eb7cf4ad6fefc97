"""A master that the Sentinels take for dead and that lives, with real servers: who still confirms its writes."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from .conftest import ROOT
from .resp import Resp

SCRIPTS = ROOT / "roles/data_services/files/charts/redis/files/scripts"
USERS = yaml.safe_load((ROOT / "roles/data_services/vars/main.yml").read_text())["__data_services_redis_own_users"]
# Their numbers are part of the addresses, as in the cluster: every address of 127.0.0.0/8 is this machine.
REDIS = [f"127.77.0.{number}" for number in (1, 2, 3)]
SENTINELS = [f"127.77.1.{number}" for number in (1, 2, 3)]
DOWN_AFTER = 1.5


class Client(Resp):
    """One connection of a user."""

    def __init__(self, host: str, port: int = 6379, user: str = "admin") -> None:
        super().__init__(socket.create_connection((host, port), timeout=5))
        if port == 6379:
            self.ask("AUTH", user, "secret")


def role(host: str) -> str:
    with contextlib.suppress(OSError, RuntimeError, TypeError):
        return str(Client(host).ask("ROLE")[0])
    return ""


class Platform:
    """Three servers with the role's users, and three Sentinels with the chart's scripts."""

    def __init__(self, folder: Path, script: str) -> None:
        self.folder, self.script = folder, script
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        (self.folder / "users").mkdir()
        (self.folder / "users" / "sentinel").write_text("secret")
        acl = [f"user {name} on >secret {rules['redis']}" for name, rules in USERS.items() if "redis" in rules]
        (self.folder / "users.acl").write_text(
            "\n".join(["user default off", *acl, "user admin on >secret ~* &* +@all\n"])
        )
        (self.folder / "bin").mkdir()
        # Before Redis 7.4 the program has no -t; and what is tried here goes on without TLS.
        real = subprocess.run(["sh", "-c", "command -v redis-cli"], capture_output=True, text=True, check=True).stdout
        (self.folder / "bin/redis-cli").write_text(f'#!/bin/sh\nshift 5\nexec {real.strip()} "$@"\n')
        (self.folder / "bin/redis-cli").chmod(0o755)
        for name in ("topology", "follow-promoted"):
            text = (SCRIPTS / name).read_text()
            text = re.sub(r"(?<![\w/])/(scripts|users)\b", lambda found: f"{self.folder}/{found[1]}", text)
            (self.folder / "scripts").mkdir(exist_ok=True)
            (self.folder / "scripts" / name).write_text(text)
            (self.folder / "scripts" / name).chmod(0o755)
        for host in REDIS:
            following = [] if host == REDIS[0] else [f"replicaof {REDIS[0]} 6379"]
            self._server(host, 6379, ["masteruser replication", "masterauth secret", "repl-diskless-sync-delay 0",
                                      "min-replicas-to-write 1", "min-replicas-max-lag 2", "protected-mode no",
                                      f"replica-announce-ip {host}", f"aclfile {self.folder}/users.acl", 'save ""',
                                      *following])  # fmt: skip
        self.wait(lambda: Client(REDIS[0]).ask("INFO", "replication").count("state=online") == 2, "replication")
        for host in SENTINELS:
            self._server(host, 26379, ["protected-mode no", f"sentinel announce-ip {host}",
                                       f"sentinel monitor mymaster {REDIS[0]} 6379 2",
                                       f"sentinel down-after-milliseconds mymaster {int(DOWN_AFTER * 1000)}",
                                       f"sentinel notification-script mymaster {self.folder}/scripts/{self.script}",
                                       "sentinel auth-user mymaster sentinel", "sentinel auth-pass mymaster secret"],
                         "--sentinel")  # fmt: skip
        for host in SENTINELS:
            self.wait(lambda host=host: "OK 3 usable" in str(self.quorum(host)), f"the quorum of {host}")

    def quorum(self, host: str) -> object:
        with contextlib.suppress(RuntimeError):
            return Client(host, 26379).ask("SENTINEL", "CKQUORUM", "mymaster")
        return None

    def _server(self, host: str, port: int, lines: list[str], *arguments: str) -> None:
        folder = self.folder / host
        folder.mkdir()
        conf = folder / "redis.conf"
        conf.write_text("\n".join([f"port {port}", f"bind {host}", f"dir {folder}", *lines, ""]))
        names = {f"REDIS_{n}_SERVICE_HOST": host for n, host in enumerate(REDIS)}
        names |= {f"REDIS_SENTINEL_{n}_SERVICE_HOST": host for n, host in enumerate(SENTINELS)}
        path = f"{self.folder}/bin:{os.environ['PATH']}"
        env = {"PATH": path, "REDIS_COUNT": "3", "SENTINEL_COUNT": "3", "MASTER_NAME": "mymaster", "QUORUM": "2"}
        self.processes[host] = subprocess.Popen(
            ["redis-server", str(conf), *arguments], env={**env, **names}, stdout=(folder / "log").open("wb")
        )

    def wait(self, condition, what: str, seconds: float = 20) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with contextlib.suppress(OSError, RuntimeError):
                if condition():
                    return
            time.sleep(0.02)
        pytest.fail(f"not within {seconds} s: {what}")

    def stop(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    made = Platform(tmp_path, "follow-promoted")
    try:
        yield made
    finally:
        made.stop()


def test_the_other_replica_leaves_a_master_that_was_taken_for_dead_at_once(platform: Platform) -> None:
    platform.start()
    confirmed: dict[int, float] = {}
    ended = threading.Event()

    def write() -> None:
        # To the old master alone, as a client that is on its side of a network that broke.
        client, number = Client(REDIS[0]), 0
        client.socket.settimeout(30)
        # The old master ends its connections, be it in the middle of an answer.
        with contextlib.suppress(OSError, TypeError, ValueError):
            while not ended.is_set():
                number += 1
                with contextlib.suppress(RuntimeError):
                    client.ask("SET", f"key:{number}", number)
                    if int(str(client.ask("WAIT", 1, 500))) >= 1:
                        confirmed[number] = time.monotonic()
                time.sleep(0.002)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    platform.wait(lambda: len(confirmed) > 50, "writes")
    frozen = platform.processes[REDIS[0]]
    frozen.send_signal(signal.SIGSTOP)
    platform.wait(lambda: "master" in (role(REDIS[1]), role(REDIS[2])), "another master")
    frozen.send_signal(signal.SIGCONT)
    promoted = time.monotonic()
    chosen = next(host for host in REDIS[1:] if role(host) == "master")
    platform.wait(lambda: role(REDIS[0]) == "slave", "the old master follows the new one", 30)
    ended.set()
    client = Client(chosen)
    lost = [at - promoted for number, at in confirmed.items() if client.ask("GET", f"key:{number}") is None]
    # None on a machine that has nothing else to do. Sentinel itself tells the replica a second after the promotion.
    assert max(lost, default=0) < 0.5, len(lost)

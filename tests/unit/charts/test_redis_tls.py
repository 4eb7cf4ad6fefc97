"""Redis and its Sentinels with TLS, real ones that the chart's scripts start: what they read anew as they run."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from ansible_collections.lambda_microservice.platform.plugins.module_utils.secret import certificate as certificates

from .conftest import ROOT, Render
from .resp import Resp

CHART = ROOT / "roles/data_services/files/charts/redis"
USERS = yaml.safe_load((ROOT / "roles/data_services/vars/main.yml").read_text())["__data_services_redis_own_users"]
# Every address of 127.0.0.0/8 is this machine.
HOSTS = {f"redis-{n}": f"127.79.0.{n + 1}" for n in range(3)} | {
    f"redis-sentinel-{n}": f"127.79.1.{n + 1}" for n in range(3)
}
PORTS = {name: 26379 if "sentinel" in name else 6379 for name in HOSTS}
AUTHORITY = certificates.issue(certificates.Wanted("Redis's authority", is_ca=True), None)


def hashed(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


class Client(Resp):
    """One connection with TLS that believes the authority."""

    def __init__(self, name: str, user: str = "admin", password: str = "secret") -> None:  # noqa: S107
        context = ssl.create_default_context(cadata=AUTHORITY.certificate.decode())
        raw = socket.create_connection((HOSTS[name], PORTS[name]), timeout=10)
        super().__init__(context.wrap_socket(raw, server_hostname="redis-master"))
        self.serial = self.socket.getpeercert()["serialNumber"]
        self.ask("AUTH", user, password)


class Cluster:
    """Six pods as folders: what the kubelet mounts is written into them."""

    def __init__(self, folder: Path, configuration: str) -> None:
        self.folder, self.processes = folder, {}
        self.programs = folder / "bin"
        self.programs.mkdir()
        real = {name: shutil.which(name) for name in ("redis-cli", "redis-server")}
        # Before Redis 7.4 redis-cli has no -t. Each server has one address, which is what a pod means by itself.
        self._program(
            "redis-cli",
            f"""#!/bin/bash
            words=()
            while [ $# -gt 0 ]; do case $1 in -t) shift 2 ;; *) words+=("$1"); shift ;; esac; done
            exec {real["redis-cli"]} "${{words[@]/#127.0.0.1/$HERE}}"
            """,
        )
        self._program("redis-server", f'#!/bin/sh\nexec {real["redis-server"]} "$@" --bind "$HERE"\n')
        for name in HOSTS:
            pod = folder / name
            for part in ("users", "certificate", "configuration", "data", "run", "scripts"):
                (pod / part).mkdir(parents=True)
            for script in (CHART / "files/scripts").iterdir():
                text = script.read_text()
                text = re.sub(r"(?<![\w/])/(scripts|users|certificate|configuration|data|run/redis)\b",
                              lambda found, pod=pod: f"{pod}/{found[1].removesuffix('/redis')}", text)  # fmt: skip
                text = text.replace("/proc/1/fd/1", f"{pod}/said").replace("/proc/1/stat", "/proc/self/stat")
                (pod / "scripts" / script.name).write_text(text)
                (pod / "scripts" / script.name).chmod(0o755)
            (pod / "configuration/redis.conf").write_text(
                re.sub(
                    r"(?<![\w/])/(users|certificate|data)\b", lambda found, pod=pod: f"{pod}/{found[1]}", configuration
                )
                + "\nmaxmemory 100mb\nrepl-diskless-sync-delay 0\n"
            )
        self.certify()
        self.give_users(["old"])

    def _program(self, name: str, text: str) -> None:
        (self.programs / name).write_text(text.lstrip())
        (self.programs / name).chmod(0o755)

    def mount(self, name: str, part: str, files: dict[str, str]) -> None:
        for file, text in files.items():
            (self.folder / name / part / file).write_text(text)
        data = self.folder / name / part / "..data"
        data.mkdir(exist_ok=True)
        os.utime(data)

    def certify(self) -> None:
        pair = certificates.issue(certificates.Wanted("redis", dns_names=("redis-master",)), AUTHORITY)
        files = {"tls.crt": pair.certificate, "tls.key": pair.key, "ca.crt": AUTHORITY.certificate}
        for name in HOSTS:
            self.mount(name, "certificate", {file: text.decode() for file, text in files.items()})

    def give_users(self, passwords: list[str]) -> None:
        """The role's own users with the password secret, an admin, and a client with these passwords."""
        taken = " ".join("#" + hashed(password) for password in passwords)
        for name in HOSTS:
            side, file = ("sentinel", "sentinel-users.acl") if "sentinel" in name else ("redis", "users.acl")
            rules = [f"user {user} on #{hashed('secret')} {rule[side]}" for user, rule in USERS.items() if side in rule]
            lines = ["user default off", *rules, f"user admin on #{hashed('secret')} ~* &* +@all"]
            # Sentinel knows no other commands than its own.
            lines.append(f"user client on {taken} ~* +ping" + (" +get +set" if side == "redis" else ""))
            self.mount(name, "users", {file: "\n".join([*lines, ""]), **dict.fromkeys(USERS, "secret")})

    def environment(self, name: str) -> dict[str, str]:
        services = {f"{pod.upper().replace('-', '_')}_SERVICE_HOST": host for pod, host in HOSTS.items()}
        return {"PATH": f"{self.programs}:{os.environ['PATH']}", "HERE": HOSTS[name], "POD_NAME": name,
                "REDIS_COUNT": "3", "SENTINEL_COUNT": "3", "MASTER_NAME": "mymaster", "QUORUM": "2",
                "DOWN_AFTER_MILLISECONDS": "5000",  # a busy machine makes no master look dead
                "FAILOVER_TIMEOUT_MILLISECONDS": "10000", "PARALLEL_SYNCS": "1", **services}  # fmt: skip

    def start(self, name: str) -> None:
        script = "start-sentinel" if "sentinel" in name else "start-redis"
        self.processes[name] = subprocess.Popen(
            ["sh", str(self.folder / name / "scripts" / script)], env=self.environment(name),
            stdout=(self.folder / f"{name}.log").open("ab"), stderr=subprocess.STDOUT,
        )  # fmt: skip

    def probe(self, name: str, *words: str) -> int:
        probe = ["sh", str(self.folder / name / "scripts/probe"), *words]
        return subprocess.run(probe, env=self.environment(name), check=False, timeout=60).returncode

    def passes(self, name: str, *words: str) -> None:
        wait(f"the probe {words} of {name} passes", lambda: self.probe(name, *words) == 0)

    def stop(self) -> None:
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            process.wait()


def wait(what: str, done: Callable[[], object], seconds: float = 90) -> None:
    until, seen = time.monotonic() + seconds, ""
    while time.monotonic() < until:
        try:
            if done():
                return
        except (OSError, RuntimeError, EOFError) as error:
            seen = str(error)
        time.sleep(0.5)
    pytest.fail(f"{what}: not after {seconds} s {seen}")


def role(name: str) -> str:
    answer = Client(name).ask("ROLE")
    return str(answer[0]) if isinstance(answer, list) else ""


@pytest.fixture(scope="module")
def cluster(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    configuration = render(CHART).one("ConfigMap", "redis-configuration")["data"]["redis.conf"]
    made = Cluster(tmp_path_factory.mktemp("redis"), configuration)
    try:
        for name in HOSTS:
            made.start(name)
        for name in HOSTS:
            made.passes(name, "quorum" if "sentinel" in name else "ready")
        yield made
    finally:
        made.stop()


def test_master_replicas_and_sentinels_find_each_other_with_tls_alone(cluster: Cluster) -> None:
    replication = str(Client("redis-0").ask("INFO", "replication"))
    assert "role:master" in replication and replication.count("state=online") == 2
    for name in HOSTS:
        with socket.create_connection((HOSTS[name], PORTS[name]), timeout=5) as plain:
            plain.sendall(b"PING\r\n")
            with contextlib.suppress(ConnectionResetError):
                assert not plain.recv(16).startswith((b"+", b"-NOAUTH"))


def test_a_password_is_turned_while_both_are_taken(cluster: Cluster) -> None:
    connected = Client("redis-0", "client", "old")
    cluster.give_users(["new", "old"])
    time.sleep(3)
    checksum = hashlib.sha256((cluster.folder / "redis-0/users/users.acl").read_bytes()).hexdigest()
    assert cluster.probe("redis-0", "knows", checksum) != 0
    for name in HOSTS:
        cluster.passes(name, "sentinel" if "sentinel" in name else "ready")
    assert cluster.probe("redis-0", "knows", checksum) == 0
    assert cluster.probe("redis-0", "knows", "0" * 64) != 0
    for name in HOSTS:
        for password in ("old", "new"):
            assert Client(name, "client", password).ask("PING") == "PONG"
    # The end of the one before.
    cluster.give_users(["new", "nobody's"])
    time.sleep(3)
    for name in HOSTS:
        cluster.passes(name, "sentinel" if "sentinel" in name else "ready")
        assert Client(name, "client", "new").ask("PING") == "PONG"
        with pytest.raises(RuntimeError, match="WRONGPASS"):
            Client(name, "client", "old")
    # Who is connected stays so, from Redis 7.4 on (https://github.com/redis/redis/pull/12171).
    version = str(Client("redis-0").ask("INFO", "server")).split("redis_version:")[1].split("\r\n")[0]
    if tuple(map(int, version.split(".")[:2])) >= (7, 4):
        assert connected.ask("SET", "key", "value") == "OK"


def test_a_certificate_is_turned_and_connections_stay(cluster: Cluster) -> None:
    connected = {name: Client(name, "client", "new") for name in HOSTS}
    time.sleep(3)
    cluster.certify()
    time.sleep(3)
    for name in ("redis-0", "redis-1", "redis-2"):
        cluster.passes(name, "ready")
        assert Client(name, "client", "new").serial != connected[name].serial
        assert connected[name].ask("PING") == "PONG"
    # Sentinels start anew, each at its turn.
    ended: list[str] = []

    def all_have() -> bool:
        for name in HOSTS:
            if "sentinel" in name and name not in ended:
                cluster.probe(name, "sentinel")
                if cluster.processes[name].poll() is not None:
                    ended.append(name)
                    cluster.start(name)
                    cluster.passes(name, "quorum")
        return len(ended) == 3

    wait("every Sentinel has its certificate", all_have, 240)
    for name in ended:
        assert Client(name, "client", "new").serial != connected[name].serial
    replication = str(Client("redis-0").ask("INFO", "replication"))
    assert "role:master" in replication and replication.count("state=online") == 2


def test_a_master_that_dies_is_followed_by_another(cluster: Cluster) -> None:
    cluster.processes["redis-0"].kill()
    wait("another master", lambda: sorted([role("redis-1"), role("redis-2")]) == ["master", "slave"])
    cluster.start("redis-0")
    wait("the former master follows", lambda: role("redis-0") == "slave" and cluster.probe("redis-0", "ready") == 0)

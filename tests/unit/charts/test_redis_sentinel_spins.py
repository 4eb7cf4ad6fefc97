"""Sentinel spins on a connection whose first try was refused by a node (https://github.com/redis/redis/issues/9956)."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml

from .conftest import ROOT

SCRIPT = ROOT / "roles/data_services/files/charts/redis/files/scripts/probe"
USERS = yaml.safe_load((ROOT / "roles/data_services/vars/main.yml").read_text())["__data_services_redis_own_users"]
HERE, OTHER, MASTER = "127.77.1.1", "127.77.1.2", "127.77.0.1"
REFUSED = f"--protocol tcp --dport 26379 --destination {OTHER} --jump REJECT --reject-with icmp-port-unreachable"


@contextmanager
def running(*command: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


def ticks(process: subprocess.Popen[bytes]) -> int:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2].split()
    return int(fields[11]) + int(fields[12])


def busy(process: subprocess.Popen[bytes], seconds: float = 1) -> float:
    """The share of a processor that it takes."""
    before, began = ticks(process), time.monotonic()
    time.sleep(seconds)
    return (ticks(process) - before) / 100 / (time.monotonic() - began)


def configuration(folder: Path, host: str, *lines: str) -> Path:
    """Of a Sentinel with the role's users; the default one is the tests' own."""
    path = folder / host
    path.mkdir()
    rules = [f"user {name} on >secret {USERS[name]['sentinel']}" for name in ("sentinel", "pod")]
    (path / "users.acl").write_text("\n".join(["user default on nopass ~* &* +@all", *rules, ""]))
    text = [f"bind {host} 127.0.0.1" if host == HERE else f"bind {host}", "port 26379", f"dir {path}",
            f"aclfile {path}/users.acl", f"sentinel announce-ip {host}", f"sentinel myid {host[-1] * 40}",
            "sentinel sentinel-user sentinel", "sentinel sentinel-pass secret",
            f"sentinel monitor mymaster {MASTER} 6379 2", *lines, ""]  # fmt: skip
    (path / "sentinel.conf").write_text("\n".join(text))
    return path / "sentinel.conf"


def test_a_sentinel_that_spins_connects_anew(tmp_path: Path) -> None:
    with ExitStack() as stack:
        # A network of its own, whose rules are nobody else's.
        network = stack.enter_context(running("unshare", "--net", "sleep", "120"))
        inside = ("nsenter", "--target", str(network.pid), "--net")

        def there(command: str) -> None:
            subprocess.run([*inside, *command.split()], check=True, capture_output=True)

        time.sleep(0.5)
        there("ip link set lo up")
        there(f"iptables --append INPUT {REFUSED}")
        knows = f"sentinel known-sentinel mymaster {OTHER} 26379 {'2' * 40}"
        for host, *lines in ((OTHER,), (HERE, knows)):
            file = configuration(tmp_path, host, *lines)
            sentinel = stack.enter_context(running(*inside, "redis-server", file, "--sentinel"))
        for _attempt in range(5):
            time.sleep(3)
            there(f"iptables --delete INPUT {REFUSED}")
            time.sleep(2)
            if busy(sentinel) > 0.1:
                break
            # It waited between two tries when the rule went.
            there(f"iptables --append INPUT {REFUSED}")
            there(f"ss --kill state established dst {OTHER}")
        else:
            pytest.skip("this kernel leaves nothing in the error queue")

        (tmp_path / "pod").write_text("secret")
        text = SCRIPT.read_text().replace("/proc/1/fd/1", "/dev/stderr").replace("/proc/1/", f"/proc/{sentinel.pid}/")
        text = text.replace("--tls --cacert /certificate/ca.crt ", "")  # of no matter here
        text = re.sub(r"/(users|data)/", f"{tmp_path}/", text)

        def probe() -> str:
            command = [*inside, "env", "MASTER_NAME=mymaster", "sh", "-c", text, "probe", "sentinel"]
            return subprocess.run(command, check=True, capture_output=True, text=True).stderr

        assert probe() == ""
        for _look in range(10):  # on a machine that is busy it may not get its tenth at once
            time.sleep(2)
            if "spins" in probe():
                break
        assert busy(sentinel) < 0.1
        # One that does not spin keeps its connections.
        probe()
        time.sleep(2)
        assert probe() == ""

"""A PostgreSQL of the test's own: the chart in a namespace that is made for it, small, with the role's secrets."""

from __future__ import annotations

import subprocess
import threading
import time
from typing import Any

from .checkout import helm_upgrade, image, playbook, run

# The whole role in a namespace of a test's own: two members of PostgreSQL, no clients, as little Redis as there can be.
SMALL_ROLE = {
    "data_services_redis_replicas": 1,
    "data_services_redis_sentinels": 1,
    "data_services_redis_quorum": 1,
    "data_services_redis_haproxy_replicas": 1,
    "data_services_redis_backup": False,
    "data_services_redis_clients": {},
    "data_services_postgresql_replicas": 2,
    "data_services_postgresql_pgbouncer_replicas": 1,
    "data_services_postgresql_clients": {},
}
REQUESTS = {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "512Mi"}}
PARAMETERS = {"max_connections": 40, "shared_buffers": "64MB", "max_wal_size": "96MB", "min_wal_size": "32MB"}


class Release:
    """The chart postgresql in a namespace of its own, without a repository for backups."""

    def __init__(self, kubeconfig: str, namespace: str) -> None:
        self.kubeconfig = kubeconfig
        self.namespace = namespace

    def make(self, replicas: int, persistence: dict[str, Any], postgresql: dict[str, Any] | None = None) -> None:
        """Secrets and release; returns when every member is ready. ``postgresql`` goes over the chart's values."""
        code, said = playbook(
            "site.yml",
            *("--tags", "data_services_secret"),
            data_services_namespace=self.namespace,
            data_services_postgresql_clients={},
            data_services_redis_clients={},
        )
        assert code == 0, said
        server = {
            "image": image("postgresql"),
            "replicas": replicas,
            "resources": REQUESTS,
            "settings": {"postgresql": {"parameters": PARAMETERS}},
            "persistence": {"data": persistence},
        }
        values = {
            "postgresql": {**server, **(postgresql or {})},
            "pgbouncer": {"image": image("postgresql"), "replicas": 1, "resources": REQUESTS},
            "repository": {"enabled": False},
        }
        helm_upgrade("postgresql", self.namespace, self.kubeconfig, values)
        self.kubectl("rollout", "status", "statefulset/postgresql", "--timeout=300s")

    def kubectl(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """kubectl in the namespace."""
        return run("kubectl", "--kubeconfig", self.kubeconfig, "--namespace", self.namespace, *arguments, check=check)

    def primary(self) -> str:
        """The pod that is primary, "" while there is none."""
        labels = "app.kubernetes.io/name=postgresql,role=primary"
        names = self.kubectl("get", "pods", "-l", labels, "-o", "name").stdout.split()
        return names[0].removeprefix("pod/") if names else ""

    def inside(self, pod: str, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A command beside PostgreSQL in its container."""
        return self.kubectl("exec", pod, "-c", "postgresql", "--", *command, check=check)

    def query(self, text: str, pod: str = "") -> subprocess.CompletedProcess[str]:
        """A query in the pod of the primary, or another one, as the superuser. It may fail."""
        psql = ("psql", "-h", "/var/run/postgresql", "-U", "postgres", "-d", "postgres", "-X", "-q", "-t", "-A")
        return self.inside(pod or self.primary() or "postgresql-0", *psql, "-c", text, check=False)


class Writer:
    """Commits one row after the other and remembers what was acknowledged."""

    def __init__(self, release: Release) -> None:
        self.release = release
        self.acknowledged: list[int] = []
        self._stop = threading.Event()

    def __enter__(self) -> Writer:
        self._thread = threading.Thread(target=self._write)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _write(self) -> None:
        number = int(self.release.query("SELECT coalesce(max(n), 0) FROM written").stdout)
        while not self._stop.is_set():
            number += 1
            if self.release.query(f"INSERT INTO written VALUES ({number})").returncode == 0:  # noqa: S608 (a number)
                self.acknowledged.append(number)

    def lost(self) -> set[int]:
        kept = self.release.query("SELECT n FROM written").stdout.split()
        return set(self.acknowledged) - {int(number) for number in kept}


def standbys(release: Release) -> dict[str, str]:
    """Those that stream from the primary: pod -> sync or async."""
    rows = release.query("SELECT application_name, sync_state FROM pg_stat_replication WHERE state = 'streaming'")
    return dict(line.split("|") for line in rows.stdout.split())


def whole(release: Release) -> None:
    """Waits until two standbys follow, one of them with every commit."""
    ends = time.monotonic() + 180
    while len(standbys(release)) != 2 or "sync" not in standbys(release).values():
        assert time.monotonic() < ends, standbys(release)
        time.sleep(2)

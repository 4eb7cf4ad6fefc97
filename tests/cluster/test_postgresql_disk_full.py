"""A disk that is full: PostgreSQL says so, loses nothing that it acknowledged, and goes on when there is room.

PostgreSQL of its own, in a namespace of its own, on volumes that are small for real: tmpfs on two of kind's nodes.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest
import yaml

from .redis_release import ROOT, image

pytestmark = pytest.mark.cluster

CHART = ROOT / "roles" / "data_services" / "files" / "charts" / "postgresql"
SMALL_MIB, LARGE_MIB = 320, 640
REQUESTS = {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "512Mi"}}


def run(*command: str, given: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=ROOT, input=given, capture_output=True, text=True, timeout=400, check=False)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture
def small_volumes(
    kubeconfig: str, own_namespace: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[int], None]]:
    """Two volumes of SMALL_MIB for the StorageClass of the namespace's name; called with a size, they have that one."""
    monkeypatch.setenv("KUBECONFIG", kubeconfig)
    nodes = run("kubectl", "get", "nodes", "-o", "name", "-l", "!node-role.kubernetes.io/control-plane").stdout.split()
    chosen = [node.removeprefix("node/") for node in nodes[:2]]
    assert len(chosen) == 2, nodes
    path = f"/var/{own_namespace}"

    def on_nodes(*command: str) -> None:
        for node in chosen:
            run("docker", "exec", node, *command)

    volumes = [
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": own_namespace},
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer",
        }
    ] + [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"{own_namespace}-{node}"},
            "spec": {
                "capacity": {"storage": f"{SMALL_MIB}Mi"},
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Delete",
                "storageClassName": own_namespace,
                "local": {"path": path},
                "nodeAffinity": {
                    "required": {
                        "nodeSelectorTerms": [
                            {
                                "matchExpressions": [
                                    {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
                                ]
                            }
                        ]
                    }
                },
            },
        }
        for node in chosen
    ]
    text = yaml.safe_dump_all(volumes)
    on_nodes("mkdir", "-p", path)
    on_nodes("mount", "-t", "tmpfs", "-o", f"size={SMALL_MIB}m,mode=0777", "tmpfs", path)
    try:
        run("kubectl", "apply", "-f", "-", given=text)
        yield lambda mib: on_nodes("mount", "-o", f"remount,size={mib}m", path)
    finally:
        run("kubectl", "delete", "namespace", own_namespace, "--wait=true", "--ignore-not-found")
        run("kubectl", "delete", "-f", "-", "--ignore-not-found", given=text)
        on_nodes("umount", "--lazy", path)


@pytest.fixture
def psql(small_volumes: Callable[[int], None], own_namespace: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """PostgreSQL with a standby on those volumes: a query in the pod of its primary, as the superuser."""
    play = ["ansible-playbook", "--inventory", "inventories/local", "site.yml", "--tags", "data_services_secret"]
    play += ["--extra-vars", f"data_services_namespace={own_namespace}"]
    play += ["--extra-vars", '{"data_services_postgresql_clients": {}, "data_services_redis_clients": {}}']
    run(*play)
    parameters = {"max_connections": 20, "shared_buffers": "64MB", "max_wal_size": "96MB", "min_wal_size": "32MB"}
    values = {
        "postgresql": {
            "image": image("postgresql"),
            "replicas": 2,
            "resources": REQUESTS,
            "settings": {"postgresql": {"parameters": parameters}},
            "persistence": {"data": {"size": f"{SMALL_MIB}Mi", "storageClass": own_namespace}},
        },
        "pgbouncer": {"image": image("postgresql"), "replicas": 1, "resources": REQUESTS},
        "repository": {"enabled": False},
    }
    helm = shutil.which("helm") or str(ROOT / ".local" / "bin" / "helm")
    command = (helm, "upgrade", "--install", "postgresql", str(CHART), "--namespace", own_namespace, "--values", "-")
    run(*command, given=yaml.safe_dump(values))
    kubectl = ("kubectl", "--namespace", own_namespace)
    run(*kubectl, "rollout", "status", "statefulset/postgresql", "--timeout=300s")

    def query(text: str) -> subprocess.CompletedProcess[str]:
        primaries = run(*kubectl, "get", "pods", "-l", "app.kubernetes.io/name=postgresql,role=primary", "-o", "name")
        pod = (primaries.stdout.split() or ["pod/postgresql-0"])[0]
        inside = ("psql", "-h", "/var/run/postgresql", "-U", "postgres", "-d", "postgres", "-X", "-q", "-t", "-A")
        return run(*kubectl, "exec", pod, "-c", "postgresql", "--", *inside, "-c", text, check=False)

    return query


def test_a_full_disk_is_said_loses_nothing_and_is_over_when_there_is_room(
    small_volumes: Callable[[int], None], psql: Callable[..., subprocess.CompletedProcess[str]], own_namespace: str
) -> None:
    assert psql("CREATE TABLE filled (n int PRIMARY KEY, said text NOT NULL)").returncode == 0
    acknowledged = 0
    for number in range(1, 200):
        # 4 MB that do not compress.
        rows = "string_agg(md5(random()::text), '') FROM generate_series(1, 125000)"
        answer = psql(f"INSERT INTO filled SELECT {number}, {rows}")
        if answer.returncode != 0:
            break
        acknowledged = number
    else:
        pytest.fail("the disk did not fill up")
    assert acknowledged > 5
    logs = (
        "kubectl",
        "--namespace",
        own_namespace,
        "logs",
        "-l",
        "app.kubernetes.io/name=postgresql",
        "-c",
        "postgresql",
    )
    ends = time.monotonic() + 60
    while "No space left on device" not in run(*logs, "--tail=500").stdout:
        assert time.monotonic() < ends, answer.stderr
        time.sleep(2)

    small_volumes(LARGE_MIB)
    ends = time.monotonic() + 180
    while psql("INSERT INTO filled VALUES (1000, 'there is room')").returncode != 0:
        assert time.monotonic() < ends, "no write 180 s after there was room"
        time.sleep(2)
    kept = psql("SELECT count(*), count(DISTINCT n) FROM filled WHERE n > 0 AND n < 1000").stdout.strip()
    # What was being written when the disk was full may be there as well: it was not refused, its answer was lost.
    assert kept in {f"{count}|{count}" for count in (acknowledged, acknowledged + 1)}

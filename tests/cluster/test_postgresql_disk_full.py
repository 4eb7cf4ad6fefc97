"""A disk that is full: PostgreSQL says so, loses nothing that it acknowledged, and goes on when there is room.

PostgreSQL of its own, in a namespace of its own, on volumes that are small for real: tmpfs on two of kind's nodes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
import yaml

from .checkout import run
from .postgresql_release import Release

pytestmark = pytest.mark.cluster

SMALL_MIB, LARGE_MIB = 320, 640


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
def release(small_volumes: Callable[[int], None], kubeconfig: str, own_namespace: str) -> Release:
    """PostgreSQL with a standby on those volumes."""
    made = Release(kubeconfig, own_namespace)
    made.make(2, {"size": f"{SMALL_MIB}Mi", "storageClass": own_namespace})
    return made


def test_a_full_disk_is_said_loses_nothing_and_is_over_when_there_is_room(
    small_volumes: Callable[[int], None], release: Release
) -> None:
    assert release.query("CREATE TABLE filled (n int PRIMARY KEY, said text NOT NULL)").returncode == 0
    acknowledged = 0
    for number in range(1, 200):
        # 4 MB that do not compress.
        rows = "string_agg(md5(random()::text), '') FROM generate_series(1, 125000)"
        answer = release.query(f"INSERT INTO filled SELECT {number}, {rows}")
        if answer.returncode != 0:
            break
        acknowledged = number
    else:
        pytest.fail("the disk did not fill up")
    assert acknowledged > 5
    logs = ("logs", "-l", "app.kubernetes.io/name=postgresql", "-c", "postgresql", "--tail=500")
    ends = time.monotonic() + 60
    while "No space left on device" not in release.kubectl(*logs).stdout:
        assert time.monotonic() < ends, answer.stderr
        time.sleep(2)

    small_volumes(LARGE_MIB)
    ends = time.monotonic() + 180
    while release.query("INSERT INTO filled VALUES (1000, 'there is room')").returncode != 0:
        assert time.monotonic() < ends, "no write 180 s after there was room"
        time.sleep(2)
    kept = release.query("SELECT count(*), count(DISTINCT n) FROM filled WHERE n > 0 AND n < 1000").stdout.strip()
    # What was being written when the disk was full may be there as well: it was not refused, its answer was lost.
    assert kept in {f"{count}|{count}" for count in (acknowledged, acknowledged + 1)}

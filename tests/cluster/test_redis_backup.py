"""Copies of Redis's data, a disaster, and the way back; and what goes wrong on the way, said clearly."""

from __future__ import annotations

import base64
import time

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rollout.rollout import Rollout

from .checkout import playbook
from .redis_release import Release

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def release(cluster, kubeconfig, own_namespace):
    made = Release(cluster, kubeconfig, own_namespace)
    made.make({"backup": {"volume": {"size": "1Gi"}}})
    return made


def job(release: Release, name: str, seconds: float = 180) -> tuple[bool, str]:
    """A Job of the CronJob redis-backup, as kubectl create job --from makes it: whether it succeeded, and its log."""
    place = {"namespace": release.namespace, "apiVersion": "batch/v1"}
    spec = release.cluster.get({**place, "kind": "CronJob", "name": "redis-backup"})["spec"]["jobTemplate"]["spec"]
    spec = {**spec, "backoffLimit": 0}
    made = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": release.namespace}}
    release.cluster.apply({**made, "spec": spec}, "test")
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        status = release.cluster.get(made).get("status") or {}
        done = {c["type"] for c in status.get("conditions") or [] if c["status"] == "True"} & {"Complete", "Failed"}
        if done:
            (pod,) = release.cluster.list("v1", "Pod", release.namespace, f"batch.kubernetes.io/job-name={name}")
            return done == {"Complete"}, release.cluster.logs(
                release.namespace, pod["metadata"]["name"], "backup", tail_lines=50
            )
        time.sleep(1)
    raise AssertionError(f"the Job {name} did not end in {seconds:g} s")


def restore(release: Release, copy: str, kubeconfig: str) -> tuple[int, str]:
    """playbooks/restore-redis.yml, as a person runs it."""
    return playbook(
        "playbooks/restore-redis.yml",
        data_services_namespace=release.namespace,
        restore_confirm="yes",
        restore_redis_copy=copy,
        platform_kubeconfig=kubeconfig,
    )


def test_what_was_copied_comes_back_and_nothing_else(release: Release, kubeconfig: str) -> None:
    client = release.client("admin")
    client.hset("drill:hash", mapping={"a": "1", "b": "2"})
    client.zadd("drill:sorted", {"x": 1.5, "y": 2.5})
    with client.pipeline(transaction=False) as pipe:
        for number in range(2000):
            pipe.set(f"drill:key:{number}", f"value {number}", ex=86400)
        pipe.execute()
    assert client.wait(2, 5000) == 2

    succeeded, log = job(release, "copy")
    assert succeeded, log
    assert "2002 keys" in log
    name = log.split(":")[0].split()[-1]

    code, said = restore(release, "redis-19700101T000000Z.rdb", kubeconfig)
    assert code != 0
    assert f"there is no copy redis-19700101T000000Z.rdb; there are: {name}" in said
    assert client.dbsize() == 2002, "a restore that is refused changes nothing"

    # The disaster, and what was written after it.
    client.flushall()
    client.set("drill:later", "1")
    code, said = restore(release, "latest", kubeconfig)
    assert code == 0, said
    release.wait_until_whole()

    client = release.client("admin")
    assert client.dbsize() == 2002
    assert client.get("drill:later") is None
    assert client.hgetall("drill:hash") == {"a": "1", "b": "2"}
    assert client.zrange("drill:sorted", 0, -1, withscores=True) == [("x", 1.5), ("y", 2.5)]
    assert client.mget([f"drill:key:{n}" for n in range(2000)]) == [f"value {n}" for n in range(2000)]
    assert 0 < client.ttl("drill:key:1") <= 86400
    # And it goes on from there.
    assert client.set("drill:after", "1") and client.wait(2, 5000) == 2
    sizes = {release.admin(f"redis-{n}", "dbsize") for n in range(3)}
    assert sizes == {"2003"}


def test_a_wrong_password_is_a_failed_job_that_says_so(release: Release) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "name": "redis-users", "namespace": release.namespace}
    right = release.cluster.get(secret)["data"]["backup"]
    release.cluster.patch(secret, {"data": {"backup": base64.b64encode(b"wrong").decode()}}, "test")
    try:
        succeeded, log = job(release, "wrong-password")
    finally:
        release.cluster.patch(secret, {"data": {"backup": right}}, "test")
    assert not succeeded
    assert "no copy was made" in log
    assert "refuses the password of backup that redis-users holds" in log


def test_a_storage_class_that_does_not_exist_is_named(cluster, kubeconfig, namespace) -> None:
    made = Release(cluster, kubeconfig, namespace)
    made.make(
        {"backup": {"enabled": False}, "redis": {"persistence": {"data": {"storageClass": "no-such-class"}}}},
        ready=False,
    )
    workloads = [{"kind": "StatefulSet", "name": "redis", "namespace": namespace}]
    with pytest.raises(PlatformError) as refused:
        Rollout(
            cluster,
            {"workloads": workloads, "timeout_seconds": 240, "max_restarts": 3, "log_lines": 5},
            lambda _line: None,
        ).run()
    assert "no-such-class" in str(refused.value)

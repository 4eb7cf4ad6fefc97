"""The clock of one member is wrong: nothing is lost, there is one primary, and it follows again once it is mended.

PostgreSQL of its own, in a namespace of its own, in the platform's image with Debian's libfaketime: kind's nodes share
one clock, so what is turned is the clock that a member's processes see. Only that of the time of day: one that counts
seconds does not jump either when a time service sets a node right.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.cluster import Platform

from .checkout import image, run
from .postgresql_release import Release, Writer, standbys, whole

pytestmark = pytest.mark.cluster

DOCKERFILE = """
ARG BASE
FROM ${BASE}
USER 0
RUN apt-get update && apt-get install -y --no-install-recommends libfaketime \\
    && ln -s /usr/lib/*/faketime/libfaketimeMT.so.1 /usr/lib/
USER 999:999
"""
TURNED = {
    "LD_PRELOAD": "/usr/lib/libfaketimeMT.so.1",
    "FAKETIME_TIMESTAMP_FILE": "/tmp/clock",
    "FAKETIME_CACHE_DURATION": "1",
    "FAKETIME_DONT_FAKE_MONOTONIC": "1",
}
# Of the chart: longer than that without the leader's sign of life, and another member takes over.
TTL_SECONDS = 20


def turnable_image() -> str:
    base = image("postgresql")
    reference = f"{base}-clock"
    run("docker", "build", "--build-arg", f"BASE={base}", "--tag", reference, "-", given=DOCKERFILE, seconds=600)
    run("docker", "push", "--quiet", reference)
    return reference


@pytest.fixture(scope="module")
def release(kubeconfig: str, own_namespace: str) -> Release:
    made = Release(kubeconfig, own_namespace)
    made.make(3, {"size": "1Gi"}, {"image": turnable_image(), "env": TURNED})
    assert made.query("CREATE TABLE written (n int PRIMARY KEY)").returncode == 0
    return made


@pytest.fixture
def turn(release: Release) -> Iterator[Callable[[str, str], None]]:
    """turn(POD, "+1h") turns a member's clock; at the end every clock is right and every member follows."""
    turned = []

    def turn_clock(pod: str, by: str) -> None:
        turned.append(pod)
        before = int(release.inside(pod, "date", "+%s").stdout)
        release.inside(pod, "sh", "-c", f"echo {by} > /tmp/clock")
        time.sleep(2)
        assert abs(int(release.inside(pod, "date", "+%s").stdout) - before) > 1800

    yield turn_clock
    for pod in turned:
        release.inside(pod, "rm", "-f", "/tmp/clock")
    whole(release)


def kill(release: Release, pod: str) -> None:
    release.kubectl("delete", "pod", pod, "--grace-period=0", "--force")
    ends = time.monotonic() + 90
    while release.primary() in ("", pod) or release.query("SELECT 1").returncode != 0:
        assert time.monotonic() < ends, "no other primary"
        time.sleep(1)


def test_a_primary_whose_clock_goes_forward_stays_and_one_with_a_right_clock_takes_over(
    release: Release, turn: Callable[[str, str], None]
) -> None:
    whole(release)
    first = release.primary()
    with Writer(release) as writer:
        turn(first, "+1h")
        time.sleep(TTL_SECONDS + 10)
        assert release.primary() == first
        kill(release, first)
        time.sleep(5)
    whole(release)
    assert release.primary() != first
    assert len(writer.acknowledged) > 20
    assert not writer.lost()


def test_a_primary_whose_clock_goes_back_is_followed_by_another_and_nothing_is_lost(
    release: Release, turn: Callable[[str, str], None]
) -> None:
    """Patroni sleeps until a time of day, so its sign of life is missing until another has taken the lock."""
    whole(release)
    first = release.primary()
    with Writer(release) as writer:
        turn(first, "-1h")
        ends = time.monotonic() + 2 * TTL_SECONDS
        while release.primary() in ("", first):
            assert time.monotonic() < ends, "no other primary"
            time.sleep(1)
        time.sleep(10)
        assert release.query("SELECT pg_is_in_recovery()", first).stdout.strip() != "f", "two primaries"
    release.inside(first, "rm", "-f", "/tmp/clock")
    whole(release)
    assert writer.acknowledged
    assert not writer.lost()


def test_a_standby_whose_clock_goes_back_costs_no_commit(release: Release, turn: Callable[[str, str], None]) -> None:
    whole(release)
    first = release.primary()
    (synchronous,) = [pod for pod, state in standbys(release).items() if state == "sync"]
    with Writer(release) as writer:
        turn(synchronous, "-1h")
        time.sleep(TTL_SECONDS + 10)
        assert release.primary() == first
        assert len(standbys(release)) == 2
    assert len(writer.acknowledged) > 20
    assert not writer.lost()


def test_verify_names_the_node_whose_clock_is_wrong(cluster, own_namespace: str) -> None:
    """As a kubelet with such a clock does: the lease has its time, and the API server's is noted beside it."""
    platform = Platform(cluster, [], [], wait_seconds=0)
    assert "nodes, the furthest is" in platform.clocks().detail
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": own_namespace, "namespace": "kube-node-lease"},
        "spec": {
            "holderIdentity": own_namespace,
            "leaseDurationSeconds": 40,
            "renewTime": "2020-01-01T00:00:00.000000Z",
        },
    }
    cluster.apply(lease, "test")
    try:
        with pytest.raises(PlatformError, match=f"{own_namespace} is [0-9]+.[0-9] s behind"):
            platform.clocks()
    finally:
        cluster.delete(lease)

"""A changed setting that only a start applies: every member has it in the end, in its pod, and no commit is lost."""

from __future__ import annotations

import time

import pytest

from .postgresql_release import PARAMETERS, Release, Writer, whole

pytestmark = pytest.mark.cluster

MEMBERS = ("postgresql-0", "postgresql-1", "postgresql-2")


def make(release: Release, max_connections: int) -> None:
    parameters = {**PARAMETERS, "max_connections": max_connections}
    release.make(3, {"size": "1Gi"}, {"settings": {"postgresql": {"parameters": parameters}}})


def shown(release: Release) -> list[str]:
    return [release.query("SHOW max_connections", pod).stdout.strip() for pod in MEMBERS]


def pods(release: Release) -> str:
    return release.kubectl("get", "pods", *MEMBERS, "--output=jsonpath={.items[*].metadata.uid}").stdout


@pytest.mark.parametrize("max_connections", [60, 30])
def test_every_member_is_restarted_for_it(kubeconfig: str, own_namespace: str, max_connections: int) -> None:
    """More, which the standbys get first, and less, which the primary does."""
    release = Release(kubeconfig, own_namespace)
    make(release, PARAMETERS["max_connections"])
    whole(release)
    before = pods(release)
    assert release.query("CREATE TABLE IF NOT EXISTS written (n int PRIMARY KEY)").returncode == 0
    with Writer(release) as writer:
        make(release, max_connections)
        ends = time.monotonic() + 420
        while shown(release) != [str(max_connections)] * 3:
            assert time.monotonic() < ends, shown(release)
            time.sleep(2)
    whole(release)
    assert pods(release) == before
    assert len(writer.acknowledged) > 20
    assert not writer.lost()

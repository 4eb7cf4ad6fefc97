"""What a rollback would lose."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.chart.volumes import DATA_VERSION
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.manifest import key_of
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.release import Release, Revision
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rollback.loss import losses, major
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rollback.rollback import hooks_that_stay
from hypothesis import given
from hypothesis import strategies as st


def release(number: int, app_version: str = "") -> Release:
    revision = Revision("pg", "data", number, "deployed")
    return Release(revision, "deployed", "", "", [], {}, "pg", "1.0.0", app_version)


def stateful(image: str = "postgresql@sha256:ab", volumes: tuple[str, ...] = ("data",)) -> dict[str, Any]:
    templates = [{"metadata": {"name": name}} for name in volumes]
    pod = {"spec": {"containers": [{"name": "postgresql", "image": image}]}}
    spec = {"template": pod, "volumeClaimTemplates": templates}
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "postgresql"}, "spec": spec}


def told(one: Any, other: Any, now: str = "", then: str = "") -> list[str]:
    before, after = ({key_of(obj, "data"): obj for obj in objects} for objects in (one, other))
    return [f"{error.what}: {error.found}" for error in losses(release(2, now), release(1, then), before, after)]


versions = st.integers(1, 99)


@given(versions, versions, st.sampled_from(["", ".2", ".10.1"]), st.sampled_from(["", "v"]))
def test_an_older_major_version_of_what_keeps_data_is_refused(new: int, old: int, minor: str, before: str) -> None:
    found = told([stateful()], [stateful()], f"{before}{new}{minor}", f"{before}{old}")
    assert bool(found) == (old < new)
    tags = told([stateful(f"docker.io/library/redis:{new}{minor}-bookworm")], [stateful(f"redis:{before}{old}.1")])
    assert bool(tags) == (old < new)


def test_data_of_another_version_than_the_older_revision_has_are_refused() -> None:
    """Of one image, that has both."""
    now, then = stateful(), stateful()
    for obj, version in ((now, "17"), (then, "15")):
        obj["metadata"]["annotations"] = {DATA_VERSION: version}
    (error,) = told([now], [then])
    assert "data of 17; version 15 asked for" in error


@given(versions, versions)
def test_what_keeps_nothing_may_go_back(new: int, old: int) -> None:
    assert told([stateful(volumes=())], [stateful(volumes=())], str(new), str(old)) == []


def test_tags_that_are_no_versions_say_nothing() -> None:
    assert told([stateful("pg:latest")], [stateful("pg:9")]) == []
    assert told([stateful("pg:20261130")], [stateful("pg:3f2a9c")]) == []
    assert [major(text) for text in ("17", "v8.0-bookworm", "3f2a9c", "latest", "20261130", "")] == [17, 8] + [None] * 4


def test_a_volume_that_the_older_revision_has_not_is_told() -> None:
    (found,) = told([stateful(volumes=("data", "wal"))], [stateful()])
    assert "without wal" in found
    (found,) = told([stateful()], [])
    assert "without the StatefulSet itself" in found
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "backup"}}
    assert len(told([claim, stateful()], [stateful()])) == 1
    # More volumes than there are now lose nothing.
    assert told([stateful()], [stateful(volumes=("data", "wal"))]) == []


@pytest.mark.parametrize(
    ("events", "stays"),
    [
        ("pre-install,pre-upgrade", True),
        ("post-upgrade", True),
        ("test", False),
        ("pre-delete", False),
        ("pre-upgrade,pre-rollback", True),
    ],
)
def test_migrations_that_do_not_go_back_are_named(events: str, stays: bool) -> None:
    def job(events: str, image: str = "1") -> dict[str, Any]:
        metadata = {"name": "migrate", "annotations": {"helm.sh/hook": events}}
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"image": image}}

    newer = {key_of(job(events), "c"): job(events, "2")}
    assert bool(hooks_that_stay(newer, {})) is stays
    undone = {key_of(job(events), "c"): job("pre-rollback")}
    assert hooks_that_stay(newer, undone) == []
    # A hook's account is no work.
    account = {"apiVersion": "v1", "kind": "ServiceAccount",
               "metadata": {"name": "migrate", "annotations": {"helm.sh/hook": events}}}  # fmt: skip
    assert hooks_that_stay({key_of(account, "c"): account}, {}) == []

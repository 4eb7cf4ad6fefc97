"""When a workload has rolled out. The expectations are those of kubectl's rollout_status.go, case by case."""

from __future__ import annotations

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.workloads import (
    FAILED,
    MISSING,
    READY,
    WAITING,
    status_of,
)
from hypothesis import given
from hypothesis import strategies as st


def deployment(desired=3, generation=2, observed=2, conditions=(), paused=False, **status):
    counts = {"replicas": desired, "updatedReplicas": desired, "readyReplicas": desired, "availableReplicas": desired}
    return {
        "kind": "Deployment",
        "metadata": {"name": "d", "generation": generation},
        "spec": {"replicas": desired, "paused": paused},
        "status": {**counts, "observedGeneration": observed, "conditions": list(conditions), **status},
    }


def stateful_set(desired=3, strategy=None, generation=1, observed=1, min_ready=0, **status):
    counts = {"replicas": desired, "updatedReplicas": desired, "readyReplicas": desired, "availableReplicas": desired}
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}} if strategy is None else strategy
    return {
        "kind": "StatefulSet",
        "metadata": {"name": "s", "generation": generation},
        "spec": {"replicas": desired, "updateStrategy": strategy, "minReadySeconds": min_ready},
        "status": {
            **counts,
            "observedGeneration": observed,
            "currentRevision": "s-1",
            "updateRevision": "s-1",
            **status,
        },
    }


def daemon_set(desired=3, strategy="RollingUpdate", **status):
    counts = {"updatedNumberScheduled": desired, "numberReady": desired, "numberAvailable": desired}
    return {
        "kind": "DaemonSet",
        "metadata": {"name": "x", "generation": 1},
        "spec": {"updateStrategy": {"type": strategy}},
        "status": {"desiredNumberScheduled": desired, **counts, "observedGeneration": 1, **status},
    }


def job(conditions=(), suspend=False, completions=1, **status):
    return {
        "kind": "Job",
        "metadata": {"name": "j", "generation": 1},
        "spec": {"completions": completions, "suspend": suspend},
        "status": {"conditions": list(conditions), **status},
    }


def condition(kind, status="True", reason="", message="", **more):
    return {"type": kind, "status": status, "reason": reason, "message": message, **more}


@pytest.mark.parametrize(
    ("workload", "state", "says"),
    [
        (deployment(), READY, "3/3 available"),
        (deployment(desired=0), READY, "0/0 available"),
        (deployment(observed=1), WAITING, "newest spec"),
        (deployment(updatedReplicas=1), WAITING, "1/3 updated"),
        (deployment(updatedReplicas=1, paused=True), WAITING, "paused"),
        (deployment(replicas=4), WAITING, "1 old pods"),
        (deployment(availableReplicas=2), WAITING, "2/3 available"),
        (
            deployment(
                availableReplicas=2,
                conditions=[condition("Progressing", "False", "ProgressDeadlineExceeded", "has timed out")],
            ),
            FAILED,
            "has timed out",
        ),
        # The condition is about an older spec until the controller has seen the newest.
        (
            deployment(observed=1, conditions=[condition("Progressing", "False", "ProgressDeadlineExceeded")]),
            WAITING,
            "newest spec",
        ),
        (stateful_set(), READY, "3/3 ready"),
        (stateful_set(observed=0, generation=0), WAITING, "newest spec"),
        (stateful_set(generation=2), WAITING, "newest spec"),
        (stateful_set(readyReplicas=2), WAITING, "2/3 ready"),
        (stateful_set(updatedReplicas=1), WAITING, "1/3 updated"),
        (
            stateful_set(strategy={"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}, updatedReplicas=1),
            READY,
            "3/3 ready",
        ),
        (
            stateful_set(strategy={"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}, updatedReplicas=0),
            WAITING,
            "0/1 updated",
        ),
        (
            stateful_set(strategy={"type": "RollingUpdate", "rollingUpdate": {"partition": 9}}, updatedReplicas=0),
            READY,
            "3/3 ready",
        ),
        (stateful_set(strategy={"type": "OnDelete"}, updatedReplicas=1), READY, "1 at the newest revision"),
        (stateful_set(strategy={"type": "OnDelete"}, readyReplicas=1), WAITING, "1/3 ready"),
        (stateful_set(strategy={"type": "RollingUpdate"}, updateRevision="s-2"), WAITING, "updated"),
        (stateful_set(availableReplicas=1), READY, "3/3 ready"),
        (stateful_set(availableReplicas=1, min_ready=5), WAITING, "1/3 available"),
        (daemon_set(), READY, "3/3 available"),
        (daemon_set(desired=0), READY, "0/0 available"),
        (daemon_set(observedGeneration=0), WAITING, "newest spec"),
        (daemon_set(updatedNumberScheduled=1), WAITING, "1/3 updated"),
        (daemon_set(updatedNumberScheduled=1, strategy="OnDelete"), READY, "3/3 available"),
        (daemon_set(numberAvailable=2), WAITING, "2/3 available"),
        (job(), WAITING, "0/1 completed"),
        (job(active=2, succeeded=1, completions=3), WAITING, "1/3 completed, 2 running"),
        (job(suspend=True), WAITING, "suspended"),
        (job([condition("Complete")], succeeded=1), READY, "1 completed"),
        (
            job([condition("Failed", reason="BackoffLimitExceeded", message="limit")]),
            FAILED,
            "BackoffLimitExceeded: limit",
        ),
        (job([condition("Failed", reason="DeadlineExceeded")]), FAILED, "DeadlineExceeded"),
        (job([condition("FailureTarget"), condition("Failed", "False")]), WAITING, "0/1"),
    ],
)
def test_the_state_of_a_workload(workload, state, says):
    status = status_of(workload)
    assert (status.state, says in status.message) == (state, True), status


def test_what_does_not_exist_or_is_being_deleted():
    assert status_of(None).state == MISSING
    gone = deployment()
    gone["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert status_of(gone).state == WAITING


def test_a_workload_without_any_status_waits():
    for kind, workload in (("Deployment", deployment()), ("StatefulSet", stateful_set()), ("DaemonSet", daemon_set())):
        assert status_of({**workload, "kind": kind, "status": None}).state == WAITING


def custom(conditions, generation=2, **status):
    return {
        "kind": "Prometheus",
        "metadata": {"name": "p", "generation": generation},
        "status": {"conditions": conditions, **status},
    }


@pytest.mark.parametrize(
    ("workload", "wanted", "state", "says"),
    [
        (custom([condition("Available")]), "Available", READY, "Available is True"),
        (custom([condition("Available", "False", "NoPods", "0 pods")]), "Available", WAITING, "NoPods: 0 pods"),
        (custom([condition("Degraded", "False")]), "Degraded=False", READY, "Degraded is False"),
        (custom([condition("Degraded", "True")]), "Degraded=False", WAITING, "not False"),
        (custom([condition("Ready", "Unknown")]), "Ready=unknown", READY, "Unknown"),
        (custom([]), "Available", WAITING, "no condition Available"),
        ({"kind": "X", "metadata": {}}, "Ready", WAITING, "no condition Ready"),
        (custom([condition("Available", observedGeneration=1)]), "Available", WAITING, "newest spec"),
        (custom([condition("Available", observedGeneration=2)]), "Available", READY, "True"),
        (custom([condition("Available")], observedGeneration=1), "Available", WAITING, "newest spec"),
    ],
)
def test_a_condition(workload, wanted, state, says):
    status = status_of(workload, wanted)
    assert (status.state, says in status.message) == (state, True), status


def test_a_condition_replaces_the_kinds_own_rules():
    assert status_of(deployment(availableReplicas=0, conditions=[condition("Available")]), "Available").state == READY


counts = st.integers(0, 4)


@given(counts, counts, counts, counts, counts)
def test_a_deployment_is_ready_only_when_all_wanted_pods_are_new_and_available(
    desired, total, updated, ready, available
):
    status = status_of(
        deployment(desired, replicas=total, updatedReplicas=updated, readyReplicas=ready, availableReplicas=available)
    )
    assert (status.state == READY) == (updated >= desired and total <= updated and available >= updated)


@given(counts, counts, counts, st.integers(0, 5))
def test_a_stateful_set_is_ready_only_when_all_are_ready_and_those_past_the_partition_new(
    desired, updated, ready, part
):
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": part}}
    status = status_of(stateful_set(desired, strategy, updatedReplicas=updated, readyReplicas=ready))
    assert (status.state == READY) == (ready >= desired and updated >= desired - part)

"""The module rollout on a real cluster: what comes, and each way in which a workload does not."""

from __future__ import annotations

import time

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rollout import rollout

pytestmark = pytest.mark.cluster

SLEEP = "trap exit TERM; sleep 3600 & wait"


@pytest.fixture
def workload(cluster, namespace, image):
    """Create a workload of the test's namespace and return the module's entry for it."""

    def make(kind, name, script=SLEEP, spec=None, container=None, **pod):
        container = {
            "name": "main",
            "image": image,
            "command": ["sh", "-c", script],
            "resources": {"requests": {"cpu": "1m", "memory": "8Mi"}},
            **(container or {}),
        }
        template = {
            "metadata": {"labels": {"app": name}},
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "automountServiceAccountToken": False,
                "containers": [container],
                **pod,
            },
        }
        full = {"template": template, **(spec or {})}
        if kind == "Job":
            full = {"backoffLimit": 0, **full}
            template["spec"]["restartPolicy"] = "Never"
        else:
            full["selector"] = {"matchLabels": {"app": name}}
        if kind == "StatefulSet":
            full["serviceName"] = name
        api_version = "batch/v1" if kind == "Job" else "apps/v1"
        metadata = {"name": name, "namespace": namespace}
        cluster.apply({"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": full}, "test")
        return {"kind": kind, "name": name, "namespace": namespace}

    return make


@pytest.fixture
def wait(kubeconfig):
    """Run the module's logic; its lines are in ``wait.lines``."""
    lines = []

    def run(*workloads, check_mode=False, **changes):
        params = {"timeout_seconds": 120, "max_restarts": 3, "log_lines": 20, **changes}
        params = {"kubeconfig": kubeconfig, "workloads": list(workloads), **params}
        return rollout.run(params, check_mode, False, lines.append)

    run.lines = lines
    return run


def failure(wait, *workloads, **changes):
    start = time.monotonic()
    with pytest.raises(PlatformError) as error:
        wait(*workloads, **changes)
    print(error.value)
    return error.value, time.monotonic() - start


READY_AFTER = {"readinessProbe": {"exec": {"command": ["true"]}, "initialDelaySeconds": 3, "periodSeconds": 1}}


def test_four_kinds_come_and_a_second_look_is_quick(workload, wait):
    entries = [
        workload("Deployment", "web", spec={"replicas": 2}, container=READY_AFTER),
        workload("StatefulSet", "store"),
        workload("DaemonSet", "agent"),
        workload("Job", "task", "echo done"),
    ]
    result = wait(*entries)
    assert [entry["state"] for entry in result["workloads"]] == ["ready"] * 4
    assert wait.lines
    seconds = []
    for _repeat in range(5):
        start = time.perf_counter()
        assert not wait(*entries)["changed"]
        seconds.append(time.perf_counter() - start)
    print(f"4 workloads, all ready: best {min(seconds):.3f} s, worst {max(seconds):.3f} s")
    # Measured: 0.10 to 0.24 s; see test_policy.py for the margin.
    assert min(seconds) < 0.5


def test_an_image_that_does_not_exist_is_named_within_30_seconds_of_the_first_back_off(
    workload, wait, cluster, namespace, image
):
    missing = image.rpartition(":")[0] + ":no-such-tag"
    entry = workload("Deployment", "web", container={"image": missing})
    error, _seconds = failure(wait, entry)
    ended = time.time()
    (backed_off, *_rest) = sorted(
        event["firstTimestamp"]
        for event in cluster.list("v1", "Event", namespace)
        if event["reason"] in ("BackOff", "Failed") and event["involvedObject"]["kind"] == "Pod"
    )
    # The nodes' clock is this machine's only on a local cluster; elsewhere a skew of seconds shifts the number.
    first = time.strptime(backed_off, "%Y-%m-%dT%H:%M:%SZ")
    since = ended - (time.mktime(first) - time.timezone)
    print(f"named {since:.0f} s after the first failed pull")
    assert since < 30
    assert error.reason == "rollout"
    assert missing in str(error)
    assert "container main" in str(error)


def test_a_malformed_image_name_is_named_at_once(workload, wait):
    error, seconds = failure(wait, workload("Deployment", "web", container={"image": "Not/An/Image"}))
    assert "InvalidImageName" in str(error)
    assert seconds < 15


def test_a_crash_loop_shows_exit_code_and_log(workload, wait):
    entry = workload(
        "Deployment", "web", "echo starting; echo cannot open /etc/x >&2; exit 3", spec={"minReadySeconds": 30}
    )
    error, _seconds = failure(wait, entry, max_restarts=2)
    text = str(error)
    assert error.reason == "rollout"
    assert "exit code 3" in text
    assert "restarts: 2" in text
    assert "| starting" in text
    assert "| cannot open /etc/x" in text


def test_a_failed_job_shows_its_log(workload, wait):
    error, seconds = failure(wait, workload("Job", "task", "echo half; echo broken >&2; exit 7"))
    assert "BackoffLimitExceeded" in str(error)
    assert "exit code 7" in str(error)
    assert "| broken" in str(error)
    assert seconds < 30


def test_a_missing_secret_is_named(workload, wait):
    variable = {"name": "A", "valueFrom": {"secretKeyRef": {"name": "no-such-secret", "key": "k"}}}
    error, seconds = failure(wait, workload("StatefulSet", "store", container={"env": [variable]}))
    assert 'secret "no-such-secret" not found' in str(error)
    assert seconds < 40


def test_what_only_the_timeout_ends_is_explained(workload, wait):
    big = {"resources": {"requests": {"cpu": "1000"}}}
    claim = {
        "metadata": {"name": "data"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "no-such-class",
            "resources": {"requests": {"storage": "1Mi"}},
        },
    }
    probe = {"readinessProbe": {"exec": {"command": ["sh", "-c", "echo database is away; exit 1"]}, "periodSeconds": 1}}
    volume = {"name": "v", "configMap": {"name": "no-such-map"}}
    error, seconds = failure(
        wait,
        workload("Deployment", "big", container=big),
        workload("StatefulSet", "claim", spec={"volumeClaimTemplates": [claim]}),
        workload("Deployment", "probe", "echo serving; " + SLEEP, container=probe),
        workload(
            "Deployment", "mount", volumes=[volume], container={"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
        ),
        timeout_seconds=15,
    )
    text = str(error)
    assert error.reason == "timeout"
    assert "Insufficient cpu" in text
    assert "PersistentVolumeClaim data-claim-0 is pending" in text
    assert "no-such-class" in text
    assert "database is away" in text
    assert "| serving" in text
    assert "no-such-map" in text
    assert 14 < seconds < 25
    assert any("0/4 ready" in line for line in wait.lines)

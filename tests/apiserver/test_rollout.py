"""The module rollout on a real API server with its controllers. What a kubelet would tell of pods, the tests write."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rollout import rollout

HURRY = 10
"""How much faster time passes for the module than for the API server, where it has to lose its patience."""


@pytest.fixture
def workload(cluster, namespace):
    """Create a workload of the test's namespace and return the module's entry for it."""

    def make(kind, name, command="serve", spec=None, **pod):
        container = {"name": "main", "image": "registry.invalid/none:1", "command": [command]}
        template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container], **pod}}
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

    def run(*workloads, check_mode=False, hurry=1, **changes):
        params = {"timeout_seconds": 60, "max_restarts": 3, "log_lines": 20, **changes}
        params = {"kubeconfig": kubeconfig, "workloads": list(workloads), **params}
        if hurry == 1:
            return rollout.run(params, check_mode, False, lines.append)
        begin = time.monotonic()
        return rollout.Rollout(
            Cluster(params),
            params,
            lines.append,
            clock=lambda: begin + (time.monotonic() - begin) * hurry,
            sleep=lambda seconds: time.sleep(seconds / hurry),
        ).run(not check_mode)

    run.lines = lines
    return run


def failure(wait, *workloads, **changes):
    start = time.monotonic()
    with pytest.raises(PlatformError) as error:
        wait(*workloads, **changes)
    print(error.value)
    return error.value, time.monotonic() - start


def container_status(**state):
    return {"name": "main", "image": "x", "imageID": "", "restartCount": 0, "ready": "running" in state, "state": state}


def ready(pod):
    """The status of a pod that serves, or of a Job's that has ended well."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    if any(owner["kind"] == "Job" for owner in pod["metadata"].get("ownerReferences", [])):
        ended = container_status(terminated={"exitCode": 0, "reason": "Completed", "finishedAt": now})
        return {"phase": "Succeeded", "containerStatuses": [ended]}
    conditions = [{"type": "Ready", "status": "True", "lastTransitionTime": now}]
    running = container_status(running={"startedAt": now})
    return {"phase": "Running", "conditions": conditions, "containerStatuses": [running]}


@pytest.fixture
def kubelet(cluster, namespace, tell_status):
    """``with kubelet(status_of)`` writes the status of each new pod of the namespace, as nodes would."""

    @contextlib.contextmanager
    def running(status_of):
        told, ended, broken = set(), threading.Event(), []

        def work():
            try:
                while not ended.wait(0.1):
                    for pod in cluster.list("v1", "Pod", namespace):
                        if pod["metadata"]["uid"] not in told:
                            told.add(pod["metadata"]["uid"])
                            with contextlib.suppress(PlatformError):  # it is gone by now
                                tell_status(pod, status_of(pod))
            except Exception as error:
                broken.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
        assert not broken

    return running


@pytest.fixture
def node(cluster):
    """A node that takes no pods but for those of DaemonSets."""
    name = f"node-{uuid.uuid4().hex[:8]}"
    taints = [{"key": "test", "value": name, "effect": "NoSchedule"}]
    made = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {"taints": taints}}
    cluster.apply(made, "test")
    yield {"apiVersion": "v1", "kind": "Node", "name": name}
    cluster.delete(made)


def on(node):
    """What a DaemonSet's pods need to have a pod on this node alone."""
    expression = {"key": "metadata.name", "operator": "In", "values": [node["name"]]}
    required = {"nodeSelectorTerms": [{"matchFields": [expression]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    return {"affinity": affinity, "tolerations": [{"operator": "Exists"}]}


def test_four_kinds_come_and_a_second_look_is_quick(workload, wait, kubelet, node):
    entries = [
        workload("Deployment", "web", spec={"replicas": 2}),
        workload("StatefulSet", "store", spec={"replicas": 2}),
        workload("DaemonSet", "agent", **on(node)),
        workload("Job", "task"),
    ]
    with kubelet(ready):
        result = wait(*entries)
    assert [entry["state"] for entry in result["workloads"]] == ["ready"] * 4
    assert wait.lines
    seconds = []
    for _repeat in range(5):
        start = time.process_time()
        assert not wait(*entries)["changed"]
        seconds.append(time.process_time() - start)
    print(f"4 workloads, all ready: best {min(seconds):.3f} s, worst {max(seconds):.3f} s of the processor")
    # See test_policy.py for the margin.
    assert min(seconds) < 0.5


def test_an_update_is_waited_for_and_not_the_old_pods_taken_for_it(workload, wait, kubelet, cluster):
    entry = workload("Deployment", "web")
    with kubelet(ready):
        wait(entry)
        workload("Deployment", "web", "serve-otherwise")
        wait(entry)
    web = cluster.get({**entry, "apiVersion": "apps/v1"})
    assert web["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"
    assert web["status"]["updatedReplicas"] == web["status"]["availableReplicas"] == 1


def test_an_image_that_does_not_exist_is_named(workload, wait, kubelet):
    def missing(_pod):
        waiting = {
            "reason": "ImagePullBackOff",
            "message": 'Back-off pulling image "registry.invalid/none:1": not found',
        }
        return {"phase": "Pending", "containerStatuses": [container_status(waiting=waiting)]}

    with kubelet(missing):
        error, seconds = failure(wait, workload("Deployment", "web"), hurry=HURRY)
    assert error.reason == "rollout"
    assert "registry.invalid/none:1" in str(error) and "container main" in str(error)
    assert seconds < 15


def test_a_full_quota_is_named(workload, wait, cluster, namespace, node):
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small", "namespace": namespace}}
    cluster.apply({**quota, "spec": {"hard": {"pods": "0"}}}, "test")
    deadline = time.monotonic() + 20
    while not (cluster.get(quota).get("status") or {}).get("hard"):
        assert time.monotonic() < deadline, "the quota controller has not seen the quota"
        time.sleep(0.1)
    kinds = ["Deployment", "StatefulSet", "DaemonSet"]
    entries = [workload(kind, kind.lower(), **(on(node) if kind == "DaemonSet" else {})) for kind in kinds]
    error, seconds = failure(wait, *entries, hurry=HURRY)
    assert str(error).count("exceeded quota: small") == len(kinds)
    assert seconds < 15


def test_a_refusal_by_pod_security_is_named(workload, wait, cluster, namespace):
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}, "test")
    error, seconds = failure(wait, workload("Deployment", "web"), hurry=HURRY)
    assert 'violates PodSecurity "restricted' in str(error)
    assert seconds < 15


def test_check_mode_reports_and_does_not_wait(workload, wait, namespace):
    entry = workload("Deployment", "web", "other")
    later = {"kind": "StatefulSet", "name": "later", "namespace": namespace}
    start = time.monotonic()
    result = wait(entry, later, check_mode=True)
    assert time.monotonic() - start < 5
    assert [found["state"] for found in result["workloads"]] == ["waiting", "missing"]


def test_a_user_who_may_only_read_workloads_waits_all_the_same(workload, wait, cluster, namespace, kubelet):
    entry = workload("Deployment", "web")
    metadata = {"name": "watcher", "namespace": namespace}
    group = "rbac.authorization.k8s.io"
    rules = [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "list"]}]
    subject = {"kind": "ServiceAccount", "name": "default", "namespace": namespace}
    reference = {"apiGroup": group, "kind": "Role", "name": "watcher"}
    cluster.apply({"apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata, "rules": rules}, "test")
    binding = {"metadata": metadata, "roleRef": reference, "subjects": [subject]}
    cluster.apply({"apiVersion": f"{group}/v1", "kind": "RoleBinding", **binding}, "test")
    user = f"system:serviceaccount:{namespace}:default"
    with kubelet(ready):
        result = wait(entry, impersonate_user=user)
    assert result["workloads"][0]["state"] == "ready"
    assert any("no right to list Pods" in note for note in result["notes"])
    other = {**entry, "kind": "StatefulSet"}
    error, _seconds = failure(wait, other, impersonate_user=user)
    assert error.reason == "forbidden"
    assert "statefulsets" in error.what


def test_a_condition_of_another_kind(wait, namespace, node, tell_status):
    crd_like = {"kind": "Namespace", "api_version": "v1", "name": namespace, "condition": "NoSuchCondition"}
    error, _seconds = failure(wait, crd_like, timeout_seconds=2)
    assert "no condition NoSuchCondition" in str(error)
    tell_status(
        node, {"conditions": [{"type": "Ready", "status": "True"}, {"type": "DiskPressure", "status": "False"}]}
    )
    entry = {"kind": "Node", "api_version": "v1", "name": node["name"]}
    assert wait({**entry, "condition": "Ready"})["workloads"][0]["state"] == "ready"
    assert wait({**entry, "condition": "DiskPressure=False"})["workloads"][0]["state"] == "ready"

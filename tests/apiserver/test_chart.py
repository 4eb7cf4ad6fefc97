"""The module chart on a real API server: what it installs, leaves alone, repairs, takes over and refuses."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from pathlib import Path

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm import release as helm_release

from .small_chart import SmallChart, helm

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bring(tmp_path, kubeconfig, namespace):
    """Run the module on a small chart and give the release's entry, with the diff in it."""
    return SmallChart(tmp_path, kubeconfig, namespace)


@pytest.fixture
def live(cluster, namespace):
    """Look at and change an object behind Helm's back."""

    def patch(kind, body):
        ref = {
            "apiVersion": "apps/v1" if kind == "Deployment" else "v1",
            "kind": kind,
            "name": "w",
            "namespace": namespace,
        }
        return cluster.patch(ref, body, "somebody") if body else cluster.get(ref)

    return patch


def test_check_mode_on_a_missing_namespace_changes_nothing(bring, cluster) -> None:
    would = bring(check=True, namespace="test-chart-not-there")
    assert would["action"] == "installed" and len(would["diff"]) == 3
    assert cluster.get({"apiVersion": "v1", "kind": "Namespace", "name": "test-chart-not-there"}) is None


def test_nothing_changes_the_second_time(bring) -> None:
    assert bring()["action"] == "installed"
    again = bring()
    assert (again["action"], again["revision"], again["diff"]) == ("unchanged", 1, [])


def test_a_scaled_deployment_and_a_deleted_service_are_repaired_without_a_revision(bring, live, cluster) -> None:
    bring()
    live("Deployment", {"spec": {"replicas": 1}})
    cluster.delete({"apiVersion": "v1", "kind": "Service", **_name(live("Service", None))})
    assert bring(check=True)["action"] == "repaired"
    assert live("Deployment", None)["spec"]["replicas"] == 1
    repaired = bring()
    assert (repaired["action"], repaired["revision"]) == ("repaired", 1)
    assert [label.split()[0] for label in repaired["missing"]] == ["Service"]
    assert [paths for label, paths in repaired["drifted"].items()] == [["spec.replicas"]]
    assert live("Deployment", None)["spec"]["replicas"] == 0 and live("Service", None)
    assert bring()["action"] == "unchanged"


def test_an_autoscaled_count_is_left_alone_by_comparison_and_upgrade(bring, live, cluster, namespace) -> None:
    bring()
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "w"}
    spec = {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 3}
    metadata = {"name": "w", "namespace": namespace}
    hpa = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata, "spec": spec}
    cluster.apply(hpa, "test")
    live("Deployment", {"spec": {"replicas": 2}})
    assert bring()["action"] == "unchanged"
    assert bring({"secret": "second-secret-value"})["action"] == "upgraded"
    assert live("Deployment", None)["spec"]["replicas"] == 2
    assert bring({"secret": "second-secret-value"})["action"] == "unchanged"


def test_the_last_value_that_is_taken_away_is_the_charts_own_again(bring, live) -> None:
    bring({"replicas": 2})
    assert bring()["action"] == "upgraded"
    assert live("Deployment", None)["spec"]["replicas"] == 0
    assert bring()["action"] == "unchanged"


def test_a_changed_secret_is_seen_and_not_shown(bring) -> None:
    bring()
    result = bring({"secret": "second-secret-value"}, check=True)
    assert [entry["before"] != entry["after"] for entry in result["diff"]] == [True]
    text = json.dumps(result)
    assert "secret-value" not in text and "c2Vjb25k" not in text and "Zmlyc3" not in text


@pytest.mark.parametrize("status", ["pending-install", "pending-upgrade", "failed", "superseded", "uninstalling"])
def test_a_release_that_a_killed_run_left_is_finished(bring, cluster, namespace, status) -> None:
    bring()
    revision = helm_release.histories(cluster, namespace, ["w"])["w"][0]
    release = helm_release.read(cluster, revision)
    record = {**release.record, "info": {**release.record["info"], "status": status}}
    # The process that the label names has ended, as after a kill.
    run = "%s.999999999.1" % revision.run.split(".")[0]
    labels = {"status": status, helm_release.RUN_LABEL: run}
    body = {"metadata": {"labels": labels}, "data": {"release": helm_release.encode(record)}}
    cluster.patch(revision.ref, body, "test")
    assert bring()["changed"]
    assert bring()["action"] == "unchanged"


def test_absent_is_idempotent(bring, live) -> None:
    bring()
    assert bring(state="absent")["action"] == "uninstalled"
    assert live("Deployment", None) is None
    assert bring(state="absent")["action"] == "unchanged"


@pytest.mark.parametrize(
    ("arguments", "reason", "named"),
    [
        ({"values": {"replicas": "x"}}, "values", "replicas"),
        ({"values": {"broken": True}}, "render", r"all\.yaml line 27"),
        ({"chart": "/nowhere"}, "chart", "/nowhere"),
        ({"namespace": "test-chart-not-there"}, "missing", "test-chart-not-there"),
        ({"auth": {"host": "https://127.0.0.1:1", "api_key": "x"}}, "unreachable", "127.0.0.1:1"),
        ({"auth": {"kubeconfig": "/nowhere"}}, "credentials", "/nowhere"),
    ],
)
def test_bad_input_is_one_clear_error(bring, arguments, reason, named) -> None:
    with pytest.raises(PlatformError, match=named) as caught:
        bring(**arguments)
    assert caught.value.reason == reason


def test_a_full_quota_is_named_and_a_rerun_finishes(bring, cluster, namespace) -> None:
    metadata = {"name": "q", "namespace": namespace}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": {"services": "0"}}}
    cluster.apply(quota, "test")
    with pytest.raises(PlatformError, match="ResourceQuota q is full"):
        bring()
    cluster.delete(quota)
    assert bring()["changed"]
    assert bring()["action"] == "unchanged"


def test_an_admission_refusal_is_named_and_a_rerun_finishes(bring, cluster, namespace) -> None:
    api, name = "admissionregistration.k8s.io/v1", f"test-{uuid.uuid4().hex[:8]}"
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["services"]}]
    here = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    policy = {
        "apiVersion": api,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": rules, "namespaceSelector": here},
            "validations": [{"expression": "false", "message": "no Services on a Tuesday"}],
        },
    }
    binding = {
        "apiVersion": api,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    }
    cluster.apply(policy, "test")
    cluster.apply(binding, "test")
    try:
        # The API server takes a moment to see a new policy.
        probe = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "probe", "namespace": namespace}}
        probe["spec"] = {"ports": [{"port": 80}]}
        until = time.monotonic() + 30
        while time.monotonic() < until:
            try:
                cluster.apply(probe, "test")
            except PlatformError:
                break
            cluster.delete({"apiVersion": "v1", "kind": "Service", "name": "probe", "namespace": namespace})
            time.sleep(0.5)
        with pytest.raises(PlatformError, match="no Services on a Tuesday") as caught:
            bring()
        assert caught.value.reason == "admission"
    finally:
        cluster.delete(binding)
        cluster.delete(policy)
    until = time.monotonic() + 30
    while True:
        try:
            assert bring()["changed"]
            break
        except PlatformError:
            assert time.monotonic() < until
    assert bring()["action"] == "unchanged"


def descendants(process: int) -> list[int]:
    """The processes that it has started, and those that they have (proc_pid_stat(5))."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = [process]
    for parent in found:
        found += [child for child, of in parents.items() if of == parent]
    return found[1:]


def test_a_run_that_is_killed_within_helm_is_finished_by_the_next(bring, cluster, namespace) -> None:
    """The run and its helm get SIGKILL while helm waits for a hook, which no node runs: it stays pending-install."""
    program = """
        import json, sys
        from ansible.plugins.loader import init_plugin_loader
        init_plugin_loader([sys.argv[1]])
        from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
        from ansible_collections.lambda_microservice.platform.plugins.module_utils.chart import chart
        arguments = ArgumentSpecValidator(chart.ARGUMENT_SPEC).validate(json.loads(sys.argv[2])).validated_parameters
        chart.run(arguments)
    """
    arguments = json.dumps(bring.arguments({"hook": "sleep 300", "image": "none"}))
    run = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), str(ROOT / "collections"), arguments], start_new_session=True
    )
    try:
        until = time.monotonic() + 60
        while not cluster.list("v1", "Secret", namespace, label_selector="owner=helm,status=pending-install"):
            assert time.monotonic() < until and run.poll() is None
            time.sleep(0.1)
    finally:
        # helm has a group of processes of its own, and may have ended.
        for process in [run.pid, *descendants(run.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        run.wait()
    assert bring()["changed"]
    assert bring()["action"] == "unchanged"


@pytest.fixture
def classes(cluster):
    """Two StorageClasses, the first of which says that it can expand."""
    names = []
    for expands in (True, False):
        names.append(f"{'grows' if expands else 'fixed'}-{uuid.uuid4().hex[:8]}")
        body = {"provisioner": "example.com/none", "allowVolumeExpansion": expands, "metadata": {"name": names[-1]}}
        cluster.apply({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", **body}, "test")
    return names


def test_a_volume_grows_under_a_running_pod_and_never_shrinks(bring, cluster, namespace, classes, tell_status) -> None:
    grows, fixed = classes
    pod = {"apiVersion": "v1", "kind": "Pod", "name": "v-0", "namespace": namespace}
    claim = {**pod, "kind": "PersistentVolumeClaim", "name": "data-v-0"}

    def values(size, name=grows):
        return {"image": "none", "volume": {"class": name, "size": size}}

    with pytest.raises(PlatformError) as caught:
        bring(values("1Gi", "test-no-such-class"))
    assert caught.value.reason == "storage" and cluster.get(claim) is None

    bring(values("1Gi"))
    until = time.monotonic() + 60
    while not (cluster.get(claim) and cluster.get(pod)):
        assert time.monotonic() < until
        time.sleep(0.1)
    tell_status(claim, {"phase": "Bound", "capacity": {"storage": "1Gi"}})
    before = cluster.get(pod)["metadata"]["uid"]
    assert bring(values("2Gi"), check=True)["action"] == "upgraded"
    assert bring(values("2Gi"))["action"] == "upgraded"
    assert cluster.get(claim)["spec"]["resources"]["requests"]["storage"] == "2Gi"
    assert bring(values("2Gi"))["action"] == "unchanged"
    for size, name, reason in (("1Gi", grows, "volume"), ("2Gi", fixed, "volume")):
        with pytest.raises(PlatformError) as caught:
            bring(values(size, name))
        assert caught.value.reason == reason
    storage_class = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "name": grows}
    cluster.patch(storage_class, {"allowVolumeExpansion": False}, "test")
    with pytest.raises(PlatformError) as caught:
        bring(values("3Gi"))
    assert caught.value.reason == "volume"
    # The same pod all the time, and one that its StatefulSet owns again.
    now = cluster.get(pod)["metadata"]
    assert now["uid"] == before and now["ownerReferences"][0]["name"] == "v"


@pytest.fixture
def packed(bring, tmp_path):
    """The small chart as an archive."""
    folder = tmp_path / "packed"
    subprocess.run([helm(), "package", str(bring.folder), "-d", str(folder)], check=True, capture_output=True)
    return folder


def test_a_chart_of_an_http_repository(bring, packed) -> None:
    subprocess.run([helm(), "repo", "index", str(packed)], check=True, capture_output=True)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(packed))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        source = {"chart": "w", "repository": "http://127.0.0.1:%d" % server.server_port, "version": "0.1.0"}
        assert bring(**source, check=True)["action"] == "installed"
        assert bring(**source)["action"] == "installed"
        assert bring(**source)["action"] == "unchanged"
        with pytest.raises(PlatformError, match=r"0\.9\.9") as caught:
            bring(**{**source, "version": "0.9.9"})
        assert caught.value.reason == "chart"
        server.shutdown()


def test_a_chart_of_an_oci_registry(bring, packed, registry) -> None:
    place = f"oci://{registry}/test-charts"
    push = [helm(), "push", str(packed / "w-0.1.0.tgz"), place, "--plain-http"]
    subprocess.run(push, check=True, capture_output=True)
    source = {"chart": place + "/w", "version": "0.1.0", "plain_http": True}
    assert bring(**source)["action"] == "installed"
    assert bring(**source)["action"] == "unchanged"
    with pytest.raises(PlatformError, match="test-charts/none") as caught:
        bring(chart=place + "/none", version="0.1.0", plain_http=True)
    assert caught.value.reason == "chart"


def _name(obj):
    return {"name": obj["metadata"]["name"], "namespace": obj["metadata"]["namespace"]}

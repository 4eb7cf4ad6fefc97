"""The module chart on a real cluster: what it installs, leaves alone, repairs, takes over and refuses.

HELM names the helm program, if it is not the one under .local/bin or in PATH.
"""

from __future__ import annotations

import functools
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from pathlib import Path

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.lambda_microservice.platform.plugins.module_utils import chart, helm_release
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).resolve().parents[2]

TEMPLATE = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: w}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {x: w}}
  template:
    metadata: {labels: {x: w}}
    spec:
      containers:
        - name: c
          image: registry.invalid/none:1
          env: [{name: E, value: ""}]
          resources: {requests: {cpu: 0001m, memory: 1024Ki}}
---
apiVersion: v1
kind: Service
metadata: {name: w}
spec: {selector: {x: w}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Secret
metadata: {name: w}
stringData: {k: {{ .Values.secret | quote }}}
{{- if .Values.broken }}
{{ .Values.nope.foo }}
{{- end }}
{{- with .Values.volume }}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: v}
spec:
  serviceName: v
  selector: {matchLabels: {x: v}}
  template:
    metadata: {labels: {x: v}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
        - name: c
          image: {{ $.Values.image | quote }}
          command: [sleep, infinity]
          volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
    - metadata: {name: data}
      spec:
        accessModes: [ReadWriteOnce]
        storageClassName: {{ .class }}
        resources: {requests: {storage: {{ .size }}}}
{{- end }}
{{- if .Values.hook }}
---
apiVersion: batch/v1
kind: Job
metadata:
  name: before
  annotations: {helm.sh/hook: "pre-install,pre-upgrade", helm.sh/hook-delete-policy: before-hook-creation}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers: [{name: c, image: {{ .Values.image | quote }}, command: [sh, -c, {{ .Values.hook | quote }}]}]
{{- end }}
"""


@pytest.fixture(scope="session")
def helm_binary():
    """The helm program."""
    found = os.environ.get("HELM") or shutil.which(str(ROOT / ".local" / "bin" / "helm")) or shutil.which("helm")
    assert found, "no helm: set HELM"
    return found


@pytest.fixture
def bring(tmp_path, kubeconfig, helm_binary, namespace):
    """Run the module on a small chart and give the release's entry, with the diff in it."""
    folder = tmp_path / "w"
    (folder / "templates").mkdir(parents=True)
    (folder / "Chart.yaml").write_text("{apiVersion: v2, name: w, version: 0.1.0}\n")
    (folder / "values.yaml").write_text("{replicas: 0, secret: first-secret-value}\n")
    (folder / "values.schema.json").write_text(json.dumps({"properties": {"replicas": {"type": "integer"}}}))
    (folder / "templates" / "all.yaml").write_text(TEMPLATE)

    def run(values=None, check=False, auth=None, **spec):
        spec = {"name": "w", "namespace": namespace, "chart": str(folder), "values": values or {}, **spec}
        arguments = {"releases": [spec], "helm_binary": helm_binary, **(auth or {"kubeconfig": kubeconfig})}
        validated = ArgumentSpecValidator(chart.ARGUMENT_SPEC).validate(arguments)
        assert not validated.error_messages
        result = chart.run(validated.validated_parameters, check_mode=check, diff=True)
        if result.get("failed"):
            raise PlatformError(result["what"], where=result["where"], found=result["found"], reason=result["reason"])
        return {**result["releases"][0], "diff": result.get("diff", [])}

    run.folder = folder
    return run


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
        ({"chart": "/nowhere"}, "chart_missing", "/nowhere"),
        ({"namespace": "test-chart-not-there"}, "not_found", "test-chart-not-there"),
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


def test_a_failing_hook_is_named_and_a_rerun_finishes(bring, live, image) -> None:
    with pytest.raises(PlatformError, match=r"(?s)job before failed.*exit code 3.*\| the reason") as caught:
        bring({"hook": "echo the reason >&2; exit 3", "image": image})
    assert caught.value.reason == "hook"
    assert bring({"hook": "exit 0", "image": image})["changed"]
    assert live("Deployment", None) and bring({"hook": "exit 0", "image": image})["action"] == "unchanged"


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


def test_a_run_that_is_killed_within_helm_is_finished_by_the_next(
    bring, kubeconfig, namespace, image, tmp_path
) -> None:
    """The run and its helm get SIGKILL while helm waits for a hook: the release stays pending-install."""
    program = """
        import json, sys
        from ansible.plugins.loader import init_plugin_loader
        init_plugin_loader([sys.argv[1]])
        from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
        from ansible_collections.lambda_microservice.platform.plugins.module_utils import chart
        arguments = ArgumentSpecValidator(chart.ARGUMENT_SPEC).validate(json.loads(sys.argv[2])).validated_parameters
        chart.run(arguments)
    """
    values = {"hook": "sleep 300", "image": image}
    spec = {"name": "w", "namespace": namespace, "chart": str(bring.folder), "values": values}
    helm = os.environ.get("HELM") or shutil.which(str(ROOT / ".local" / "bin" / "helm")) or "helm"
    arguments = json.dumps({"releases": [spec], "helm_binary": helm, "kubeconfig": kubeconfig})
    run = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), str(ROOT / "collections"), arguments], start_new_session=True
    )
    try:
        status = ["get", "secret", "-n", namespace, "-l", "owner=helm,status=pending-install", "-o", "name"]
        until = time.monotonic() + 60
        while not subprocess.run(["kubectl", *status], capture_output=True, check=True).stdout:
            assert time.monotonic() < until and run.poll() is None
            time.sleep(0.3)
    finally:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    assert bring({"hook": "exit 0", "image": image})["changed"]
    assert bring({"hook": "exit 0", "image": image})["action"] == "unchanged"


@pytest.fixture
def classes(cluster):
    """Two copies of the default StorageClass, one that says that it can expand."""
    [default] = [
        obj
        for obj in cluster.list("storage.k8s.io/v1", "StorageClass")
        if (obj["metadata"].get("annotations") or {}).get("storageclass.kubernetes.io/is-default-class") == "true"
    ]
    made = []
    for expands in (True, False):
        metadata = {"name": f"test-{'grows' if expands else 'fixed'}-{uuid.uuid4().hex[:8]}"}
        copied = {name: default[name] for name in ("apiVersion", "kind", "provisioner", "volumeBindingMode")}
        made.append({**copied, "metadata": metadata, "allowVolumeExpansion": expands})
        cluster.apply(made[-1], "test")
    yield [obj["metadata"]["name"] for obj in made]
    for obj in made:
        cluster.delete(obj)


def test_a_volume_grows_under_a_running_pod_and_never_shrinks(bring, cluster, namespace, image, classes) -> None:
    grows, fixed = classes
    pod = {"apiVersion": "v1", "kind": "Pod", "name": "v-0", "namespace": namespace}
    claim = {**pod, "kind": "PersistentVolumeClaim", "name": "data-v-0"}

    def values(size, name=grows):
        return {"image": image, "volume": {"class": name, "size": size}}

    with pytest.raises(PlatformError) as caught:
        bring(values("1Gi", "test-no-such-class"))
    assert caught.value.reason == "storage_class" and cluster.get(claim) is None

    bring(values("1Gi"))
    until = time.monotonic() + 120
    while ((cluster.get(pod) or {}).get("status") or {}).get("phase") != "Running":
        assert time.monotonic() < until
        time.sleep(1)
    before = cluster.get(pod)["metadata"]["uid"]
    assert bring(values("2Gi"), check=True)["action"] == "upgraded"
    assert bring(values("2Gi"))["action"] == "upgraded"
    assert cluster.get(claim)["spec"]["resources"]["requests"]["storage"] == "2Gi"
    assert bring(values("2Gi"))["action"] == "unchanged"
    for size, name, reason in (("1Gi", grows, "volume_shrinks"), ("2Gi", fixed, "volume_class")):
        with pytest.raises(PlatformError) as caught:
            bring(values(size, name))
        assert caught.value.reason == reason
    cluster.patch(
        {**claim, "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "name": grows},
        {"allowVolumeExpansion": False},
        "test",
    )
    with pytest.raises(PlatformError) as caught:
        bring(values("3Gi"))
    assert caught.value.reason == "volume_cannot_grow"
    # The same pod all the time, and one that its StatefulSet owns again.
    now = cluster.get(pod)["metadata"]
    assert now["uid"] == before and now["ownerReferences"][0]["name"] == "v"


@pytest.fixture
def packed(bring, helm_binary, tmp_path):
    """The small chart as an archive."""
    folder = tmp_path / "packed"
    subprocess.run([helm_binary, "package", str(bring.folder), "-d", str(folder)], check=True, capture_output=True)
    return folder


def test_a_chart_of_an_http_repository(bring, packed, helm_binary) -> None:
    subprocess.run([helm_binary, "repo", "index", str(packed)], check=True, capture_output=True)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(packed))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        source = {"chart": "w", "repository": "http://127.0.0.1:%d" % server.server_port, "version": "0.1.0"}
        assert bring(**source, check=True)["action"] == "installed"
        assert bring(**source)["action"] == "installed"
        assert bring(**source)["action"] == "unchanged"
        with pytest.raises(PlatformError, match=r"0\.9\.9") as caught:
            bring(**{**source, "version": "0.9.9"})
        assert caught.value.reason == "chart_missing"
        server.shutdown()


def test_a_chart_of_an_oci_registry(bring, packed, helm_binary, image) -> None:
    registry = image.split("/")[0]
    if not registry.startswith("localhost:"):
        pytest.skip("the test's image comes from no local registry that a chart could be pushed to")
    place = "oci://%s/test-charts" % registry
    push = [helm_binary, "push", str(packed / "w-0.1.0.tgz"), place, "--plain-http"]
    subprocess.run(push, check=True, capture_output=True)
    source = {"chart": place + "/w", "version": "0.1.0", "plain_http": True}
    assert bring(**source)["action"] == "installed"
    assert bring(**source)["action"] == "unchanged"
    with pytest.raises(PlatformError, match="test-charts/none") as caught:
        bring(chart=place + "/none", version="0.1.0", plain_http=True)
    assert caught.value.reason == "chart_missing"


def _name(obj):
    return {"name": obj["metadata"]["name"], "namespace": obj["metadata"]["namespace"]}

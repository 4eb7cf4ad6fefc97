"""A value that a chart makes by chance is made once, and in the record is what the cluster has."""

from __future__ import annotations

import base64
import json

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm import release as helm_release
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.manifest import documents

from .small_chart import SmallChart

TEMPLATE = """
apiVersion: v1
kind: Secret
metadata: {name: w}
stringData:
  password: {{ randAlphaNum 24 | quote }}
  user: {{ .Values.user | quote }}
  config: |
    user={{ .Values.user }}
    password={{ randAlphaNum 12 }}
    port={{ .Values.port }}
data:
  token: {{ randAlphaNum 24 | b64enc }}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: w}
data:
  made: {{ now | date "2006-01-02T15:04:05.999999999" | quote }}
  sha: "12e4567"
  port: {{ .Values.port | quote }}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: w, labels: {sha: "12e4567", answer: "y"}}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {x: w}}
  template:
    metadata:
      labels: {x: w}
      annotations:
        checksum/secret: {{ randAlphaNum 32 | sha256sum }}
    spec:
      containers:
        - {name: c, image: none, env: [{name: A, value: "1e3"}, {name: B, value: "08"}, {name: C, value: "0o17"}]}
"""


@pytest.fixture
def bring(tmp_path, kubeconfig, namespace):
    """The module on a chart with random values in a Secret, a ConfigMap and a pod's annotation."""
    chart = SmallChart(tmp_path, kubeconfig, namespace)
    (chart.folder / "values.yaml").write_text("{replicas: 0, user: first, port: 80}\n")
    (chart.folder / "templates" / "all.yaml").write_text(TEMPLATE)
    return chart


@pytest.fixture
def state(cluster, namespace):
    """The three objects as the cluster has them, and as Helm has recorded them."""

    def look():
        kinds = (("v1", "Secret"), ("v1", "ConfigMap"), ("apps/v1", "Deployment"))
        live = [cluster.get({"apiVersion": a, "kind": k, "name": "w", "namespace": namespace}) for a, k in kinds]
        newest = helm_release.histories(cluster, namespace, ["w"])["w"][0]
        record = helm_release.read(cluster, newest)
        recorded = {obj["kind"]: obj for document in documents(record.manifest) for obj in document.objects}
        return live, recorded

    return look


def values_of(secret):
    return {name: base64.b64decode(value).decode() for name, value in secret["data"].items()}


def random_of(live):
    secret, config, deployment = live
    values = values_of(secret)
    in_config = dict(line.split("=") for line in values["config"].splitlines())
    checksum = deployment["spec"]["template"]["metadata"]["annotations"]["checksum/secret"]
    return values["password"], values["token"], in_config["password"], config["data"]["made"], checksum


def test_what_is_recorded_is_what_is_installed_and_stays(bring, state) -> None:
    assert bring()["action"] == "installed"
    (secret, *others), recorded = state()
    first = random_of((secret, *others))
    assert recorded["Secret"]["stringData"]["password"] == first[0]
    assert recorded["Secret"]["data"]["token"] == secret["data"]["token"]
    for _run in range(2):
        would = bring(check=True)
        assert (would["action"], would["diff"]) == ("unchanged", [])
        assert (bring()["action"], random_of(state()[0])) == ("unchanged", first)


@pytest.mark.parametrize(
    ("values", "kinds"),
    [
        ({"replicas": 1}, {"Deployment"}),
        ({"port": 81}, {"Secret", "ConfigMap", "Deployment"}),
        ({"user": "second"}, {"Secret", "Deployment"}),
    ],
)
def test_an_upgrade_changes_what_the_chart_changes_and_check_mode_says_the_same(bring, state, values, kinds) -> None:
    bring()
    first = random_of(state()[0])
    would = bring(values, check=True)
    assert {entry["before_header"].split()[-2] for entry in would["diff"]} == kinds
    done = bring(values)
    assert (done["action"], done["revision"], done["why"]) == ("upgraded", 2, would["why"])
    live, recorded = state()
    now = random_of(live)
    assert now[:4] == first[:4]
    # The pods restart where their Secret or ConfigMap has changed, and only then.
    assert (now[4] == first[4]) is (kinds == {"Deployment"})
    assert recorded["Secret"]["stringData"]["password"] == first[0]
    assert "port=%d" % values.get("port", 80) in values_of(live[0])["config"].splitlines()
    assert values_of(live[0])["user"] == values.get("user", "first")
    assert live[1]["data"] == {"made": first[3], "sha": "12e4567", "port": str(values.get("port", 80))}
    assert live[2]["metadata"]["labels"]["sha"] == "12e4567" and live[2]["metadata"]["labels"]["answer"] == "y"
    [container] = live[2]["spec"]["template"]["spec"]["containers"]
    assert [entry["value"] for entry in container["env"]] == ["1e3", "08", "0o17"]
    again = bring(values)
    assert (again["action"], again["diff"]) == ("unchanged", [])


def test_a_deleted_secret_comes_back_with_its_values(bring, state, cluster, namespace) -> None:
    bring()
    first = random_of(state()[0])
    cluster.delete({"apiVersion": "v1", "kind": "Secret", "name": "w", "namespace": namespace})
    assert bring()["action"] == "repaired"
    assert random_of(state()[0]) == first


def test_a_failed_upgrade_keeps_them_too(bring, state, cluster, namespace) -> None:
    bring()
    first = random_of(state()[0])
    newest = helm_release.histories(cluster, namespace, ["w"])["w"][0]
    record = helm_release.read(cluster, newest).record
    record = {**record, "info": {**record["info"], "status": "failed"}}
    body = {"metadata": {"labels": {"status": "failed"}}, "data": {"release": helm_release.encode(record)}}
    cluster.patch(newest.ref, body, "test")
    assert bring()["action"] == "upgraded"
    assert random_of(state()[0]) == first


def test_an_autoscaled_workload_keeps_its_count_and_every_type(bring, state, cluster, namespace) -> None:
    bring()
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "w"}
    spec = {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 3}
    metadata = {"name": "w", "namespace": namespace}
    cluster.apply(
        {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata, "spec": spec}, "test"
    )
    cluster.patch({**target, "namespace": namespace}, {"spec": {"replicas": 3}}, "hpa")
    assert bring({"port": 81})["action"] == "upgraded"
    deployment = state()[0][2]
    assert deployment["spec"]["replicas"] == 3
    assert deployment["metadata"]["labels"]["sha"] == "12e4567" and deployment["metadata"]["labels"]["answer"] == "y"
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert [entry["value"] for entry in container["env"]] == ["1e3", "08", "0o17"]
    assert bring({"port": 81})["action"] == "unchanged"


def test_no_diff_shows_a_random_value(bring, state) -> None:
    first = bring()
    shown = json.dumps([first["diff"], bring({"user": "second"})["diff"]])
    assert not any(value in shown for value in random_of(state()[0])[:3])

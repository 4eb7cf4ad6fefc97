"""The library chart, through a chart that has nothing of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from .conftest import ROOT, Manifest, Render, RenderError

LIBRARY = ROOT / "roles/platform/files/charts/library"

POD = """\
{{- define "small.pod" }}
containers:
  - name: small
    {{- include "library.container" . | nindent 4 }}
    env:
      {{- include "library.env" . | indent 6 }}
    volumeMounts:
      {{- include "library.writableMounts" . | indent 6 }}
volumes:
  {{- include "library.writableVolumes" . | indent 2 }}
{{- end }}
"""
OBJECTS = """\
{{- $small := dict "root" $ "name" "small" "component" "test" "values" .Values "pod" "small.pod"
                   "kind" .Values.env.KIND "checksums" (list "configuration.yaml") -}}
{{ include (printf "library.%s" (lower .Values.env.KIND)) $small }}
---
{{ include "library.companions" $small }}
"""
CONFIGURATION = """\
apiVersion: v1
kind: ConfigMap
metadata:
  {{- include "library.metadata" (dict "root" $ "name" "small" "component" "test") | nindent 2 }}
data:
  text: {{ .Values.env.TEXT }}
"""


@pytest.fixture(scope="module")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chart") / "small"
    (folder / "templates").mkdir(parents=True)
    (folder / "charts").mkdir()
    (folder / "charts" / "library").symlink_to(LIBRARY)
    description = {
        "apiVersion": "v2",
        "name": "small",
        "version": "0.1.0",
        "appVersion": "7",
        "dependencies": [{"name": "library", "version": "1.0.0"}],
    }
    values = {"image": "test/small:1", "env": {"KIND": "Deployment", "TEXT": "one"}}
    shared = json.loads((LIBRARY / "workload.schema.json").read_text(encoding="utf-8"))
    schema = {"allOf": [{"$ref": "#/definitions/workload"}], "definitions": shared["definitions"]}
    for name, text in {
        "Chart.yaml": yaml.safe_dump(description),
        "values.yaml": yaml.safe_dump(values),
        "values.schema.json": json.dumps(schema),
        "templates/_small.tpl": POD,
        "templates/small.yaml": OBJECTS,
        "templates/configuration.yaml": CONFIGURATION,
    }.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def pod_of(workload: Manifest) -> Manifest:
    return workload["spec"]["template"]["spec"]


def test_values_of_the_chart_win_also_when_they_say_no(chart: Path, render: Render) -> None:
    objects = render(
        chart,
        {
            "pdb": {"enabled": False},
            "spread": {"zone": False, "host": False},
            "antiAffinity": "none",
            "nodeFailureTolerationSeconds": 0,
        },
    )
    pod = pod_of(objects.one("Deployment", "small"))
    assert objects.of("PodDisruptionBudget") == []
    assert "topologySpreadConstraints" not in pod
    assert "affinity" not in pod
    assert {entry["tolerationSeconds"] for entry in pod["tolerations"]} == {0}


def test_the_key_library_changes_every_workload(chart: Path, render: Render) -> None:
    objects = render(chart, {"library": {"nodeFailureTolerationSeconds": 7, "pdb": {"maxUnavailable": "50%"}}})
    assert {entry["tolerationSeconds"] for entry in pod_of(objects.one("Deployment", "small"))["tolerations"]} == {7}
    assert objects.one("PodDisruptionBudget", "small")["spec"]["maxUnavailable"] == "50%"


def test_min_available_takes_the_place_of_max_unavailable(chart: Path, render: Render) -> None:
    spec = render(chart, {"pdb": {"minAvailable": 0}}).one("PodDisruptionBudget", "small")["spec"]
    assert spec["minAvailable"] == 0
    assert "maxUnavailable" not in spec


def test_changed_configuration_restarts_the_pods_and_nothing_else_does(chart: Path, render: Render) -> None:
    def annotations(text: str, replicas: int) -> Manifest:
        objects = render(chart, {"env": {"TEXT": text}, "replicas": replicas})
        return objects.one("Deployment", "small")["spec"]["template"]["metadata"]["annotations"]

    assert annotations("one", 1) == annotations("one", 2)
    assert annotations("one", 1) != annotations("two", 1)


def test_autoscaling_with_the_designs_behaviour(chart: Path, render: Render) -> None:
    values = {
        "autoscaling": {"enabled": True, "minReplicas": 3, "maxReplicas": 10, "cpuPercent": 70, "memoryPercent": 80}
    }
    objects = render(chart, values)
    spec = objects.one("HorizontalPodAutoscaler", "small")["spec"]
    targets = {each["resource"]["name"]: each["resource"]["target"]["averageUtilization"] for each in spec["metrics"]}
    assert (spec["minReplicas"], spec["maxReplicas"], targets) == (3, 10, {"cpu": 70, "memory": 80})
    assert spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 300
    assert spec["behavior"]["scaleUp"]["stabilizationWindowSeconds"] == 60
    assert "replicas" not in objects.one("Deployment", "small")["spec"]


def test_strict_spread(chart: Path, render: Render) -> None:
    values = {"antiAffinity": "required", "spread": {"whenUnsatisfiable": "DoNotSchedule", "minDomains": 3}}
    pod = pod_of(render(chart, values).one("Deployment", "small"))
    for constraint in pod["topologySpreadConstraints"]:
        assert constraint["whenUnsatisfiable"] == "DoNotSchedule"
        assert constraint["minDomains"] == 3
        # Else the pods of the old revision count during an update, and the new ones end up uneven.
        assert constraint["matchLabelKeys"] == ["pod-template-hash"]
    [term] = pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term["topologyKey"] == "kubernetes.io/hostname"


ZONE = "topology.kubernetes.io/zone"


def test_zones_add_to_what_keeps_pods_apart(chart: Path, render: Render) -> None:
    here = {"key": ZONE, "operator": "In", "values": ["a", "b"]}
    affinity = pod_of(render(chart, {"library": {"zones": ["a", "b"]}}).one("Deployment", "small"))["affinity"]
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    assert affinity["nodeAffinity"][required] == {"nodeSelectorTerms": [{"matchExpressions": [here]}]}
    assert affinity["podAntiAffinity"]
    own = {"key": "disk", "operator": "In", "values": ["fast"]}
    terms = [{"matchExpressions": [own]}, {"matchFields": [own]}]
    given = {"nodeAffinity": {required: {"nodeSelectorTerms": terms}}, "podAffinity": {required: []}}
    objects = render(chart, {"library": {"zones": ["a", "b"]}, "affinity": given})
    affinity = pod_of(objects.one("Deployment", "small"))["affinity"]
    # Any one of the terms is enough for Kubernetes, so the zones are in each.
    assert affinity["nodeAffinity"][required]["nodeSelectorTerms"] == [
        {"matchExpressions": [own, here]},
        {"matchFields": [own], "matchExpressions": [here]},
    ]
    assert affinity["podAffinity"] == {required: []}
    assert "podAntiAffinity" not in affinity


def test_hard_over_zones_and_soft_over_hosts(chart: Path, render: Render) -> None:
    values = {"spread": {"zoneWhenUnsatisfiable": "DoNotSchedule", "minDomains": 3}}
    found = {
        entry["topologyKey"]: entry
        for entry in pod_of(render(chart, values).one("Deployment", "small"))["topologySpreadConstraints"]
    }
    assert (found[ZONE]["whenUnsatisfiable"], found[ZONE]["minDomains"]) == ("DoNotSchedule", 3)
    # Nodes that are cordoned or unreachable make no zone, which would hold the pods of all others.
    assert found[ZONE]["nodeTaintsPolicy"] == "Honor"
    host = found["kubernetes.io/hostname"]
    assert host["whenUnsatisfiable"] == "ScheduleAnyway"
    assert not {"minDomains", "nodeTaintsPolicy"} & host.keys()


def test_zones_are_hard_without_data_where_the_cluster_knows_how(chart: Path, render: Render) -> None:
    """Before 1.27 a zone without usable nodes and pods of the old revision would count, and a drain wait."""

    def zone(version: str, **spread: object) -> Manifest:
        values = {"library": {"spread": {"zoneWhenUnsatisfiable": "DoNotSchedule", **spread}}}
        objects = render(chart, values, kube_version=version)
        rules = pod_of(objects.one("Deployment", "small"))["topologySpreadConstraints"]
        return next(rule for rule in rules if rule["topologyKey"] == ZONE)

    new = zone("1.27.0")
    assert (new["whenUnsatisfiable"], new["nodeTaintsPolicy"]) == ("DoNotSchedule", "Honor")
    assert "minDomains" not in new and new["matchLabelKeys"] == ["pod-template-hash"]
    assert zone("1.26.9")["whenUnsatisfiable"] == "ScheduleAnyway"
    assert zone("1.26.9", minDomains=3)["whenUnsatisfiable"] == "DoNotSchedule"


def test_what_autoscalers_of_nodes_may_do(chart: Path, render: Render) -> None:
    def told(**values: object) -> Manifest:
        template = render(chart, values).one("Deployment", "small")["spec"]["template"]
        return {
            name: value
            for name, value in template["metadata"]["annotations"].items()
            if not name.startswith("checksum/")
        }

    local = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"
    scratch = {"tmp": {"mountPath": "/tmp", "sizeLimit": "1Mi"}, "run": {"mountPath": "/run", "sizeLimit": "1Mi"}}
    # Memory is nobody's loss that they would ask for.
    memory = {"shm": {"mountPath": "/dev/shm", "sizeLimit": "1Mi", "medium": "Memory"}}
    names = set(told(writable={**scratch, **memory})[local].split(","))
    assert names >= {"tmp", "run"}
    assert "shm" not in names
    kept = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "karpenter.sh/do-not-disrupt": "true"}
    assert told(writable=scratch, evictable=False) == kept
    # A user's own word is the last.
    given = {"karpenter.sh/do-not-disrupt": "false"}
    assert told(evictable=False, podAnnotations=given)["karpenter.sh/do-not-disrupt"] == "false"


def test_a_sandbox_and_a_user_namespace(chart: Path, render: Render) -> None:
    pod = pod_of(render(chart, {"runtimeClassName": "gvisor", "hostUsers": False}).one("Deployment", "small"))
    assert (pod["runtimeClassName"], pod["hostUsers"]) == ("gvisor", False)
    # An empty name is refused by the API server, and a field at its default would be a difference on old clusters.
    assert not {"runtimeClassName", "hostUsers"} & pod_of(render(chart).one("Deployment", "small")).keys()


def test_a_user_namespace_is_refused_where_the_field_would_be_dropped(chart: Path, render: Render) -> None:
    said = r"small cannot have a user namespace .* hostUsers false on Kubernetes v1\.29"
    with pytest.raises(RenderError, match=said):
        render(chart, {"hostUsers": False}, kube_version="1.29.4")
    newer = render(chart, {"hostUsers": False}, kube_version="1.30.0")
    assert pod_of(newer.one("Deployment", "small"))["hostUsers"] is False
    render(chart, kube_version="1.25.0")


def test_a_stateful_set_keeps_its_volumes_by_name(chart: Path, render: Render) -> None:
    objects = render(
        chart, {"env": {"KIND": "StatefulSet"}, "persistence": {"data": {"size": "3Gi", "storageClass": "fast"}}}
    )
    [claim] = objects.one("StatefulSet", "small")["spec"]["volumeClaimTemplates"]
    assert claim["metadata"]["name"] == "data"
    assert claim["spec"]["storageClassName"] == "fast"
    assert claim["spec"]["resources"]["requests"]["storage"] == "3Gi"


def test_services_have_only_what_their_type_knows(chart: Path, render: Render) -> None:
    service = {
        "externalTrafficPolicy": "Local",
        "loadBalancerSourceRanges": ["192.0.2.0/24"],
        "ports": {"https": {"port": 443, "targetPort": 8443, "nodePort": 30443, "appProtocol": "https"}},
    }

    def spec_of(kind: str) -> Manifest:
        return render(chart, {"service": {**service, "type": kind}}).one("Service", "small")["spec"]

    assert spec_of("LoadBalancer")["loadBalancerSourceRanges"] == ["192.0.2.0/24"]
    assert spec_of("NodePort")["ports"][0]["nodePort"] == 30443
    inside = spec_of("ClusterIP")
    assert inside["ports"] == [{"name": "https", "port": 443, "targetPort": 8443, "appProtocol": "https"}]
    assert not {"externalTrafficPolicy", "loadBalancerSourceRanges"} & inside.keys()


def test_env_and_writable_paths(chart: Path, render: Render) -> None:
    values = {
        "env": {
            "NUMBER": 5,
            "LARGE": 67108864,
            "HALF": 0.5,
            "YES": True,
            "OWN": {"valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        },
        "writable": {"tmp": {"mountPath": "/tmp", "sizeLimit": "8Mi", "medium": "Memory"}},
    }
    pod = pod_of(render(chart, values).one("Deployment", "small"))
    env = {entry["name"]: entry for entry in pod["containers"][0]["env"]}
    assert (env["NUMBER"]["value"], env["YES"]["value"]) == ("5", "true")
    # Not 6.7108864e+07, as Helm writes large numbers of its own accord.
    assert (env["LARGE"]["value"], env["HALF"]["value"]) == ("67108864", "0.5")
    assert env["OWN"]["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert pod["volumes"] == [{"name": "tmp", "emptyDir": {"sizeLimit": "8Mi", "medium": "Memory"}}]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"replicas": "two"}, "/replicas"),
        ({"service": {"ports": {"http": {"port": 70000}}}}, "/service/ports/http/port"),
        ({"writable": {"tmp": {"mountPath": "/tmp"}}}, "sizeLimit"),
        ({"pdb": {"maxUnavailable": "half"}}, "/pdb/maxUnavailable"),
        ({"spread": {"zones": True}}, "zones"),
        ({"hostUsers": "no"}, "/hostUsers"),
        ({"resources": {"limits": {"memory": "2 GB"}}}, "/resources/limits/memory"),
        ({"image": ""}, "image of small is empty"),
    ],
)
def test_a_wrong_value_is_refused_by_name(chart: Path, render: Render, values: Manifest, named: str) -> None:
    with pytest.raises(RenderError, match=named):
        render(chart, values)

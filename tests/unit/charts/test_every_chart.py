"""What must hold in every chart of every role, whatever it deploys."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from .conftest import CHARTS, ROOT, Manifest, Objects, Render

WITHOUT_NAMESPACE = {"ClusterRole", "ClusterRoleBinding"}
SELECTOR = {"app.kubernetes.io/name", "app.kubernetes.io/instance"}


@pytest.fixture(scope="module", params=CHARTS, ids=lambda chart: chart.name)
def chart(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture(scope="module")
def objects(chart: Path, render: Render) -> Objects:
    return render(chart)


# An agent reads what only a node has, in the one namespace whose Pod Security lets it. Its own test says what it may.
AGENTS = {"node-exporter", "vlagent"}
# The logs of a node are root's alone.
ROOTS = {"vlagent"}


def pods_of_services(objects: Objects) -> list[Manifest]:
    return [workload for workload in objects.workloads() if workload["metadata"]["name"] not in AGENTS]


def containers_of(workload: Manifest) -> list[Manifest]:
    spec = workload["spec"]["template"]["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


def test_containers_can_do_nothing_but_run(objects: Objects) -> None:
    jobs = [{**job, "spec": job["spec"]["jobTemplate"]["spec"]} for job in objects.of("CronJob")]
    assert objects.workloads() + jobs
    for workload in objects.workloads() + jobs:
        pod = workload["spec"]["template"]["spec"]
        if workload["metadata"]["name"] not in ROOTS:
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert not any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC"))
        for container in containers_of(workload):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, container["name"]


def test_what_a_container_may_use_is_bounded(objects: Objects) -> None:
    for workload in objects.workloads():
        for container in containers_of(workload):
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}, container["name"]
            assert "memory" in container["resources"]["limits"], container["name"]
        for volume in workload["spec"]["template"]["spec"].get("volumes", []):
            assert "hostPath" not in volume or workload["metadata"]["name"] in AGENTS
            if "emptyDir" in volume:
                assert volume["emptyDir"].get("sizeLimit"), volume["name"]


def test_the_names_of_ports_are_names_of_ports(objects: Objects) -> None:
    """At most 15 characters (RFC 6335), which the API server alone looks at."""
    names = [
        port["name"]
        for workload in objects.workloads()
        for container in containers_of(workload)
        for port in container.get("ports", [])
    ]
    assert [name for name in names if not re.fullmatch("(?=.*[a-z])[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?", name)] == []


def test_main_containers_are_probed(objects: Objects) -> None:
    for workload in objects.workloads():
        for container in workload["spec"]["template"]["spec"]["containers"]:
            assert "livenessProbe" in container, container["name"]
            probed = "readinessProbe" in container or "startupProbe" in container
            # An exporter that does not answer must not take what it measures out of its Service.
            assert probed is (container["name"] != "exporter"), container["name"]


def test_a_new_pod_gets_nothing_before_every_node_lets_its_address_through(objects: Objects) -> None:
    """Whichever pod takes its place ends only then, and a drain evicts no other."""
    for deployment in objects.of("Deployment"):
        containers = deployment["spec"]["template"]["spec"]["containers"]
        [container] = [container for container in containers if container["name"] != "exporter"]
        assert container["readinessProbe"]["initialDelaySeconds"] >= 5, container["name"]
        # Or it would be restarted while it waits for what it needs.
        assert "startupProbe" in container


def test_pods_spread_and_leave_dead_nodes_soon(objects: Objects) -> None:
    for workload in pods_of_services(objects):
        pod = workload["spec"]["template"]["spec"]
        keys = {constraint["topologyKey"] for constraint in pod["topologySpreadConstraints"]}
        assert keys == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}
        seconds = {entry["key"]: entry.get("tolerationSeconds") for entry in pod["tolerations"]}
        for taint in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
            assert 0 < seconds[taint] <= 60


def test_each_workload_has_its_account_and_budget(objects: Objects) -> None:
    budgets = [budget["spec"]["selector"]["matchLabels"] for budget in objects.of("PodDisruptionBudget")]
    for workload in objects.workloads():
        assert objects.one("ServiceAccount", workload["spec"]["template"]["spec"]["serviceAccountName"])
        wanted = 0 if workload["metadata"]["name"] in AGENTS else 1
        assert budgets.count(workload["spec"]["selector"]["matchLabels"]) == wanted


# Where an unready pod may hold the only good copy, it counts as a ready one; elsewhere it must not hold a drain up.
COUNTS_THOUGH_UNREADY = {"nats", "postgresql", "redis"}
# They hold data, or do what would have to begin anew.
ONLY_BY_DRAIN = {"nats", "postgresql", "postgresql-repository", "redis"}


def test_what_may_be_evicted_is_chosen_for_each_workload(objects: Objects) -> None:
    for budget in objects.of("PodDisruptionBudget"):
        counts = budget["metadata"]["name"] in COUNTS_THOUGH_UNREADY
        assert budget["spec"]["unhealthyPodEvictionPolicy"] == ("IfHealthyBudget" if counts else "AlwaysAllow")
    for workload in pods_of_services(objects):
        template = workload["spec"]["template"]
        annotations = template["metadata"].get("annotations") or {}
        kept = workload["metadata"]["name"] in ONLY_BY_DRAIN
        assert (annotations.get("karpenter.sh/do-not-disrupt") == "true") is kept
        assert (annotations.get("cluster-autoscaler.kubernetes.io/safe-to-evict") == "false") is kept
        on_disk = {
            volume["name"]
            for volume in template["spec"].get("volumes", [])
            if "emptyDir" in volume and volume["emptyDir"].get("medium") != "Memory"
        }
        # cluster-autoscaler keeps every node with a pod that has one which is not named.
        named = annotations.get("cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes", "")
        assert kept or set(named.split(",")) - {""} == on_disk
    jobs = [*objects.of("Job"), *(cron["spec"]["jobTemplate"] for cron in objects.of("CronJob"))]
    for job in jobs:
        assert job["spec"]["template"]["metadata"]["annotations"]["karpenter.sh/do-not-disrupt"] == "true"


def selecting(objects: Objects) -> list[Manifest]:
    """The Services that find their pods by labels; others, of Patroni for instance, are led by a program."""
    return [service for service in objects.of("Service") if service["spec"].get("selector")]


def test_selectors_find_the_pods_that_they_mean(objects: Objects) -> None:
    labels = [workload["spec"]["template"]["metadata"]["labels"] for workload in objects.workloads()]
    for workload in objects.workloads():
        selector = workload["spec"]["selector"]["matchLabels"]
        assert selector.keys() == SELECTOR, "a selector can never be changed: only what never changes belongs in it"
        assert sum(selector.items() <= of_pod.items() for of_pod in labels) == 1
    for service in selecting(objects):
        selector = dict(service["spec"]["selector"])
        for of_one_pod in ("statefulset.kubernetes.io/pod-name", "role"):
            selector.pop(of_one_pod, None)
        assert sum(selector.items() <= of_pod.items() for of_pod in labels) == 1, service["metadata"]["name"]


def test_service_ports_exist_in_the_pods(objects: Objects) -> None:
    for service in selecting(objects):
        name = service["spec"]["selector"]["app.kubernetes.io/name"]
        [workload] = [each for each in objects.workloads() if each["metadata"]["name"] == name]
        ports = [port for container in containers_of(workload) for port in container.get("ports", [])]
        known = {port.get("name") for port in ports} | {port["containerPort"] for port in ports}
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in known, (service["metadata"]["name"], port)


def test_an_autoscaler_owns_the_replicas_alone(objects: Objects) -> None:
    scaled = {
        (scaler["spec"]["scaleTargetRef"]["kind"], scaler["spec"]["scaleTargetRef"]["name"])
        for scaler in objects.of("HorizontalPodAutoscaler")
    }
    for workload in objects.workloads():
        owned = (workload["kind"], workload["metadata"]["name"]) in scaled or workload["kind"] == "DaemonSet"
        assert ("replicas" in workload["spec"]) is not owned
    assert scaled <= {(workload["kind"], workload["metadata"]["name"]) for workload in objects.workloads()}


def test_labels_are_on_everything(objects: Objects) -> None:
    for obj in objects:
        labels = obj["metadata"]["labels"]
        assert labels["app.kubernetes.io/part-of"] == "lambda-microservice-platform", obj["metadata"]["name"]
        assert labels.keys() >= SELECTOR | {
            "app.kubernetes.io/component",
            "app.kubernetes.io/managed-by",
            "app.kubernetes.io/version",
        }
        namespace = None if obj["kind"] in WITHOUT_NAMESPACE else "test"
        assert obj["metadata"].get("namespace") == namespace, (obj["kind"], obj["metadata"]["name"])


def test_kubernetes_1_25_gets_no_field_that_it_does_not_know(chart: Path, render: Render) -> None:
    for obj in render(chart, kube_version="1.25.0"):
        assert "unhealthyPodEvictionPolicy" not in obj.get("spec", {})
        assert "persistentVolumeClaimRetentionPolicy" not in obj.get("spec", {})
        pod = obj.get("spec", {}).get("template", {}).get("spec", {})
        for constraint in pod.get("topologySpreadConstraints", []):
            assert constraint.keys() <= {"topologyKey", "maxSkew", "whenUnsatisfiable", "labelSelector"}


def test_no_chart_makes_a_secret(objects: Objects) -> None:
    assert objects.of("Secret") == [], "a release stores its manifest: passwords come from the module secret"


def test_schemas_hold_the_library_definitions() -> None:
    command = [str(ROOT / "roles/platform/files/charts/update-schemas"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_chart_has_a_schema(chart: Path) -> None:
    assert (chart / "values.schema.json").is_file()
    assert (chart / "charts" / "library").is_symlink()


EVERY_JOB = {
    "postgresql": {"snapshot": {"class": "csi"}},
}
"""What turns on the Jobs that the tests' own values leave out."""


def test_every_pod_pulls_with_the_platform_s_secrets(chart: Path, render: Render) -> None:
    wanted = [{"name": "registry"}]
    objects = render(chart, {"library": {"imagePullSecrets": wanted}, **EVERY_JOB.get(chart.name, {})})
    pods = {
        f"{obj['kind']} {obj['metadata']['name']}": spec.get("jobTemplate", obj)["spec"]["template"]["spec"]
        for obj in objects
        for spec in [obj.get("spec", {})]
        if "template" in spec or "jobTemplate" in spec
    }
    assert pods
    assert {name: pod.get("imagePullSecrets") for name, pod in pods.items()} == dict.fromkeys(pods, wanted)

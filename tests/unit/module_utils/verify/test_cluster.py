"""The checks of the cluster, against objects as an API server gives them."""

from __future__ import annotations

import copy

import pytest
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.exec import Ran
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.refusals import refusal
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify import cluster as verify_cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.checks import Doubtful, Passed
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.cluster import Platform, metrics_of

from ..stand_in import stands_in_for

LABELS = {"app.kubernetes.io/name": "web"}
WORKLOAD = {"kind": "Deployment", "name": "web", "namespace": "shop", "autoscaled": True}
NAMESPACE = {"name": "shop", "pod_security": "restricted"}


def node(name, zone):
    return {"kind": "Node", "metadata": {"name": name, "labels": {verify_cluster.ZONE_LABEL: zone} if zone else {}}}


def pod(name, on):
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "labels": LABELS},
        "spec": {"nodeName": on},
        "status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
    }


def deployment(replicas=2, available=2):
    return {
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "generation": 1},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": LABELS},
            "template": {"metadata": {"labels": LABELS}},
        },
        "status": {
            "observedGeneration": 1,
            "replicas": replicas,
            "updatedReplicas": replicas,
            "readyReplicas": available,
            "availableReplicas": available,
        },
    }


def budget(name="web", allowed=1):
    return {
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"selector": {"matchLabels": LABELS}},
        "status": {"disruptionsAllowed": allowed},
    }


def scaler(value=12):
    return {
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "scaleTargetRef": {"kind": "Deployment", "name": "web"},
            "metrics": [
                {"type": "Resource",
                 "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}
            ],
        },
        "status": {
            "conditions": [{"type": "ScalingActive", "status": "True"}],
            "currentMetrics": [
                {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": value}}}
            ]
            if value is not None
            else [{"type": "", "resource": {"current": {}}}],
        },
    }  # fmt: skip


def deny(name="default-deny", **spec):
    return {
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], **spec},
    }


def service(name="edge", type_="NodePort", ports=(443, 80), **spec):
    return {
        "kind": "Service",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"type": type_, "clusterIP": f"ip-of-{name}", "ports": [{"port": port} for port in ports], **spec},
    }


def namespace(**levels):
    labels = {f"pod-security.kubernetes.io/{mode}": level for mode, level in levels.items()}
    return {"kind": "Namespace", "metadata": {"name": "shop", "labels": labels}}


@stands_in_for(Cluster)
class FakeCluster:
    """Holds objects; ``admits`` says what becomes of a pod that is offered."""

    host = "https://cluster"

    def __init__(self, *objects):
        self.objects = list(objects)
        self.policies_served = True
        self.admits = as_it_should

    def list(self, api_version, kind, namespace=None, label_selector=None, field_selector=None):
        wanted = dict(term.split("=") for term in (label_selector or "").split(",") if term)
        return [
            copy.deepcopy(obj)
            for obj in self.objects
            if obj["kind"] == kind and wanted.items() <= (obj["metadata"].get("labels") or {}).items()
        ]

    def get(self, ref):
        found = [o for o in self.objects if (o["kind"], o["metadata"]["name"]) == (ref["kind"], ref["name"])]
        return copy.deepcopy(found[0]) if found else None

    def get_many(self, refs):
        return [self.get(ref) for ref in refs]

    def knows(self, _api_version, _kind):
        return self.policies_served

    def create(self, obj, _field_manager, dry_run=False):
        assert dry_run, "a pod was made"
        refused = self.admits(obj["spec"]["containers"][0]["securityContext"])
        if refused:
            raise refusal(403, "Forbidden", refused, [], "Pod shop/verify")


def as_it_should(context):
    if context.get("privileged"):
        return 'pods "x" is forbidden: violates PodSecurity "restricted:latest": privileged (...)'
    if not context.get("readOnlyRootFilesystem"):
        return (
            "ValidatingAdmissionPolicy 'p' with binding 'p' denied request: securityContext.readOnlyRootFilesystem must"
        )
    return None


def platform(*objects, **options):
    ticks = iter(range(0, 10**6, 5))
    return Platform(
        FakeCluster(*objects),
        [NAMESPACE],
        [options.get("workload", WORKLOAD)],
        options.get("wait_seconds", 30),
        clock=lambda: next(ticks),
        sleep=lambda _seconds: None,
    )


# --- clocks ----------------------------------------------------------------------------------------------------------


def lease(name="a", renewed="2026-11-24T10:00:00.700000Z", *written):
    fields = [{"manager": "kubelet", "operation": "Update", "time": time} for time in written]
    return {
        "kind": "Lease",
        "metadata": {"name": name, "managedFields": fields},
        "spec": {"renewTime": renewed},
    }


def test_clocks_that_agree_pass_and_the_furthest_is_named():
    leases = [lease("a", "2026-11-24T10:00:00.700000Z", "2026-11-24T10:00:00Z")]
    leases.append(lease("b", "2026-11-24T09:59:58.500000Z", "2026-11-24T08:00:00Z", "2026-11-24T10:00:00Z"))
    assert platform(*leases).clocks() == Passed("2 nodes, the furthest is b, 1.5 s behind")


@pytest.mark.parametrize(
    ("renewed", "said"),
    [("2026-11-24T09:00:00.000000Z", "a is 3600.0 s behind"), ("2026-11-24T10:01:31.000000Z", "a is 90.0 s ahead")],
)
def test_a_clock_that_stays_wrong_fails(renewed, said):
    with pytest.raises(PlatformError, match=said):
        platform(lease("a", renewed, "2026-11-24T10:00:00Z")).clocks()


def test_a_lease_that_was_written_late_is_looked_at_again():
    late = lease("a", "2026-11-24T09:59:50.000000Z", "2026-11-24T10:00:00Z")
    next_one = lease("a", "2026-11-24T10:00:10.000000Z", "2026-11-24T10:00:10Z")
    subject = platform(late)
    subject.sleep = lambda _seconds: subject.cluster.objects.__setitem__(0, next_one)
    assert isinstance(subject.clocks(), Passed)


def test_leases_that_do_not_say_when_they_were_written_are_a_warning():
    assert isinstance(platform(lease("a", "2026-11-24T09:59:50.000000Z")).clocks(), Doubtful)


# --- workloads -------------------------------------------------------------------------------------------------------


def test_what_has_rolled_out_and_what_has_not():
    assert platform(deployment()).rollouts() == Passed("1 workloads with 2 pods")
    for objects, said in [((deployment(available=1),), "1/2 available"), ((), "does not exist")]:
        with pytest.raises(PlatformError, match=said):
            platform(*objects).rollouts()


def test_pods_in_two_zones_pass_and_in_one_fail():
    nodes = [node("a", "zone-1"), node("b", "zone-2"), node("c", "zone-1")]
    assert isinstance(platform(*nodes, deployment(), pod("1", "a"), pod("2", "b")).zones(), Passed)
    with pytest.raises(PlatformError, match="Deployment shop/web: zone-1"):
        platform(*nodes, deployment(), pod("1", "a"), pod("2", "c")).zones()


def test_a_cluster_of_one_zone_is_a_warning():
    assert isinstance(platform(node("a", "zone-1"), node("b", None), deployment()).zones(), Doubtful)


@pytest.mark.parametrize(
    ("budgets", "said"),
    [([], "0 budgets"), ([budget(), budget("more")], "2 budgets"), ([budget(allowed=0)], "allows no disruption")],
)
def test_a_workload_that_a_drain_could_take_or_hold_up(budgets, said):
    with pytest.raises(PlatformError, match=said):
        platform(deployment(), *budgets).disruption_budgets()


def test_one_replica_needs_no_budget_and_two_need_one():
    assert "1 workloads" in platform(deployment(), budget()).disruption_budgets().detail
    assert "0 workloads" in platform(deployment(1, 1)).disruption_budgets().detail


def test_what_runs_on_every_node_needs_no_budget():
    agents = {**deployment(), "kind": "DaemonSet", "status": {"desiredNumberScheduled": 2}}
    found = platform(agents, workload={**WORKLOAD, "kind": "DaemonSet"}).disruption_budgets()
    assert "0 workloads" in found.detail


def test_an_autoscaler_with_values_passes():
    assert platform(scaler()).autoscalers() == Passed("web cpu 12% of 70%")


def test_metrics_that_come_late_are_waited_for():
    late = platform(scaler(None))
    late.sleep = lambda _seconds: late.cluster.objects.__setitem__(0, scaler())
    assert isinstance(late.autoscalers(), Passed)


@pytest.mark.parametrize(("objects", "said"), [([scaler(None)], "no value of cpu yet"), ([], "0 autoscalers")])
def test_an_autoscaler_that_does_not_work(objects, said):
    with pytest.raises(PlatformError, match=said):
        platform(*objects).autoscalers()


def test_a_metric_of_value_zero_is_a_value():
    assert metrics_of(scaler(0)) == ("", "cpu 0% of 70%")


# --- admission -------------------------------------------------------------------------------------------------------

GUARDED = {"enforce": "restricted", "warn": "restricted", "audit": "restricted"}


def test_a_guarded_namespace_passes():
    assert isinstance(platform(namespace(**GUARDED)).pod_security(), Passed)
    assert isinstance(platform(namespace(**GUARDED)).read_only_root(), Passed)


@pytest.mark.parametrize("mode", ["enforce", "warn", "audit"])
@pytest.mark.parametrize("level", ["baseline", "nonsense", None])
def test_a_level_that_is_lower_or_missing(mode, level):
    levels = {**GUARDED, mode: level} if level else {m: v for m, v in GUARDED.items() if m != mode}
    with pytest.raises(PlatformError, match=f"{mode} is {level or 'not set'}"):
        platform(namespace(**levels)).pod_security()


def refuse_with(text):
    return lambda _context: text


FULL = "exceeded quota: q, requested: pods=1, used: pods=9, limited: pods=9"


@pytest.mark.parametrize(
    ("admits", "check", "said"),
    [
        (refuse_with(None), "pod_security", "privileged pod is admitted"),
        (refuse_with(None), "read_only_root", "writable root file system is admitted"),
        # A rule that refuses everything is not the rule that was asked for.
        (refuse_with(FULL), "pod_security", "another"),
        (
            refuse_with(FULL),
            "read_only_root",
            "another",
        ),
        (
            refuse_with("ValidatingAdmissionPolicy 'p' with binding 'p' denied request: no readOnlyRootFilesystem"),
            "read_only_root",
            "keeps all rules is refused",
        ),
    ],
)
def test_admission_that_is_open_or_closed_for_another_reason(admits, check, said):
    guarded = platform(namespace(**GUARDED))
    guarded.cluster.admits = admits
    with pytest.raises(PlatformError, match=said):
        getattr(guarded, check)()


def test_a_cluster_without_such_policies_is_a_warning():
    old = platform(namespace(**GUARDED))
    old.cluster.policies_served = False
    assert isinstance(old.read_only_root(), Doubtful)


# --- network ---------------------------------------------------------------------------------------------------------

EDGE = {"namespace": "shop", "name": "edge"}


def test_only_the_edge_may_be_exposed():
    inside = service("inside", "ClusterIP", (8080,))
    assert isinstance(platform(service(), inside).exposed(EDGE), Passed)


@pytest.mark.parametrize(
    "objects",
    [
        [],
        [service(ports=(443, 9090))],
        [service(), service("other", "LoadBalancer", (80,))],
        [service(), service("other", "ClusterIP", (80,), externalIPs=["192.0.2.1"])],
    ],
    ids=["none", "metrics at the edge", "another one", "an external address"],
)
def test_what_is_exposed_besides(objects):
    with pytest.raises(PlatformError, match="reached from outside"):
        platform(*objects).exposed(EDGE)


@pytest.mark.parametrize(
    "policy",
    [
        deny(policyTypes=["Ingress"]),
        deny(egress=[{}]),
        deny(podSelector={"matchLabels": LABELS}),
        deny(podSelector={"matchExpressions": [{"key": "x", "operator": "Exists"}]}),
    ],
    ids=["one direction", "with an exception", "some pods", "pods by expression"],
)
def test_a_policy_that_does_not_deny_everything(policy):
    assert isinstance(platform(deny(), policy).default_deny(), Passed)
    with pytest.raises(PlatformError, match="without a default deny"):
        platform(policy).default_deny()


def enforcement(monkeypatch, allowed, forbidden, required=False, behind=None):
    ran = Ran(0, f"ip-of-good 1 {allowed}\nip-of-bad 2 {forbidden}\n", "")
    monkeypatch.setattr(verify_cluster, "run_in_pod", lambda *_arguments, **_options: ran)
    objects = (pod("1", "a"), service("good"), service("bad", selector=behind or LABELS))
    source = {"namespace": "shop", "app": "web"}
    targets = [{"namespace": "shop", "name": name, "port": port} for name, port in (("good", 1), ("bad", 2))]
    return platform(*objects).enforcement(source, *targets, required)


@pytest.mark.parametrize("code", [124, 1])
def test_an_enforcing_network(monkeypatch, code):
    assert isinstance(enforcement(monkeypatch, 0, code), Passed)


def test_a_network_that_does_not_enforce_is_a_plain_warning(monkeypatch):
    found = enforcement(monkeypatch, 0, 0)
    assert isinstance(found, Doubtful)
    assert found.detail.startswith("NOT enforced")
    assert "does not enforce NetworkPolicies" in found.warning


def test_a_blocked_connection_proves_nothing_where_allowed_ones_fail_too(monkeypatch):
    with pytest.raises(PlatformError, match="that the policies allow fails"):
        enforcement(monkeypatch, 124, 124)


def test_an_image_without_the_programs_to_try_with(monkeypatch):
    assert isinstance(enforcement(monkeypatch, 127, 127), Doubtful)


def test_policies_that_must_be_enforced_and_are_not(monkeypatch):
    with pytest.raises(PlatformError, match="does not enforce NetworkPolicies") as failure:
        enforcement(monkeypatch, 0, 0, required=True)
    assert failure.value.where == "shop/web to shop/bad:2"
    assert "verify_enforcement" in failure.value.fix
    with pytest.raises(PlatformError, match="is unknown"):
        enforcement(monkeypatch, 127, 127, required=True)
    assert isinstance(enforcement(monkeypatch, 0, 124, required=True), Passed)


def test_a_service_without_pods_refuses_everybody_and_proves_nothing(monkeypatch):
    with pytest.raises(PlatformError, match="no ready pod"):
        enforcement(monkeypatch, 0, 1, behind={"app.kubernetes.io/name": "away"})

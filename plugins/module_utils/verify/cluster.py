# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator of the platform sees: checks of the objects in the cluster. Nothing is changed: pods that should be
refused are only offered (server-side dry run), and the network is tried from pods that run already.
"""

from __future__ import annotations

import datetime
import secrets
import time
from collections.abc import Callable
from typing import Any, TypeVar

from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import (
    concurrently,
    sleep,
    wait_until,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.exec import run_in_pod
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object, spoken
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.workloads import (
    DEFAULT_API_VERSIONS,
    READY,
    condition_of,
    is_ready,
    status_of,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.checks import (
    Doubtful,
    Found,
    Passed,
)

_Seen = TypeVar("_Seen")

ZONE_LABEL = "topology.kubernetes.io/zone"
LEVELS = ("privileged", "baseline", "restricted")
"""Of the Pod Security Standards, the strictest last."""

CLOCK_SECONDS = 5.0
"""How far a node's clock may be from the API server's. A kubelet that is slow to write is late by less."""

PROBE_SECONDS = 3
"""How long a connection is given that may be dropped without an answer."""

# Tries ADDRESS PORT pairs side by side and prints the exit code of each attempt: 0 is connected, 124 is silence.
_CONNECT = """
limit=$1; shift
while [ $# -gt 0 ]; do
    (timeout "$limit" bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$1" "$2" 2>/dev/null; echo "$1 $2 $?") &
    shift 2
done
wait
"""


class Platform:
    """The checks, over one cluster. ``namespaces`` are {name, pod_security}, ``workloads`` {kind, name, namespace,
    autoscaled}.
    """

    def __init__(
        self,
        cluster: Cluster,
        namespaces: list[Object],
        workloads: list[Object],
        wait_seconds: float = 90,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = sleep,
    ) -> None:
        self.cluster = cluster
        self.namespaces = namespaces
        self.workloads = [{**workload, "apiVersion": DEFAULT_API_VERSIONS[workload["kind"]]} for workload in workloads]
        self.wait_seconds = wait_seconds
        self.clock = clock
        self.sleep = sleep

    def _wait(
        self,
        look: Callable[[], _Seen],
        timeout_seconds: float,
        pause_seconds: float,
        done: Callable[[_Seen], Any] = bool,
    ) -> _Seen:
        return wait_until(look, timeout_seconds, pause_seconds, done, self.clock, self.sleep)

    def answers(self) -> Found:
        """The API server answers these credentials."""
        version = self.cluster.version()
        self.cluster.list("v1", "Namespace")
        return Passed(f"Kubernetes {version['gitVersion']} at {self.cluster.host}")

    def clocks(self) -> Found:
        """The nodes' clocks agree with the API server's. A lease that was written late is looked at again."""

        def look() -> tuple[dict[str, float], dict[str, float]]:
            offsets = clock_offsets(self.cluster.list("coordination.k8s.io/v1", "Lease", "kube-node-lease"))
            return offsets, {name: offset for name, offset in offsets.items() if abs(offset) > CLOCK_SECONDS}

        offsets, wrong = self._wait(look, self.wait_seconds, 5, done=lambda found: not found[1])
        if wrong:
            raise PlatformError(
                "the clock of a node is wrong",
                where=", ".join(f"Node {name}" for name in wrong),
                found="; ".join(f"{name} is {_ahead_or_behind(offset)}" for name, offset in wrong.items()),
                expected=f"every node within {CLOCK_SECONDS:g} s of the API server: else certificates and tokens are "
                "not yet or no longer valid for it, and a restore to a time ends at another one",
                fix="mend the node's time service (chronyc tracking and timedatectl show its state)",
                reason="clock",
            )
        if not offsets:
            return Doubtful(
                "unknown", "No node's lease says when it was written, so the nodes' clocks were not compared."
            )
        furthest = max(offsets, key=lambda name: abs(offsets[name]))
        return Passed(f"{len(offsets)} nodes, the furthest is {furthest}, {_ahead_or_behind(offsets[furthest])}")

    # --- workloads ---------------------------------------------------------------------------------------------------

    def _live(self) -> list[tuple[Object, Object]]:
        """The workloads that exist, each with its live object."""
        found = self.cluster.get_many(self.workloads)
        return [(ref, live) for ref, live in zip(self.workloads, found, strict=True) if live is not None]

    def rollouts(self) -> Found:
        """Each workload runs its newest revision, completely."""
        live = dict(zip(map(spoken, self.workloads), self.cluster.get_many(self.workloads), strict=True))
        states = {name: status_of(workload) for name, workload in live.items()}
        late = {name: status.message for name, status in states.items() if status.state != READY}
        if late:
            raise PlatformError(
                f"{len(late)} of {len(states)} workloads are not rolled out",
                where=", ".join(late),
                found="; ".join(f"{name} {message}" for name, message in late.items()),
                expected="all replicas updated and available",
                fix="run site.yml: its rollout task waits for them, and names the pod and the cause where one fails",
                reason="rollout",
            )
        pods = sum(status.desired or 0 for status in states.values())
        return Passed(f"{len(states)} workloads with {pods} pods")

    def zones(self) -> Found:
        """No workload with several replicas has them all in one zone."""
        nodes = [node for node in self.cluster.list("v1", "Node") if not (node.get("spec") or {}).get("unschedulable")]
        zone_of = {node["metadata"]["name"]: (node["metadata"].get("labels") or {}).get(ZONE_LABEL) for node in nodes}
        zones = {zone for zone in zone_of.values() if zone}
        if len(zones) < 2:
            return Doubtful(
                f"the cluster has {len(zones)} zones",
                f"The nodes that take pods are in {len(zones)} zones (label {ZONE_LABEL}), so the loss of one ends the "
                "platform. Add nodes in other zones.",
            )
        pods = self._pods()
        spread, crowded = {}, {}
        for ref, live in self._live():
            desired = status_of(live).desired or 0
            if desired < 2:
                continue
            mine = [pod for pod in pods[ref["namespace"]] if _selects(live["spec"]["selector"], pod)]
            in_zones = {zone_of.get((pod.get("spec") or {}).get("nodeName", "")) for pod in mine} - {None}
            if len(in_zones) < 2:
                crowded[spoken(ref)] = ", ".join(sorted(map(str, in_zones))) or "no zone"
            else:
                spread[spoken(ref)] = len(in_zones)
        if crowded:
            raise PlatformError(
                "all replicas of a workload are in one zone",
                where=", ".join(crowded),
                found="; ".join(f"{name}: {zone}" for name, zone in crowded.items()),
                expected=f"pods in two zones or more (the cluster has {', '.join(sorted(zones))})",
                fix="let them be placed anew when the other zones have room: kubectl rollout restart",
                reason="zones",
            )
        least = min(spread.values(), default=0)
        return Passed(f"{len(spread)} workloads with several replicas, each in {least} zones or more of {len(zones)}")

    def disruption_budgets(self) -> Found:
        """A drained node never takes all replicas of a workload, and a drain is never refused for ever."""
        problems, right = self._wait(
            self._budget_problems, min(20.0, self.wait_seconds), 2, done=lambda found: not found[0]
        )
        if problems:
            raise PlatformError(
                "workloads are not protected from drains as they should be",
                where=", ".join(problems),
                found="; ".join(f"{name}: {problem}" for name, problem in problems.items()),
                expected="one PodDisruptionBudget for each workload with several replicas, allowing a disruption",
                fix="run site.yml; a budget that allows none waits for pods that are not ready",
                reason="budget",
            )
        return Passed(f"{right} workloads with several replicas have one each, all allow a disruption")

    def _budget_problems(self) -> tuple[dict[str, str], int]:
        names = sorted({ref["namespace"] for ref in self.workloads})
        budgets = self._lists("policy/v1", "PodDisruptionBudget", names)
        problems, right = {}, 0
        for ref, live in self._live():
            # A drain leaves the pods of a DaemonSet where they are.
            if ref["kind"] == "DaemonSet" or (status_of(live).desired or 0) < 2:
                continue
            template = live["spec"]["template"]
            mine = [budget for budget in budgets[ref["namespace"]] if _selects(budget["spec"]["selector"], template)]
            if len(mine) != 1:
                listed = ", ".join(budget["metadata"]["name"] for budget in mine) or "none"
                problems[spoken(ref)] = f"{len(mine)} budgets ({listed})"
            elif (mine[0].get("status") or {}).get("disruptionsAllowed", 0) < 1:
                problems[spoken(ref)] = f"{mine[0]['metadata']['name']} allows no disruption"
            else:
                right += 1
        return problems, right

    def autoscalers(self) -> Found:
        """Each HorizontalPodAutoscaler knows the values of its metrics. On a new cluster they take a minute."""
        wanted = [ref for ref in self.workloads if ref.get("autoscaled")]
        ends = self.clock() + self.wait_seconds
        while True:
            names = sorted({ref["namespace"] for ref in wanted})
            scalers = [
                scaler
                for found in self._lists("autoscaling/v2", "HorizontalPodAutoscaler", names).values()
                for scaler in found
            ]
            problems: dict[str, str] = {}
            known: list[str] = []
            final = False
            for ref in wanted:
                mine = [scaler for scaler in scalers if _scales(scaler, ref)]
                if len(mine) != 1:
                    problems[spoken(ref)] = f"{len(mine)} autoscalers"
                    final = True
                    continue
                problem, values = metrics_of(mine[0])
                if problem:
                    problems[spoken(ref)] = problem
                else:
                    known.append(f"{ref['name']} {values}")
            if not problems:
                return Passed("; ".join(known))
            if final or self.clock() >= ends:
                raise PlatformError(
                    "autoscalers do not work",
                    where=", ".join(problems),
                    found="; ".join(f"{name}: {problem}" for name, problem in problems.items()),
                    expected="one HorizontalPodAutoscaler for each, with a value for every metric",
                    fix="check that metrics-server runs (kubectl top pods) and that the pods request CPU and memory"
                    if not final
                    else "run site.yml",
                    reason="autoscaler",
                )
            self.sleep(3.0)

    # --- admission ---------------------------------------------------------------------------------------------------

    def pod_security(self) -> Found:
        """The namespaces carry their level, and a privileged pod is refused."""
        for namespace, problem in zip(
            self.namespaces, concurrently(self._pod_security_problem, self.namespaces), strict=True
        ):
            if isinstance(problem, PlatformError):
                raise problem
            if problem:
                raise PlatformError(
                    "a namespace is not guarded as it should be",
                    where=f"Namespace {namespace['name']}",
                    found=problem,
                    expected=f"enforce, warn and audit at {namespace['pod_security']} (labels "
                    "pod-security.kubernetes.io/...), and a privileged pod refused",
                    fix="run site.yml --tags foundation",
                    reason="admission",
                )
        open_ones = [one["name"] for one in self.namespaces if one["pod_security"] == "privileged"]
        guarded = len(self.namespaces) - len(open_ones)
        levels = sorted({one["pod_security"] for one in self.namespaces} - {"privileged"})
        left_open = (
            f"; {', '.join(open_ones)} may run privileged pods, as foundation_namespaces says" if open_ones else ""
        )
        return Passed(
            f"{guarded} namespaces enforce {' or '.join(levels)}; a privileged pod is refused in each{left_open}"
        )

    def _pod_security_problem(self, namespace: Object) -> str:
        name, level = namespace["name"], namespace["pod_security"]
        live = self.cluster.get({"apiVersion": "v1", "kind": "Namespace", "name": name})
        if live is None:
            return "it does not exist"
        labels = live["metadata"].get("labels") or {}
        for mode in ("enforce", "warn", "audit"):
            found = labels.get(f"pod-security.kubernetes.io/{mode}", "")
            if found not in LEVELS or LEVELS.index(found) < LEVELS.index(level):
                return f"{mode} is {found or 'not set'}"
        if level == "privileged":
            return ""
        pod = probe_pod(name)
        pod["spec"]["containers"][0]["securityContext"] = {"privileged": True, "readOnlyRootFilesystem": True}
        refusal = self._offered(pod)
        if refusal is None:
            return "a privileged pod is admitted"
        if refusal.reason != "admission" or "Pod Security" not in refusal.what:
            return f"a privileged pod is refused for another reason: {refusal}"
        return ""

    def read_only_root(self) -> Found:
        """A pod that may write to its root file system is refused, and one that may not is admitted."""
        if not self.cluster.knows("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy"):
            return Doubtful(
                "this cluster has no ValidatingAdmissionPolicies",
                "Pods with a writable root file system are not refused: the cluster (before Kubernetes 1.30) does not "
                "serve ValidatingAdmissionPolicies. The platform's own pods are read-only all the same.",
            )
        guarded = [namespace for namespace in self.namespaces if namespace["pod_security"] != "privileged"]
        for namespace, problem in zip(guarded, concurrently(self._root_problem, guarded), strict=True):
            if isinstance(problem, PlatformError):
                raise problem
            if problem:
                raise PlatformError(
                    "the rule of the read-only root file system does not hold",
                    where=f"Namespace {namespace['name']}",
                    found=problem,
                    expected="a pod without readOnlyRootFilesystem is refused by the ValidatingAdmissionPolicy, one "
                    "with it is admitted",
                    fix="run site.yml --tags foundation; foundation_read_only_root_actions must hold Deny",
                    reason="admission",
                )
        return Passed(f"a writable root file system is refused in {len(guarded)} namespaces, a read-only one admitted")

    def _root_problem(self, namespace: Object) -> str:
        writable = probe_pod(namespace["name"])
        del writable["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystem"]
        # What was installed a moment ago may not be in force yet (the API server reads policies every few seconds).
        refusal = self._wait(lambda: self._offered(writable), min(15.0, self.wait_seconds), 1)
        if refusal is None:
            return "a pod with a writable root file system is admitted"
        if refusal.reason != "admission" or "readOnlyRootFilesystem" not in str(refusal):
            return f"a pod with a writable root file system is refused for another reason: {refusal}"
        refusal = self._offered(probe_pod(namespace["name"]))
        return f"a pod that keeps all rules is refused: {refusal}" if refusal else ""

    def _offered(self, pod: Object) -> PlatformError | None:
        """Offer the pod in a dry run: None if it would be admitted. What is no refusal is raised."""
        try:
            self.cluster.create(pod, "verify", dry_run=True)
        except PlatformError as failure:
            if failure.reason in ("unreachable", "timeout", "tls", "unauthorized", "forbidden"):
                raise
            return failure
        return None

    # --- network -----------------------------------------------------------------------------------------------------

    def exposed(self, edge: Object) -> Found:
        """Only the edge can be reached from outside, on two ports."""
        services = self._lists("v1", "Service", [namespace["name"] for namespace in self.namespaces])
        open_ones, others = [], []
        for service in (service for found in services.values() for service in found):
            spec = service["spec"]
            if spec.get("type") not in ("NodePort", "LoadBalancer") and not spec.get("externalIPs"):
                continue
            name = f"{service['metadata']['namespace']}/{service['metadata']['name']}"
            ports = sorted(port["port"] for port in spec.get("ports") or [])
            if name == f"{edge['namespace']}/{edge['name']}" and set(ports) <= {80, 443}:
                open_ones.append(f"{name} ({spec['type']}, ports {', '.join(map(str, ports))})")
            else:
                others.append(f"{name} ({spec.get('type')}, ports {', '.join(map(str, ports))})")
        if others or not open_ones:
            raise PlatformError(
                "what can be reached from outside the cluster is not what should be",
                where="Services of the platform's namespaces",
                found="; ".join(others) or f"no Service {edge['namespace']}/{edge['name']} that leads in",
                expected=f"the Service {edge['namespace']}/{edge['name']} on ports 443 and 80 alone",
                fix="make the other Services ClusterIP; run site.yml --tags ingress for the edge's",
                reason="exposed",
            )
        return Passed(f"only {', '.join(open_ones)}")

    def default_deny(self) -> Found:
        """Each namespace denies what no policy allows, in both directions."""
        names = [namespace["name"] for namespace in self.namespaces]
        policies = self._lists("networking.k8s.io/v1", "NetworkPolicy", names)
        open_ones = [name for name in names if not any(_denies_all(policy) for policy in policies[name])]
        if open_ones:
            raise PlatformError(
                "namespaces without a default deny",
                where=", ".join(open_ones),
                found="no NetworkPolicy that selects every pod, for ingress and egress, and allows nothing",
                expected="one in each namespace",
                fix="run site.yml --tags foundation",
                reason="network",
            )
        return Passed(f"{len(names)} namespaces deny by default; {sum(map(len, policies.values()))} policies in all")

    def enforcement(self, source: Object, allowed: Object, forbidden: Object, required: bool = False) -> Found:
        """Whether the cluster's network heeds NetworkPolicies: tried from a pod of ``source`` ({namespace, app}) to the
        Services ``allowed`` and ``forbidden`` ({namespace, name, port}). Where it does not, or cannot be tried, that is
        a failure if it is ``required``, else a warning.
        """
        pod = self.ready_pod(source["namespace"], source["app"])
        targets = [allowed, forbidden]
        pairs = []
        for target, service in zip(
            targets,
            self.cluster.get_many({"apiVersion": "v1", "kind": "Service", **target} for target in targets),
            strict=True,
        ):
            if service is None:
                raise PlatformError(
                    "a Service is missing",
                    where=f"Service {target['namespace']}/{target['name']}",
                    found="it does not exist",
                    expected="a Service to try a connection to",
                    fix="run site.yml",
                    reason="missing",
                )
            pairs.append((self._address_of(service), str(target["port"])))
        command = ["sh", "-c", _CONNECT, "connect", str(PROBE_SECONDS), *(text for pair in pairs for text in pair)]
        ran = run_in_pod(self.cluster, source["namespace"], pod, command, timeout_seconds=PROBE_SECONDS + 15)
        codes = {}
        for line in ran.stdout.splitlines():
            address, port, code = line.split()
            codes[address, port] = int(code)
        where = f"Pod {source['namespace']}/{pod}"
        way = (
            f"{source['namespace']}/{source['app']} to {forbidden['namespace']}/{forbidden['name']}:{forbidden['port']}"
        )
        if 127 in codes.values() or len(codes) != len(pairs):
            if required:
                raise PlatformError(
                    "whether NetworkPolicies are enforced is unknown",
                    where=where,
                    found="no bash or no timeout to try with",
                    expected="a pod that can try, as verify_enforcement is required",
                    fix="give its image both, or set verify_enforcement to warn",
                    reason="network",
                )
            return Doubtful(
                "could not be tried",
                f"Whether NetworkPolicies are enforced is unknown: {where} has no bash or no timeout to try with.",
            )
        if codes[pairs[0]] != 0:
            raise PlatformError(
                "a connection that the policies allow fails",
                where=f"{where} to {allowed['namespace']}/{allowed['name']}:{allowed['port']}",
                found="no answer" if codes[pairs[0]] == 124 else "refused",
                expected="an open connection",
                fix="compare platform_flows with the NetworkPolicies of both namespaces",
                reason="network",
            )
        if codes[pairs[1]] == 0:
            if required:
                raise PlatformError(
                    "this cluster's network does not enforce NetworkPolicies",
                    where=way,
                    found="an open connection, which the policies forbid",
                    expected="no connection, as verify_enforcement is required",
                    fix="use a CNI that enforces them (Cilium, Calico, the network policy options of EKS and GKE), or "
                    "set verify_enforcement to warn where nobody else can run code",
                    reason="network",
                )
            return Doubtful(
                f"NOT enforced: {way} is forbidden and goes through",
                f"This cluster's network does not enforce NetworkPolicies: {way} is forbidden and goes through all the "
                "same. The policies are in place and have no effect; use a CNI that enforces them (Cilium, Calico, the "
                "network policy options of EKS and GKE) wherever others than you can run code.",
            )
        return Passed(f"enforced: {way} is blocked, an allowed connection works")

    def _address_of(self, service: Object) -> str:
        """The cluster IP; of a headless Service, the address of a ready pod behind it. Without one it refuses
        everybody, policies or none.
        """
        address = service["spec"].get("clusterIP") or "None"
        namespace = service["metadata"]["namespace"]
        selector = ",".join(f"{key}={value}" for key, value in (service["spec"].get("selector") or {}).items())
        for pod in self.cluster.list("v1", "Pod", namespace, selector):
            if is_ready(pod):
                return pod["status"]["podIP"] if address == "None" else address
        raise PlatformError(
            "a Service has no ready pod",
            where=f"Service {namespace}/{service['metadata']['name']}",
            found="no pod that is ready",
            expected="a pod to try a connection to",
            fix="see why its pods are not ready: kubectl describe pods",
            reason="missing",
        )

    # --- parts -------------------------------------------------------------------------------------------------------

    def ready_pod(self, namespace: str, app: str) -> str:
        """The name of a ready pod with this app.kubernetes.io/name."""
        for pod in self.cluster.list("v1", "Pod", namespace, f"app.kubernetes.io/name={app}"):
            if is_ready(pod):
                return pod["metadata"]["name"]
        raise PlatformError(
            "no pod to look from",
            where=f"namespace {namespace}, app.kubernetes.io/name={app}",
            found="no pod that is ready",
            expected="a pod that is ready",
            fix="see why: kubectl -n %s describe pods -l app.kubernetes.io/name=%s" % (namespace, app),
            reason="missing",
        )

    def answered(self, namespace: str, app: str, session: str) -> dict[str, int] | None:
        """How many log lines of each ready replica name the session; None where there is only one replica."""
        pods = [
            pod["metadata"]["name"]
            for pod in self.cluster.list("v1", "Pod", namespace, f"app.kubernetes.io/name={app}")
            if is_ready(pod)
        ]
        if len(pods) < 2:
            return None
        needle = session.encode()

        def count(pod: str) -> int:
            path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
            about = {"apiVersion": "v1", "kind": "Pod", "name": pod, "namespace": namespace}
            log = self.cluster.open(
                "GET", path, query={"sinceSeconds": 120, "limitBytes": 1 << 25}, accept="*/*", about=about
            )
            return log.data.count(needle)

        counts = concurrently(count, pods)
        return {pod: count for pod, count in zip(pods, counts, strict=True) if not isinstance(count, PlatformError)}

    def _pods(self) -> dict[str, list[Object]]:
        found = self._lists("v1", "Pod", sorted({ref["namespace"] for ref in self.workloads}))
        return {
            namespace: [
                pod
                for pod in pods
                if not pod["metadata"].get("deletionTimestamp") and pod["status"].get("phase") == "Running"
            ]
            for namespace, pods in found.items()
        }

    def _lists(self, api_version: str, kind: str, namespaces: list[str]) -> dict[str, list[Object]]:
        answers = concurrently(lambda namespace: self.cluster.list(api_version, kind, namespace), namespaces)
        found: dict[str, list[Object]] = {}
        for namespace, answer in zip(namespaces, answers, strict=True):
            if isinstance(answer, PlatformError):
                raise answer
            found[namespace] = answer
        return found


def clock_offsets(leases: list[Object]) -> dict[str, float]:
    """Seconds by which each node's clock is ahead of the API server's, by name.

    The kubelet writes its own time into its lease every 10 s, and the API server notes in the same object when it was
    written, without fractions: a difference of less than a second is none.
    https://kubernetes.io/docs/concepts/architecture/leases/
    """
    offsets = {}
    for lease in leases:
        renewed = (lease.get("spec") or {}).get("renewTime")
        written = [entry["time"] for entry in lease["metadata"].get("managedFields") or [] if entry.get("time")]
        if renewed and written:
            offset = (_moment(renewed) - _moment(max(written))).total_seconds()
            offsets[lease["metadata"]["name"]] = offset if offset < 0 else max(0.0, offset - 1)
    return offsets


def _moment(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def _ahead_or_behind(offset: float) -> str:
    return f"{abs(offset):.1f} s {'ahead' if offset > 0 else 'behind'}"


def probe_pod(namespace: str) -> Object:
    """A pod that keeps every rule of the platform. It is only ever offered, never made."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"verify-{secrets.token_hex(4)}",
            "namespace": namespace,
            "labels": {"app.kubernetes.io/name": "verify"},
        },
        "spec": {
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "probe",
                    "image": "registry.invalid/never-pulled",
                    "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}, "limits": {"memory": "1Mi"}},
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }


def metrics_of(scaler: Object) -> tuple[str, str]:
    """(what is missing, values): the state of a HorizontalPodAutoscaler's metrics, one of both empty."""
    active = condition_of(scaler, "ScalingActive")
    if active and active.get("status") == "False":
        return f"{active.get('reason', '')}: {active.get('message', '')}", ""
    current = {}
    for metric in (scaler.get("status") or {}).get("currentMetrics") or []:
        # An entry that has no value yet is there, but empty.
        kind = metric.get("type", "")
        source = metric.get(kind[:1].lower() + kind[1:]) or {}
        value = source.get("current") or {}
        number = value.get("averageUtilization", value.get("averageValue", value.get("value")))
        if number is not None:
            current[_metric_name(kind, source)] = number
    shown = []
    for metric in scaler["spec"].get("metrics") or []:
        kind = metric["type"]
        source = metric[kind[:1].lower() + kind[1:]]
        name = _metric_name(kind, source)
        target = source["target"]
        if name not in current:
            return f"no value of {name} yet", ""
        percent = "%" if "averageUtilization" in target else ""
        wanted = target.get("averageUtilization", target.get("averageValue", target.get("value")))
        shown.append(f"{name} {current[name]}{percent} of {wanted}{percent}")
    return ("", ", ".join(shown)) if shown else ("it has no metrics", "")


def _metric_name(kind: str, source: Object) -> str:
    return source.get("name") or (source.get("metric") or {}).get("name") or kind


def _scales(scaler: Object, ref: Object) -> bool:
    target = scaler["spec"]["scaleTargetRef"]
    place = scaler["metadata"]["namespace"]
    return (target["kind"], target["name"], place) == (ref["kind"], ref["name"], ref["namespace"])


def _denies_all(policy: Object) -> bool:
    spec = policy["spec"]
    selector = spec.get("podSelector") or {}
    return (
        not selector.get("matchLabels")
        and not selector.get("matchExpressions")
        and set(spec.get("policyTypes") or []) == {"Ingress", "Egress"}
        and not spec.get("ingress")
        and not spec.get("egress")
    )


def _selects(selector: Object, pod: Object) -> bool:
    """Whether a label selector (its matchLabels; the platform uses no others) selects the pod or pod template."""
    labels = pod["metadata"].get("labels") or {}
    wanted = selector.get("matchLabels") or {}
    return bool(wanted) and all(labels.get(key) == value for key, value in wanted.items())

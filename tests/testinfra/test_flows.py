"""The whole table of flows (platform_flows), tried between the pods that run: what it allows opens, and nothing else.

Every workload is found, not listed. A flow names some that run only now and then (Jobs, restores), and a namespace that
may be empty: stand-ins with their labels are made for those, and one without an app's label in each namespace.
"""

from __future__ import annotations

import ipaddress
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar

from .network import Pod, opened, pods
from .pods import NAMESPACES, ROOT, kubectl

init_plugin_loader([str(ROOT / "collections")])
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.flows import (  # noqa: E402
    KUBERNETES_API,
    Endpoint,
    Flow,
    parse_flows,
)
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.specifications import (  # noqa: E402
    read_roles,
)
from ansible_collections.lambda_microservice.platform.plugins.plugin_utils.variables.values import evaluate  # noqa: E402

pytestmark = pytest.mark.cluster

STAND_IN_PORT = 6379
STAND_IN_LABEL = "test.lambda-microservice-platform/stand-in"
TABLE = ROOT / "roles/platform/vars/main.yml"
DENIED = {*NAMESPACES, "node-agents"}
"""Where all is denied that no flow allows."""
ELSEWHERE = {"kube-state-metrics": {8082}, "alertmanager": {9094}}
"""Ports that nothing listens on here: of upstream's image, and of several Alertmanagers among themselves."""
LEARNED_SECONDS = 20
"""How long a new pod's address may be unknown to the policies, on a busy machine."""


@cache
def table() -> list[Flow]:
    """The platform's flows, with the roles' defaults: the local inventory names no other namespaces. What is off has no
    pods."""
    roles = read_roles()
    own = {name: value for role in roles for name, value in role.own.items()}

    def templated(variables: dict[str, Any], value: Any) -> Any:
        return Templar(loader=DataLoader(), variables=variables).template(value)

    defaults = {name: value for role in roles for name, value in role.defaults.items()}
    defaults["monitoring_grafana_enabled"] = False  # its image is in no registry of packages
    values, _ = evaluate(roles, {**defaults, **own, "ansible_playbook_python": sys.executable}, templated)
    return parse_flows(templated({**own, "__platform": values}, own["platform_flows"]))


def fits(end: Endpoint, pod: Pod) -> bool:
    """Whether the pod is this end of a flow."""
    if not end.namespace:
        if end.app == KUBERNETES_API:
            return False  # no pod of the platform
        return not end.app or ipaddress.ip_address(pod.address) in ipaddress.ip_network(end.app)
    return end.namespace == pod.namespace and end.app in ("*", pod.app)


def allowed(sender: Pod, receiver: Pod, port: int, inhabited: set[str]) -> bool:
    """Whether a connection is: both the sender's policies and the receiver's have to let it through. Pods of other
    namespaces than the platform's have none; a namespace that nothing runs in yet has only the denial of everything.
    """
    flows = [flow for flow in table() if port in flow.ports]
    sends = any(flow.sender.namespace and fits(flow.sender, sender) and fits(flow.receiver, receiver) for flow in flows)
    takes = any(
        flow.receiver.namespace and fits(flow.receiver, receiver) and fits(flow.sender, sender) for flow in flows
    )
    # kube-router, which enforces on the local cluster, takes what a policy lets in also for what it lets out between
    # two pods that it selects both: what the world may open, pods of one app may open to each other.
    sends = sends or (
        takes
        and (sender.namespace, sender.app) == (receiver.namespace, receiver.app)
        and any(not flow.sender.namespace and fits(flow.receiver, receiver) for flow in flows)
    )
    to_dns = port == 53 and (receiver.namespace, receiver.app) == ("kube-system", "kube-dns")
    sends, takes = sends and sender.namespace in inhabited, takes and receiver.namespace in inhabited
    return (sender.namespace not in DENIED or sends or to_dns) and (receiver.namespace not in DENIED or takes)


def stand_in(namespace: str, app: str, image: str) -> dict:
    """A pod that keeps the platform's rules and listens."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": f"stand-in-{app or 'stranger'}-",
            "namespace": namespace,
            "labels": {STAND_IN_LABEL: "true", **({"app.kubernetes.io/name": app} if app else {})},
        },
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "stand-in",
                    "image": image,
                    "command": ["redis-server", "--port", str(STAND_IN_PORT), "--save", "", "--protected-mode", "no"],
                    "workingDir": "/tmp",
                    "resources": {"requests": {"cpu": "1m", "memory": "8Mi"}, "limits": {"memory": "32Mi"}},
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }


@pytest.fixture(scope="module")
def inhabited() -> set[str]:
    """The namespaces where something of the platform runs."""
    return {pod.namespace for pod in pods() if not pod.name.startswith("stand-in-")}


@pytest.fixture(scope="module")
def everybody(inhabited: set[str]) -> Iterator[list[Pod]]:
    """Every pod of the cluster, and the stand-ins."""
    running = pods()
    ends = {end for flow in table() for end in (flow.sender, flow.receiver) if end.namespace and end.app != "*"}
    absent = {(end.namespace, end.app) for end in ends} - {(pod.namespace, pod.app) for pod in running}
    redis = kubectl("get", "pods", "-n", "data-services", "-l", "app.kubernetes.io/name=redis", "-o", "json")
    [image] = [c["image"] for c in json.loads(redis)["items"][0]["spec"]["containers"] if c["name"] == "redis"]
    made = [stand_in(*place, image) for place in [*sorted(absent), *((namespace, "") for namespace in NAMESPACES)]]
    try:
        given = json.dumps({"apiVersion": "v1", "kind": "List", "items": made})
        ran = subprocess.run(
            ["kubectl", "create", "-f", "-"], input=given, capture_output=True, text=True, timeout=60, check=False
        )
        assert ran.returncode == 0, ran.stderr
        kubectl("wait", "pods", "-A", "-l", STAND_IN_LABEL, "--for=condition=Ready", "--timeout=50s")
        yield pods()
    finally:
        for namespace in NAMESPACES:
            kubectl("delete", "pods", "-n", namespace, "-l", STAND_IN_LABEL, "--wait=false")


def test_what_the_table_allows_opens_and_nothing_else(everybody: list[Pod], inhabited: set[str]) -> None:
    by_target = {f"{pod.address}:{port}": (pod, port) for pod in everybody for port in pod.ports}
    pairs = {
        (sender, target): allowed(sender, receiver, port, inhabited)
        for sender in everybody
        for target, (receiver, port) in by_target.items()
        # What stays in the pod is not the network's, and what stays outside of the platform has no policies.
        if receiver != sender and {sender.namespace, receiver.namespace} & DENIED
    }
    wrong = set(pairs)
    ends = time.monotonic() + LEARNED_SECONDS
    while wrong and time.monotonic() < ends:
        tried = opened(wrong)
        wrong = {pair for pair in wrong if (pair in tried) != pairs[pair]}
    told = [
        f"{sender} to {by_target[target][0]}:{by_target[target][1]} "
        f"{'is blocked, and a flow allows it' if pairs[sender, target] else 'is open, and no flow allows it'}"
        for sender, target in wrong
    ]
    assert not told, f"{len(told)} of {len(pairs)} connections are wrong:\n" + "\n".join(sorted(told))
    # Both ways were tried, in every namespace of the platform.
    for namespace in NAMESPACES:
        assert any(sender.namespace == namespace and not good for (sender, _), good in pairs.items()), namespace
    assert sum(pairs.values()) > len(table())


def test_every_flow_is_used(everybody: list[Pod]) -> None:
    code = [
        path.read_text(encoding="utf-8", errors="replace")
        for folder in ("playbooks", "roles")
        for path in (ROOT / folder).rglob("*.*")
        if path.is_file() and path != TABLE and path.suffix != ".md"
    ]
    unused = []
    for flow in table():
        sender, receiver = flow.sender, flow.receiver
        row = " to ".join(f"{end.namespace}/{end.app}" if end.namespace else end.app or "world" for end in flow[:2])
        name = re.compile(rf"(?<![\w-]){re.escape(sender.app)}(?![\w-])")
        if sender.namespace and sender.app != "*" and not any(map(name.search, code)):
            unused.append(f"{row}: nothing is called {sender.app}")
        if receiver.namespace:
            listens = {port for pod in everybody if fits(receiver, pod) for port in pod.ports}
            wanted = set(flow.ports) - ELSEWHERE.get(receiver.app, set())
            unused += [f"{row}: nothing listens on {port}" for port in sorted(wanted - listens)]
    assert not unused, "flows that nobody uses:\n" + "\n".join(unused)

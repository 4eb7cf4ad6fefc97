# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps scripts apart, as each running runtime says itself, and what its node allows its pod.

A runtime is asked from inside of its pod: where the policies hold, the API server's proxy reaches no pod that denies by
default.
"""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import (
    all_or_error,
    concurrently,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.exec import run_in_pod
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.checks import (
    Doubtful,
    Found,
    Passed,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.cluster import is_ready

RUNTIMES_SPEC: Object = {
    "type": "dict",
    "options": {
        "namespace": {"type": "str", "required": True},
        "apps": {"type": "list", "elements": "str", "required": True},
        "metrics_port": {"type": "int", "default": 9090},
        "accepted": {"type": "list", "elements": "str", "default": []},
        "user_namespaces": {"type": "list", "elements": "str", "default": []},
    },
}

_APP = "app.kubernetes.io/name"
_ISOLATION = re.compile(r"lambda_runtime_isolation\{(?P<labels>[^}]*)\} (?P<value>[01])(?:\.0)?$", re.MULTILINE)
_PART = re.compile(r'(?:^|,)part="([^"]*)"')

# With what every base image has. HTTP/1.0, so that the answer's end is the connection's.
_READ = r"""
exec 3<>"/dev/tcp/127.0.0.1/$0" || exit 1
printf 'GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3
while IFS= read -r line <&3; do printf '%s\n' "$line"; done
"""

# Told, and no fault where they are not there: what Landlock's scoping of signals stops, seccomp stops too; a user
# namespace is the inventory's choice; limits hold with either version of cgroups.
_EXTRA = frozenset({"landlock_signals", "user_namespace", "cgroup_v2"})

SPARE_PROCESSES = 100
"""Of a pod, beside its scripts' threads: the supervisor's, those of interpreters that wait, and a probe's."""


def runtimes_isolation(cluster: Cluster, options: Object) -> Found:
    """Every part of the isolation is there in each runtime pod, and the user namespace where there should be one."""
    pods = _pods(cluster, options)
    shared = [
        pod["metadata"]["name"]
        for pod in pods
        if pod["metadata"]["labels"][_APP] in options["user_namespaces"] and pod["spec"].get("hostUsers") is not False
    ]
    if shared:
        raise PlatformError(
            "runtimes have no user namespace of their own",
            where=", ".join(f"Pod {options['namespace']}/{name}" for name in shared),
            found="hostUsers is not false: the API server dropped it",
            expected="hostUsers false, as runtimes_host_users is",
            fix="turn the feature gate UserNamespacesSupport on in API server and kubelets (it is by default from "
            "Kubernetes 1.33 on), or set runtimes_host_users to true",
            reason="isolation",
        )
    names = [pod["metadata"]["name"] for pod in pods]
    answers = all_or_error(
        "runtimes cannot be asked",
        concurrently(lambda name: _parts(cluster, options["namespace"], name, options["metrics_port"]), names),
    )
    parts_of: dict[str, dict[str, bool]] = dict(zip(names, answers, strict=True))
    missing = {
        name: [part for part, there in parts.items() if not there and part not in {*options["accepted"], *_EXTRA}]
        for name, parts in parts_of.items()
    }
    missing = {name: parts for name, parts in missing.items() if parts}
    if missing:
        raise PlatformError(
            "the isolation of scripts lacks something",
            where=", ".join(f"Pod {options['namespace']}/{name}" for name in missing),
            found="; ".join(f"{name} without {', '.join(parts)}" for name, parts in missing.items()),
            expected="seccomp and Landlock, which lambda_runtime_isolation has at 1",
            fix="give its node a kernel, or its RuntimeClass a sandbox, that has it (images/runtime/README.md says "
            "what each part is for); runtimes_require_landlock: false accepts to be without Landlock",
            reason="isolation",
        )
    silent = [name for name, parts in parts_of.items() if not parts]
    if silent:
        return Doubtful(
            f"{len(silent)} of {len(names)} runtimes do not say",
            f"Whether scripts are kept apart is unknown in {', '.join(silent)}: the image has no bash to ask with, or "
            "its runtime has no metric lambda_runtime_isolation.",
        )
    lacking = {part for parts in parts_of.values() for part, there in parts.items() if not there}
    accepted = sorted(lacking - _EXTRA)
    known = sorted({part for parts in parts_of.values() for part in parts} - lacking)
    if accepted:
        return Doubtful(
            f"without {', '.join(accepted)}, as accepted",
            f"Runtimes lack {', '.join(accepted)}, which the inventory accepts: what scripts can do without it is said "
            "in images/runtime/README.md.",
        )
    return Passed(f"{len(names)} pods have {', '.join(known)}")


def runtimes_process_ids(cluster: Cluster, options: Object) -> Found:
    """Each node bounds the processes and threads of a pod, and leaves a runtime as many as its scripts may have."""
    needed: dict[str, int] = {}
    for pod in _pods(cluster, options):
        node = pod["spec"]["nodeName"]
        needed[node] = max(needed.get(node, 0), _processes(pod))
    nodes = sorted(needed)
    answers = concurrently(
        lambda node: cluster.request("GET", f"/api/v1/nodes/{node}/proxy/configz")["kubeletconfig"], nodes
    )
    limits: dict[str, int] = {}
    for node, answer in zip(nodes, answers, strict=True):
        if isinstance(answer, PlatformError):
            return Doubtful(
                "a kubelet could not be asked",
                f"Whether nodes bound the processes of a pod is unknown: {answer.found or answer.what} (Node {node}). "
                "Reading a kubelet's configuration takes the right to get nodes/proxy.",
            )
        limits[node] = int(answer.get("podPidsLimit") or -1)
    small = {node: limit for node, limit in limits.items() if 0 < limit < needed[node]}
    if small:
        raise PlatformError(
            "nodes give a runtime's pod fewer processes and threads than its scripts may have",
            where=", ".join(f"Node {node}" for node in small),
            found="; ".join(f"podPidsLimit {limit} on {node}" for node, limit in small.items()),
            expected=f"at least {max(needed[node] for node in small)}: scripts at once times their threads, and "
            f"{SPARE_PROCESSES}",
            fix="raise podPidsLimit in the nodes' kubelet configuration, or lower runtimes_concurrency or "
            "runtimes_script_threads",
            reason="processes",
        )
    unbounded = [node for node, limit in limits.items() if limit <= 0]
    if unbounded:
        return Doubtful(
            f"{len(unbounded)} of {len(nodes)} nodes have no podPidsLimit",
            f"A pod may take all process ids of its node ({', '.join(unbounded)}): set podPidsLimit in the kubelet's "
            "configuration (roles/runtimes/README.md says where on EKS and GKE).",
        )
    return Passed(
        f"{len(nodes)} nodes allow a pod {min(limits.values())}, and its scripts need {max(needed.values())} at most"
    )


def _pods(cluster: Cluster, options: Object) -> list[Object]:
    """The runtimes' ready pods."""
    pods = [
        pod
        for pod in cluster.list("v1", "Pod", options["namespace"])
        if (pod["metadata"].get("labels") or {}).get(_APP) in options["apps"] and is_ready(pod)
    ]
    missing = set(options["apps"]) - {pod["metadata"]["labels"][_APP] for pod in pods}
    if missing:
        raise PlatformError(
            "a runtime has no ready pod",
            where=f"namespace {options['namespace']}",
            found=f"no pod of {', '.join(sorted(missing))} that is ready",
            expected="a pod of each language to look at",
            fix=f"see why: kubectl -n {options['namespace']} describe pods -l {_APP}={min(missing)}",
            reason="missing",
        )
    return pods


def _parts(cluster: Cluster, namespace: str, pod: str, port: int) -> dict[str, bool]:
    """Each part of the isolation, and whether it is there; nothing where the pod does not say."""
    ran = run_in_pod(cluster, namespace, pod, ["bash", "-c", _READ, str(port)], container="runtime")
    return parts_of(ran.stdout)


def parts_of(metrics: str) -> dict[str, bool]:
    """Out of OpenMetrics text."""
    found = {}
    for sample in _ISOLATION.finditer(metrics.replace("\r", "")):
        part = _PART.search(sample["labels"])
        if part:
            found[part[1]] = sample["value"] == "1"
    return found


def _processes(pod: Object) -> int:
    """How many processes and threads a runtime's pod may come to; 0 where its settings do not say."""
    env: dict[str, Any] = {entry["name"]: entry.get("value") for entry in pod["spec"]["containers"][0].get("env") or []}
    try:
        return int(env["MAX_CONCURRENCY"]) * int(env["THREADS_LIMIT"]) + SPARE_PROCESSES
    except (KeyError, TypeError, ValueError):
        return 0

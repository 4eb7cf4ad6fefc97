# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SIGKILL for the processes of a pod's containers, from a pod beside it that sees the node's processes.

The first process of a container cannot be killed from inside: the kernel protects it from its own PID namespace
(pid_namespaces(7)). A pod with ``hostPID`` is in the node's, on any cluster whose admission allows one.
"""

from __future__ import annotations

import contextlib
import time

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.exec import run_in_pod
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.cluster import is_ready

NAME = "drill-kill"
# Pod Security `restricted` of the platform's own namespaces refuses hostPID.
NAMESPACE = "kube-system"

_START_SECONDS = 60.0
# A container's id is in the name of its processes' cgroup, with every driver and version of cgroups.
_KILL = """\
pids=$(grep -l "$@" /proc/[0-9]*/cgroup 2>/dev/null | cut -d / -f 3)
echo $pids
[ -z "$pids" ] || kill -9 $pids 2>/dev/null
true
"""


class Killer:
    """The pod that kills; there is one at a time, on the node that ``start`` names."""

    def __init__(self, cluster: Cluster, image: str, field_manager: str) -> None:
        self.cluster = cluster
        self.image = image
        self.field_manager = field_manager
        self.node = ""

    @property
    def _ref(self) -> Object:
        return {"apiVersion": "v1", "kind": "Pod", "name": NAME, "namespace": NAMESPACE}

    def start(self, node: str) -> None:
        """Wait until it runs on the node; nothing to do where it does already."""
        if node == self.node:
            return
        if not self.image:
            raise PlatformError(
                "a pod cannot be killed without an image",
                where="generator_image",
                found="nothing",
                expected="the image that playbooks/drill.yml builds",
                fix="run playbooks/drill.yml",
                reason="generator",
            )
        self._delete()  # one that a killed drill left, or of another node
        self.node = node
        self.cluster.apply_many([killing_pod(self.image, node)], self.field_manager)
        deadline = time.monotonic() + _START_SECONDS
        while not is_ready(pod := self.cluster.get(self._ref) or {}):
            if time.monotonic() > deadline:
                states = [status.get("state") for status in (pod.get("status") or {}).get("containerStatuses") or []]
                raise PlatformError(
                    "the pod that kills did not start",
                    where=f"Pod {NAMESPACE}/{NAME} on {node}",
                    found=str(states or "nothing"),
                    expected="a running pod",
                    fix=f"see kubectl -n {NAMESPACE} describe pod {NAME}",
                    reason="kill",
                )
            time.sleep(0.25)

    def kill(self, pod: Object, container: str = "") -> None:
        """Kill every process of the pod's containers, or of the one named."""
        ids = container_ids(pod, container)
        arguments = [part for found in ids for part in ("-e", found)]
        ran = run_in_pod(self.cluster, NAMESPACE, NAME, ["sh", "-c", _KILL, "sh", *arguments]) if ids else None
        if ran is None or not ran.stdout.strip():
            raise PlatformError(
                "there was no process to kill",
                where=f"Pod {pod['metadata']['namespace']}/{pod['metadata']['name']} on {self.node}",
                found="no container that runs"
                if ran is None
                else ran.stderr.strip() or "no process in its containers' cgroups",
                expected="the processes of its containers",
                fix="run the drill again; nodes that hide them (gVisor, Kata) need another way",
                reason="kill",
            )

    def remove(self) -> None:
        """Take it away; nothing to do where it was never started."""
        if self.node:
            self._delete()
        self.node = ""

    def _delete(self) -> None:
        self.cluster.delete(self._ref)
        deadline = time.monotonic() + _START_SECONDS
        while self.cluster.get(self._ref) is not None and time.monotonic() < deadline:
            time.sleep(0.25)


def container_ids(pod: Object, container: str = "") -> list[str]:
    """The ids of the pod's running containers, without the runtime's name (containerd://ID)."""
    found = []
    for status in (pod.get("status") or {}).get("containerStatuses") or []:
        if container in ("", status.get("name")) and "running" in (status.get("state") or {}):
            with contextlib.suppress(KeyError):
                found.append(status["containerID"].rpartition("/")[2])
    return found


def killing_pod(image: str, node: str) -> Object:
    """It may see and kill the node's processes, and nothing else."""
    labels = {"app.kubernetes.io/name": NAME, "app.kubernetes.io/part-of": "lambda-microservice-platform"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "nodeName": node,
            "hostPID": True,
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 0,
            # Where nobody is left to remove it.
            "activeDeadlineSeconds": 1800,
            "tolerations": [{"operator": "Exists"}],
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "kill",
                    "image": image,
                    "command": ["sleep", "1800"],
                    "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
                    "securityContext": {
                        "runAsUser": 0,
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        # Other users' processes.
                        "capabilities": {"drop": ["ALL"], "add": ["KILL"]},
                    },
                }
            ],
        },
    }

# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The failures that a drill brings about, each with the way back.

A failure is made in three steps: ``aim`` finds what it will hit, ``strike`` brings it about, ``heal`` undoes what does
not heal by itself. ``heal`` may be called at any time, also twice, and after a strike that ended half-way.
"""

from __future__ import annotations

import datetime
import http.client
import json
import os
import socket
import time
from collections.abc import Callable
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import concurrently
from ansible_collections.lambda_microservice.platform.plugins.module_utils.drill.kill import Killer
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.exec import run_in_pod
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
from ansible_collections.lambda_microservice.platform.plugins.module_utils.programs import Programs
from ansible_collections.lambda_microservice.platform.plugins.module_utils.verify.cluster import is_ready

FIELD_MANAGER = "lambda-microservice-platform-drill"
ZONE = "topology.kubernetes.io/zone"
HOSTNAME = "kubernetes.io/hostname"

_EVICT_AGAIN_SECONDS = 1.0
_DRAIN_SECONDS = 300.0


class Failure:
    """Base of the failures. ``nodes`` are those that it takes away; ``victims`` say what was hit, in words."""

    def __init__(self, cluster: Cluster, spec: Object, targets: Object, progress: Callable[[str], None]) -> None:
        self.cluster = cluster
        self.spec = spec
        self.targets = targets
        self.progress = progress
        self.nodes: list[str] = []
        self.containers: dict[str, str] = {}
        self.victims: list[str] = []

    def aim(self) -> None:
        """Choose what to hit, just before the load starts."""

    def strike(self) -> None:
        """Bring the failure about. What it hits may have moved since ``aim``."""
        raise NotImplementedError

    def heal(self) -> None:
        """Undo what does not heal by itself."""

    def _pods(self, name: str) -> list[Object]:
        """The ready pods that a target names, oldest first. At least one, or an error."""
        target = self.targets[name]
        namespace = target["namespace"]
        ready = [pod for pod in self.cluster.list("v1", "Pod", namespace, target["selector"]) if is_ready(pod)]
        ready.sort(key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))
        chosen = ready
        if target.get("command"):
            answers = concurrently(
                lambda pod: run_in_pod(
                    self.cluster,
                    namespace,
                    pod["metadata"]["name"],
                    target["command"],
                    container=target.get("container"),
                ),
                ready,
            )
            chosen = [
                pod
                for pod, answer in zip(ready, answers, strict=True)
                if not isinstance(answer, PlatformError) and answer.stdout.strip() == target["prints"]
            ]
        if not chosen:
            raise PlatformError(
                f"there is no pod to hit for {name}",
                where=f"namespace {namespace}",
                found=f"{len(ready)} ready pods with the labels {target['selector']}",
                expected=f"one whose {' '.join(target['command'])} prints {target['prints']}"
                if target.get("command")
                else "one at least",
                fix="deploy the platform and wait until it is healthy (playbooks/verify.yml)",
                reason="target",
            )
        return chosen


def _named(pod: Object) -> str:
    return f"{pod['metadata']['name']} on {pod['spec'].get('nodeName', '')}"


class PodFailure(Failure):
    """One pod, the first of the target. The load keeps away from its node, as a node's failure would."""

    def aim(self) -> None:
        self.nodes = [self._pods(self.spec["target"])[0]["spec"]["nodeName"]]

    def _pod(self) -> Object:
        pod = self._pods(self.spec["target"])[0]
        self.victims = [_named(pod)]
        return pod


class KillPod(PodFailure):
    """The processes of its containers get SIGKILL: nothing in them hands over, and kubelet starts them again."""

    def __init__(self, cluster: Cluster, spec: Object, targets: Object, progress: Callable[[str], None]) -> None:
        super().__init__(cluster, spec, targets, progress)
        self.killer = Killer(cluster, spec.get("image") or "", FIELD_MANAGER)

    def aim(self) -> None:
        super().aim()
        self.killer.start(*self.nodes)

    def strike(self) -> None:
        pod = self._pod()
        self.killer.start(pod["spec"]["nodeName"])
        self.killer.kill(pod, self.targets[self.spec["target"]].get("container") or "")

    def heal(self) -> None:
        self.killer.remove()


class DeletePod(PodFailure):
    """The pod is deleted as any update does, with its grace period and hooks."""

    def strike(self) -> None:
        pod = self._pod()
        self.cluster.delete(pod, uid=pod["metadata"]["uid"])


class RunInPod(PodFailure):
    """A command in the pod, such as a planned switchover."""

    def strike(self) -> None:
        pod = self._pod()
        command = [part.replace("{pod}", pod["metadata"]["name"]) for part in self.spec["command"]]
        ran = run_in_pod(
            self.cluster,
            pod["metadata"]["namespace"],
            pod["metadata"]["name"],
            command,
            container=self.spec.get("container"),
            timeout_seconds=60,
        )
        if ran.code:
            raise PlatformError(
                "the command of the failure did not succeed",
                where=f"Pod {pod['metadata']['namespace']}/{pod['metadata']['name']}: {' '.join(command)}",
                found=f"exit code {ran.code}: {(ran.stderr or ran.stdout).strip()[-400:]}",
                expected="exit code 0",
                fix="run the command by hand and see why",
                reason="command",
            )


class StopNodes(Failure):
    """Nodes are cut off at once, as by a loss of power: kind's node containers are killed, and started again to heal.
    The nodes are that of the target's pod, or with ``zone`` all of its zone.
    """

    def aim(self) -> None:
        self.nodes = self._choose()
        self.containers = self._containers()

    def _choose(self) -> list[str]:
        pod = self._pods(self.spec["target"])[0]
        node = pod["spec"]["nodeName"]
        self.victims = [node]
        if not self.spec.get("zone"):
            return [node]
        nodes = self.cluster.list("v1", "Node")
        zones = {entry["metadata"]["name"]: (entry["metadata"].get("labels") or {}).get(ZONE) for entry in nodes}
        zone = zones.get(node)
        if not zone:
            raise PlatformError(
                "a node belongs to no zone",
                where=f"Node {node}",
                found=f"no label {ZONE}",
                expected="the zone's name",
                fix="label the nodes with their zones",
                reason="zones",
            )
        self.victims = sorted(name for name, other in zones.items() if other == zone)
        return self.victims

    def strike(self) -> None:
        # Whoever has the role now: it may have moved since. A load that has to stay away from it is on neither node.
        chosen = self._choose()
        if set(chosen) - set(self.nodes):
            raise PlatformError(
                "what the drill is to hit moved while the load started",
                where=self.spec["target"],
                found=", ".join(chosen),
                expected=", ".join(self.nodes),
                fix="run the drill again",
                reason="moved",
            )
        for container in self.containers.values():
            docker_engine("POST", f"/containers/{container}/kill")

    def heal(self) -> None:
        """Start each node that does not run. One that cannot be started does not keep the others down."""
        errors = [error for error in map(self._start, self.containers.items()) if error]
        if errors:
            raise PlatformError.of_many("%d of %d nodes are still down" % (len(errors), len(self.containers)), errors)

    def _start(self, item: tuple[str, str]) -> PlatformError | None:
        node, container = item
        try:
            if not docker_engine("GET", f"/containers/{container}/json")["State"]["Running"]:
                docker_engine("POST", f"/containers/{container}/start")
        except PlatformError as error:
            error.where = f"Node {node}, {error.where}"
            error.fix = f"docker start {node}"
            return error
        return None

    def _containers(self) -> dict[str, str]:
        """The id of each node's container. Any other container of that name is left alone: it may be a node of another
        cluster, or none.
        """
        found = {}
        live = {node["metadata"]["name"]: node for node in self.cluster.list("v1", "Node")}
        for name in self.nodes:
            node = live.get(name) or {}
            provider = (node.get("spec") or {}).get("providerID") or ""
            # kind writes kind://docker/CLUSTER/NODE.
            kind, _separator, path = provider.partition("://")
            cluster = path.split("/")[1] if kind == "kind" and path.count("/") == 2 else ""
            container = docker_engine("GET", f"/containers/{name}/json")
            label = ((container.get("Config") or {}).get("Labels") or {}).get("io.x-k8s.kind.cluster") or ""
            networks = ((container.get("NetworkSettings") or {}).get("Networks") or {}).values()
            here = {network.get(key) or "" for network in networks for key in ("IPAddress", "GlobalIPv6Address")} - {""}
            there = {
                entry["address"]
                for entry in (node.get("status") or {}).get("addresses") or []
                if entry["type"] == "InternalIP"
            }
            if not cluster or cluster != label or not there & here:
                raise PlatformError(
                    "a node is no container of this cluster on this machine",
                    where=f"Node {name}, the container {name}",
                    found=f"the node is {provider or 'of no provider'} at {', '.join(sorted(there)) or 'no address'}; "
                    f"the container belongs to {'the kind cluster ' + label if label else 'no kind cluster'} and is "
                    f"at {', '.join(sorted(here)) or 'no address'}",
                    expected="a node of a kind cluster on this machine",
                    fix="leave out the drills that stop nodes (--skip-tags nodes)",
                    reason="docker",
                )
            found[name] = container["Id"]
        return found


class DrainNode(Failure):
    """A node is cordoned and its pods are evicted, as far as their disruption budgets allow; DaemonSets' and static
    pods stay, as with kubectl drain.
    """

    _cordoned = False

    def aim(self) -> None:
        self.nodes = [self._pods(self.spec["target"])[0]["spec"]["nodeName"]]
        self.victims = list(self.nodes)

    def strike(self) -> None:
        (node,) = self.nodes
        self._cordon(True)
        pods = [pod for pod in self.cluster.list("v1", "Pod", field_selector=f"spec.nodeName={node}") if evictable(pod)]
        deadline = time.monotonic() + _DRAIN_SECONDS
        refused = 0
        waiting = {pod["metadata"]["uid"]: pod for pod in pods}
        evicted: set[str] = set()
        while waiting:
            for uid, pod in list(waiting.items()):
                if uid not in evicted:
                    if self._evict(pod):
                        evicted.add(uid)
                    else:
                        refused += 1
            there = {
                pod["metadata"]["uid"] for pod in self.cluster.list("v1", "Pod", field_selector=f"spec.nodeName={node}")
            }
            waiting = {uid: pod for uid, pod in waiting.items() if uid in there}
            if waiting and time.monotonic() > deadline:
                names = ", ".join(sorted(pod["metadata"]["name"] for pod in waiting.values()))
                raise PlatformError(
                    "a node could not be drained",
                    where=f"Node {node}",
                    found=f"after {_DRAIN_SECONDS:g} s there were still {names}",
                    expected="every pod evicted",
                    fix="see the disruption budgets (kubectl get pdb -A) and the pods that end slowly",
                    reason="drain",
                )
            if waiting:
                time.sleep(_EVICT_AGAIN_SECONDS)
        self.progress(f"{len(pods)} pods evicted from {node}; disruption budgets said {refused} times to wait")

    def heal(self) -> None:
        if self._cordoned:
            self._cordon(False)

    def _cordon(self, cordoned: bool) -> None:
        self._cordoned = cordoned
        for node in self.nodes:
            ref = {"apiVersion": "v1", "kind": "Node", "name": node}
            self.cluster.patch(ref, {"spec": {"unschedulable": True if cordoned else None}}, FIELD_MANAGER)

    def _evict(self, pod: Object) -> bool:
        """False where a disruption budget does not allow it now."""
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod["metadata"]["name"], "namespace": pod["metadata"]["namespace"]},
            "deleteOptions": {"preconditions": {"uid": pod["metadata"]["uid"]}},
        }
        try:
            self.cluster.request("POST", self.cluster.path(pod) + "/eviction", body=eviction, about=pod)
        except PlatformError as error:
            if error.details.get("status") == 429:
                return False
            if error.details.get("status") in (404, 409):
                return True  # gone, or another pod of that name
            raise
        return True


def evictable(pod: Object) -> bool:
    """Whether a drain evicts the pod: not a DaemonSet's, not a static one, not one that has ended."""
    metadata = pod["metadata"]
    if "kubernetes.io/config.mirror" in (metadata.get("annotations") or {}):
        return False
    if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return False
    return all(owner.get("kind") != "DaemonSet" for owner in metadata.get("ownerReferences") or [])


class Restart(Failure):
    """Rolling restarts of workloads, one after the other, as kubectl rollout restart makes them."""

    def strike(self) -> None:
        # Here, because rollout imports what the modules for one object do not need.
        from ansible_collections.lambda_microservice.platform.plugins.module_utils.rollout.rollout import Rollout

        for workload in self.spec["workloads"]:
            ref = {"apiVersion": "apps/v1", **workload}
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            annotations = {"kubectl.kubernetes.io/restartedAt": now}
            self.cluster.patch(ref, {"spec": {"template": {"metadata": {"annotations": annotations}}}}, FIELD_MANAGER)
            Rollout(
                self.cluster,
                {"workloads": [workload], "timeout_seconds": 600, "max_restarts": 3, "log_lines": 20},
                self.progress,
            ).run()
            self.victims.append(f"{workload['kind']} {workload['namespace']}/{workload['name']}")


class RunHere(Failure):
    """A program on this machine that changes what runs, such as a playbook."""

    def strike(self) -> None:
        command = self.spec["command"]
        # Without the input of a task: Ansible, for one, refuses what it inherits.
        with Programs() as programs:
            ran = programs.run(command, timeout_seconds=1800)
        if ran.returncode:
            raise PlatformError(
                "the command of the failure did not succeed",
                where=" ".join(command),
                found=f"exit code {ran.returncode}: {(ran.stderr.strip() or ran.stdout.strip())[-1500:]}",
                expected="exit code 0",
                fix="run the command by hand and see why",
                reason="command",
            )
        self.victims.append(command[0])


KINDS: dict[str, type[Failure]] = {
    "kill_pod": KillPod,
    "delete_pod": DeletePod,
    "run_here": RunHere,
    "run_in_pod": RunInPod,
    "stop_nodes": StopNodes,
    "drain_node": DrainNode,
    "restart": Restart,
}


# --- Docker ----------------------------------------------------------------------------------------------------------


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a socket file."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def docker_engine(method: str, path: str) -> Any:
    """Ask Docker on this machine (https://docs.docker.com/reference/api/engine/); its answer, None where it has no
    content. Nodes elsewhere are never stopped.
    """
    address = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    scheme, _separator, file = address.partition("://")
    if scheme != "unix":
        raise PlatformError(
            "nodes can be stopped on this machine alone",
            where="DOCKER_HOST",
            found=address,
            expected="unix://FILE",
            fix="unset DOCKER_HOST, or leave out the drills that stop nodes",
            reason="docker",
        )
    connection = _UnixConnection(file)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as failure:
        raise PlatformError(
            "Docker does not answer",
            where=file,
            found=str(failure),
            expected="Docker, which runs the nodes of the local cluster",
            fix="start it (playbooks/cluster.yml), or leave out the drills that stop nodes (--skip-tags nodes)",
            reason="docker",
        ) from failure
    finally:
        connection.close()
    if response.status >= 400:
        raise PlatformError(
            "Docker refused it",
            where=f"{method} {path}",
            found=f"{response.status} {body.decode('utf-8', 'replace').strip()[:300]}",
            expected="a node of a kind cluster on this machine",
            fix="leave out the drills that stop nodes (--skip-tags nodes)",
            reason="docker",
        )
    return json.loads(body) if body.strip() else None

# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a workload does not come: what its pods, claims and events say, and whether waiting longer can help."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.workloads import (
    BALANCED,
    condition_of,
)

IMAGE = "image"
CONFIG = "config"
CRASH = "crash"
CREATE = "create"
MOUNT = "mount"
UNSCHEDULABLE = "unschedulable"
DEADLINE = "deadline"
GONE = "missing"
JOB = "job"
BALANCER = "balancer"
UNREADY = "unready"
STARTING = "starting"

GRACE_SECONDS: dict[str, float] = {
    JOB: 0,
    IMAGE: 20,
    CONFIG: 20,
    CRASH: 5,
    CREATE: 20,
    DEADLINE: 20,
    GONE: 30,
    MOUNT: 60,
    UNSCHEDULABLE: 90,
    BALANCER: 180,
}
"""How long each kind of trouble must last, without a pause, before it counts as hopeless. Kinds that are not listed may
pass at any time, and only the whole timeout ends the wait for them.

The seconds leave room for what heals by itself: a registry's hiccup (the kubelet tries again after 10 s), a Secret that
another task is writing, a quota that ending pods still hold, a volume that is being attached, a load balancer that a
cloud is slow to make.
"""

FIXES = {
    IMAGE: "check the image's name, tag and registry, and that the nodes may pull it (imagePullSecrets)",
    CONFIG: "create the ConfigMap, Secret or key that the message names, or correct the container's settings",
    CRASH: "read the container's log, then correct the program's configuration or what it depends on",
    CREATE: "do what the refusal asks: raise the quota, meet the Pod Security level or admission policy, or create "
    "what is missing",
    MOUNT: "create what the volume needs (ConfigMap, Secret, claim), or check the storage driver",
    UNSCHEDULABLE: "add nodes, or lower requests, or correct node selectors, affinity, taints or the volume's zone",
    DEADLINE: "see the pods' states above",
    GONE: "check the name and namespace, and that the task that creates it has run",
    BALANCER: "do what the controller's message asks (its rights, subnets, certificates, the cloud's quotas); where it "
    "says nothing, see whether it runs: without one the Service's type is NodePort or ClusterIP",
    JOB: "read the container's log, correct the cause, delete the Job and run again",
    UNREADY: "see why the probe fails: the container's log and the probe's path, port and delay",
    STARTING: "wait longer (timeout_seconds), or see the events above",
}

_IMAGE_REASONS = {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError"}
_IMAGE_REASONS |= {"RegistryUnavailable", "SignatureValidationFailed"}
_CONFIG_REASONS = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
_MOUNT_EVENTS = {"FailedMount", "FailedAttachVolume", "FailedMapVolume", "FailedCreatePodSandBox"}
# Cluster Autoscaler and Karpenter say with these that a node is on its way.
_NODE_IS_COMING = {"TriggeredScaleUp", "Nominated"}


# What a registry, the kubelet and the API server say (containerd's resolver and fetcher, k8s.io/kubernetes/pkg/kubelet/
# images, k8s.io/apiserver's webhooks) of causes that pass by themselves, and of those that last.
_PASSES = re.compile(
    r"pull QPS exceeded|toomanyrequests|registry is unavailable|status(?: code)?:? (429|5\d\d)\b"
    r"|\b(429|5\d\d) (Too Many|Internal|Bad Gateway|Service|Gateway)"
    r"|i/o timeout|TLS handshake timeout|Client\.Timeout|deadline exceeded"
    r"|connection re(?:set|fused)|unexpected EOF|server misbehaving|temporary failure|no endpoints available",
    re.IGNORECASE,
)
_LASTS = re.compile(
    r"not found|(?:manifest|name|blob) unknown|unauthorized|denied|forbidden|no basic auth|insufficient_scope"
    r"|\b40[0134]\b|no match for platform",
    re.IGNORECASE,
)
_NAMES = re.compile(r'\\?"[^"]*"|https?://\S+')


@dataclass(frozen=True)
class Trouble:
    """One reason why a workload is not there yet. ``log`` is whose log explains it: ``current``, ``previous`` or
    none."""

    kind: str
    reason: str
    message: str = ""
    pod: str = ""
    container: str = ""
    restarts: int = 0
    last_state: str = ""
    log: str = ""
    node_is_coming: bool = False

    @property
    def identity(self) -> tuple[str, str, str]:
        """What stays the same from look to look while the trouble lasts. The reason does not: a container whose image
        cannot be pulled is in turn in ErrImagePull and ImagePullBackOff.
        """
        return self.kind, self.pod, self.container

    @property
    def hopeless_after(self) -> float | None:
        """Seconds after which waiting is over; None for never."""
        if self.reason == "InvalidImageName":
            # Not a state of the registry: the name cannot be parsed.
            return 0
        if self.kind == UNSCHEDULABLE and self.node_is_coming:
            return None
        return GRACE_SECONDS.get(self.kind)

    @property
    def passes(self) -> bool | None:
        """Whether its cause passes by itself, however long that takes: a registry that is busy or away, an admission
        webhook whose pods start. None where the message names no cause: half of the time it only says "Back-off".
        """
        if self.kind not in (IMAGE, CONFIG, CREATE):
            return False
        # An image's name proves nothing.
        said = _NAMES.sub("", self.message)
        if self.kind == IMAGE and _LASTS.search(said):
            return False
        if self.reason == "RegistryUnavailable" or _PASSES.search(said):
            return True
        return None if self.kind == IMAGE and said.strip() in ("", "Back-off pulling image") else False

    def brief(self) -> str:
        """For a person who sees the pod's name beside it."""
        return self.reason + (f", {self.message}" if self.message else "")

    def text(self) -> str:
        """For a person."""
        where = f"container {self.container}: " if self.container else ""
        return f"{where}{self.reason}" + (f": {self.message}" if self.message else "")


def selected(workload: Object, pods: Iterable[Object], replica_sets: Iterable[Object]) -> list[Object]:
    """The pods that the workload's rollout is about: of a Deployment those of its newest ReplicaSet, of others all."""
    owners = {workload["metadata"].get("uid")}
    if workload["kind"] == "Deployment":
        newest = newest_replica_set(workload, replica_sets)
        owners = {newest["metadata"]["uid"]} if newest else set()
    return [pod for pod in pods if owners & _owner_uids(pod) and not pod["metadata"].get("deletionTimestamp")]


def newest_replica_set(deployment: Object, replica_sets: Iterable[Object]) -> Object | None:
    """The ReplicaSet of the Deployment's newest revision."""
    revision = "deployment.kubernetes.io/revision"
    wanted = (deployment["metadata"].get("annotations") or {}).get(revision)
    for replica_set in replica_sets:
        annotations = replica_set["metadata"].get("annotations") or {}
        if deployment["metadata"].get("uid") in _owner_uids(replica_set) and annotations.get(revision) == wanted:
            return replica_set
    return None


def _owner_uids(obj: Object) -> set[str]:
    return {owner["uid"] for owner in obj["metadata"].get("ownerReferences") or []}


def workload_troubles(workload: Object, events: list[Object], replica_set: Object | None = None) -> list[Trouble]:
    """What is wrong before there are pods: their creation is refused, or a load balancer's."""
    if workload["kind"] in BALANCED:
        # What happened last: a warning of an earlier try stays for an hour.
        last = events_of(workload, events)[-1:]
        warned = [event for event in last if event.get("type") == "Warning"]
        return [Trouble(BALANCER, event.get("reason", ""), event.get("message", "")) for event in warned]
    refused = condition_of(workload, "ReplicaFailure")
    if refused and refused.get("status") == "True":
        return [Trouble(CREATE, refused.get("reason") or "FailedCreate", refused.get("message", ""))]
    for owner in (replica_set, workload):
        if owner is None:
            continue
        # StatefulSets, DaemonSets and Jobs have no condition for it. Of the events only the newest about creation tells
        # whether the refusal lasts: older ones stay for an hour.
        creations = ("FailedCreate", "SuccessfulCreate")
        about = [event for event in events_of(owner, events) if event.get("reason") in creations]
        if about and about[-1]["reason"] == "FailedCreate" and _lacks_pods(owner):
            return [Trouble(CREATE, "FailedCreate", about[-1].get("message", ""))]
    return []


def _lacks_pods(owner: Object) -> bool:
    spec, status = owner.get("spec") or {}, owner.get("status") or {}
    if owner["kind"] == "DaemonSet":
        return status.get("currentNumberScheduled", 0) < status.get("desiredNumberScheduled", 0)
    if owner["kind"] == "Job":
        return not status.get("active") and not status.get("succeeded")
    return status.get("replicas", 0) < spec.get("replicas", 1)


def pod_troubles(pod: Object, events: list[Object], max_restarts: int, claims: Iterable[Object] = ()) -> list[Trouble]:
    """What keeps this pod from being ready, its init containers first; empty if nothing does."""
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    about = events_of(pod, events)
    scheduled = condition_of(pod, "PodScheduled")
    if scheduled and scheduled.get("status") == "False":
        coming = any(event.get("reason") in _NODE_IS_COMING for event in about)
        message = scheduled.get("message", "")
        for claim, why in _pending_claims(pod, claims, events):
            message += f"; PersistentVolumeClaim {claim} is pending" + (f": {why}" if why else "")
        return [
            Trouble(UNSCHEDULABLE, scheduled.get("reason") or "Unschedulable", message, pod=name, node_is_coming=coming)
        ]
    if status.get("phase") == "Succeeded":
        return []
    if status.get("phase") == "Failed" and status.get("reason"):
        # Evicted, NodeLost, OutOfcpu: the controller makes another pod.
        return [Trouble(STARTING, status["reason"], status.get("message", ""), pod=name)]

    troubles = []
    policy = (pod.get("spec") or {}).get("restartPolicy", "Always")
    containers = [(container, True) for container in status.get("initContainerStatuses") or []]
    containers += [(container, False) for container in status.get("containerStatuses") or []]
    for container, is_init in containers:
        restarted = policy == "Always" and not is_init
        # A failed init container is tried again unless the pod is to end with it.
        stays = restarted or (
            policy != "Never" and (container.get("state") or {}).get("terminated", {}).get("exitCode")
        )
        trouble = _container_trouble(name, container, about, max_restarts, bool(stays))
        if trouble and is_init and trouble.reason in ("not ready", "not started"):
            trouble = replace(trouble, kind=STARTING, reason="init container is running", log="current")
        if trouble:
            troubles.append(trouble)
    if not troubles and not containers:
        troubles.append(_starting(name, "", about, status.get("phase") or "Pending"))
    return troubles


def _container_trouble(
    pod: str, container: Object, about: list[Object], max_restarts: int, stays: bool
) -> Trouble | None:
    """What is wrong with one container; ``stays`` says that it is restarted whenever it ends."""
    state, restarts = container.get("state") or {}, container.get("restartCount", 0)
    known = {"pod": pod, "container": container["name"], "restarts": restarts}
    waiting, terminated = state.get("waiting"), state.get("terminated")
    last = last_state(container)
    if waiting:
        reason, message = waiting.get("reason") or "Waiting", waiting.get("message") or ""
        if reason in _IMAGE_REASONS:
            return Trouble(IMAGE, reason, _pull_error(container, about) or message, **known)
        if reason in _CONFIG_REASONS:
            return Trouble(CONFIG, reason, message, **known, last_state=last)
        if reason == "CrashLoopBackOff":
            kind = CRASH if restarts >= max_restarts else UNREADY
            return Trouble(kind, reason, f"restarted {restarts} times", **known, last_state=last, log="previous")
        return _starting(pod, container["name"], about, reason)
    if terminated:
        if terminated.get("exitCode") == 0 and not stays:
            return None
        # Newer kubelets show the pause before a restart as this, older ones as CrashLoopBackOff.
        kind = CRASH if stays and restarts >= max_restarts else UNREADY
        return Trouble(kind, "ended", last, **known, last_state=last if restarts else "", log="current")
    if state.get("running") is not None and not container.get("ready", False) and container.get("started") is not None:
        probes = [event for event in about if event.get("reason") == "Unhealthy" and _names(event, container["name"])]
        message = probes[-1].get("message", "") if probes else ""
        reason = "not ready" if container.get("started") else "not started"
        return Trouble(UNREADY, reason, message, **known, last_state=last, log="current")
    return None


def _starting(pod: str, container: str, about: list[Object], reason: str) -> Trouble:
    """A container that is being made: what the events add to the bare reason."""
    for event in reversed(about):
        if event.get("reason") in _MOUNT_EVENTS:
            return Trouble(MOUNT, event["reason"], event.get("message", ""), pod=pod, container=container)
        if event.get("reason") == "Pulling":
            # 'Pulling image "registry/name:tag"'
            message = event.get("message", "")
            return Trouble(STARTING, reason, message[:1].lower() + message[1:], pod=pod, container=container)
        if event.get("reason") in ("Pulled", "Created", "Started"):
            break
    return Trouble(STARTING, reason, pod=pod, container=container)


def _pull_error(container: Object, about: list[Object]) -> str:
    """The registry's answer. The container's own message only says "Back-off" half of the time."""
    image = container.get("image", "")
    for event in reversed(about):
        message = event.get("message", "")
        if event.get("reason") == "Failed" and message.startswith("Failed to pull image") and image in message:
            return message
    return ""


def _names(event: Object, container: str) -> bool:
    """Whether the event is about this container (``spec.containers{NAME}``), or about no particular one."""
    path = (event.get("involvedObject") or {}).get("fieldPath") or ""
    return not path or path.endswith("{%s}" % container)


def _pending_claims(pod: Object, claims: Iterable[Object], events: list[Object]) -> list[tuple[str, str]]:
    """The pod's claims that are not bound, with the newest warning about each."""
    used = {
        (volume.get("persistentVolumeClaim") or {}).get("claimName")
        for volume in (pod.get("spec") or {}).get("volumes") or []
    }
    pending = []
    for claim in claims:
        name = claim["metadata"]["name"]
        if name in used and (claim.get("status") or {}).get("phase") == "Pending":
            about = [event for event in events_of(claim, events) if event.get("type") == "Warning"]
            pending.append((name, about[-1].get("message", "") if about else ""))
    return pending


def last_state(container: Object) -> str:
    """How the container ended last (``Error, exit code 1``), or an empty string if it never did."""
    ended = (container.get("state") or {}).get("terminated") or (container.get("lastState") or {}).get("terminated")
    return _ending(ended) if ended else ""


def _ending(terminated: Object) -> str:
    parts = [terminated.get("reason") or "ended", "exit code %s" % terminated.get("exitCode")]
    signal = terminated.get("signal") or _signal_of(terminated.get("exitCode"))
    if signal:
        parts.append("signal %d" % signal)
    if terminated.get("message"):
        parts.append(terminated["message"].strip())
    return ", ".join(parts)


def _signal_of(exit_code: int | None) -> int | None:
    # Container runtimes report a death by signal as 128 + its number.
    return exit_code - 128 if exit_code is not None and 128 < exit_code < 128 + 65 else None


def events_of(obj: Object, events: Iterable[Object]) -> list[Object]:
    """The events about this very object, oldest first."""
    uid = obj["metadata"].get("uid")
    about = [event for event in events if (event.get("involvedObject") or {}).get("uid") == uid]
    return sorted(about, key=event_time)


def event_time(event: Object) -> str:
    """When it happened last. RFC 3339 in UTC sorts as text; microseconds are cut, since only some fields have them."""
    series = event.get("series") or {}
    times = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    known = [time for time in times if time] or [event["metadata"].get("creationTimestamp") or ""]
    return max(time[:19] for time in known)


def event_lines(events: Iterable[Object], limit: int) -> list[str]:
    """The newest warnings, oldest first, each text once: ``FailedMount (3 times): MountVolume.SetUp failed ...``."""
    seen: dict[tuple[str, str], int] = {}
    for event in sorted(events, key=event_time):
        message = event.get("message") or ""
        # "Error: ImagePullBackOff" and its like repeat the container's state.
        if event.get("type") != "Warning" or re.fullmatch(r"Error: \w+", message):
            continue
        key = (event.get("reason", ""), " ".join(message.split()))
        count = (event.get("series") or {}).get("count") or event.get("count") or 1
        seen[key] = seen.pop(key, 0) + count
    lines = [f"{reason}{f' ({count} times)' if count > 1 else ''}: {text}" for (reason, text), count in seen.items()]
    return lines[-limit:]

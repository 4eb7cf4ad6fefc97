# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a workload has rolled out, read from the object alone.

The rules for Deployment, StatefulSet and DaemonSet are those of ``kubectl rollout status``
(k8s.io/kubectl/pkg/polymorphichelpers/rollout_status.go), with the differences that the functions name.
"""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object

READY = "ready"
WAITING = "waiting"
FAILED = "failed"
MISSING = "missing"

DEFAULT_API_VERSIONS = {
    "Deployment": "apps/v1",
    "StatefulSet": "apps/v1",
    "DaemonSet": "apps/v1",
    "Job": "batch/v1",
    "Service": "v1",
    "Ingress": "networking.k8s.io/v1",
}
"""The kinds that are understood without a condition."""


BALANCED = frozenset({"Service", "Ingress"})
"""The kinds before which a cloud puts a load balancer: ready when it has an address."""


@dataclass(frozen=True)
class Status:
    """State of a workload. The counts are pods (of a Job: completions), None where the kind has no such number."""

    state: str
    message: str
    desired: int | None = None
    updated: int | None = None
    ready: int | None = None
    available: int | None = None
    reason: str = ""

    def counts(self) -> dict[str, int | None]:
        """The numbers, by name."""
        return {"desired": self.desired, "updated": self.updated, "ready": self.ready, "available": self.available}


def status_of(workload: Object | None, condition: str | None = None) -> Status:
    """The status of any workload. A ``condition`` (``TYPE`` or ``TYPE=STATUS``) replaces the kind's own rules."""
    if workload is None:
        return Status(MISSING, "does not exist")
    if workload["metadata"].get("deletionTimestamp"):
        return Status(WAITING, "is being deleted")
    if condition:
        return _condition_status(workload, condition)
    return _RULES[workload["kind"]](workload)


def _observed(workload: Object) -> bool:
    """Whether the controller has seen the newest spec: until then the status speaks of an older one."""
    observed = (workload.get("status") or {}).get("observedGeneration") or 0
    return workload["metadata"].get("generation", 0) <= observed


_NOT_OBSERVED = "its controller has not seen the newest spec yet"


def condition_of(workload: Object, condition_type: str) -> Object | None:
    """The condition of this type, if the workload has it."""
    for entry in (workload.get("status") or {}).get("conditions") or []:
        if entry.get("type") == condition_type:
            return entry
    return None


def is_ready(pod: Object) -> bool:
    """Whether the pod is ready and not on its way out."""
    ready = condition_of(pod, "Ready")
    return bool(ready and ready.get("status") == "True" and not pod["metadata"].get("deletionTimestamp"))


def _deployment(workload: Object) -> Status:
    spec, status = workload["spec"], workload.get("status") or {}
    desired = spec.get("replicas", 1)
    updated, total = status.get("updatedReplicas", 0), status.get("replicas", 0)
    ready, available = status.get("readyReplicas", 0), status.get("availableReplicas", 0)
    counts = {"desired": desired, "updated": updated, "ready": ready, "available": available}
    if not _observed(workload):
        return Status(WAITING, _NOT_OBSERVED, **counts)
    progressing = condition_of(workload, "Progressing")
    if progressing and progressing.get("reason") == "ProgressDeadlineExceeded":
        return Status(
            FAILED, "exceeded its progress deadline: %s" % progressing.get("message", ""), **counts, reason="deadline"
        )
    if updated < desired:
        paused = ", the Deployment is paused" if spec.get("paused") else ""
        return Status(WAITING, f"{updated}/{desired} updated{paused}", **counts)
    if total > updated:
        return Status(WAITING, f"{total - updated} old pods are still ending", **counts)
    if available < updated:
        return Status(WAITING, f"{available}/{updated} available", **counts)
    return Status(READY, f"{available}/{desired} available", **counts)


def _stateful_set(workload: Object) -> Status:
    """Unlike kubectl, which refuses them, StatefulSets updated ``OnDelete`` are ready when their pods are: the update
    of a pod waits for whoever deletes it. With ``minReadySeconds`` the pods must be available, not only ready.
    """
    spec, status = workload["spec"], workload.get("status") or {}
    desired = spec.get("replicas", 1)
    updated, ready = status.get("updatedReplicas", 0), status.get("readyReplicas", 0)
    available = status.get("availableReplicas", 0)
    counts = {"desired": desired, "updated": updated, "ready": ready, "available": available}
    if not status.get("observedGeneration") or not _observed(workload):
        return Status(WAITING, _NOT_OBSERVED, **counts)
    if ready < desired:
        return Status(WAITING, f"{ready}/{desired} ready", **counts)
    if spec.get("minReadySeconds") and available < desired:
        return Status(WAITING, f"{available}/{desired} available", **counts)
    strategy = spec.get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        return Status(READY, f"{ready}/{desired} ready, {updated} at the newest revision (OnDelete)", **counts)
    if strategy.get("rollingUpdate") is not None:
        # Pods with an ordinal below the partition keep the old revision on purpose.
        partition = strategy["rollingUpdate"].get("partition") or 0
        wanted = max(0, desired - partition)
        if updated < wanted:
            return Status(WAITING, f"{updated}/{wanted} updated", **counts)
        return Status(READY, f"{ready}/{desired} ready", **counts)
    if status.get("updateRevision") != status.get("currentRevision"):
        return Status(WAITING, f"{updated}/{desired} updated", **counts)
    return Status(READY, f"{ready}/{desired} ready", **counts)


def _daemon_set(workload: Object) -> Status:
    """As for StatefulSets, ``OnDelete`` is ready when the pods are."""
    status = workload.get("status") or {}
    desired, updated = status.get("desiredNumberScheduled", 0), status.get("updatedNumberScheduled", 0)
    ready, available = status.get("numberReady", 0), status.get("numberAvailable", 0)
    counts = {"desired": desired, "updated": updated, "ready": ready, "available": available}
    if not _observed(workload):
        return Status(WAITING, _NOT_OBSERVED, **counts)
    on_delete = (workload["spec"].get("updateStrategy") or {}).get("type") == "OnDelete"
    if updated < desired and not on_delete:
        return Status(WAITING, f"{updated}/{desired} updated", **counts)
    if available < desired:
        return Status(WAITING, f"{available}/{desired} available", **counts)
    return Status(READY, f"{available}/{desired} available", **counts)


def _job(workload: Object) -> Status:
    spec, status = workload["spec"], workload.get("status") or {}
    # A Job without completions (a work queue) is done when one pod has succeeded and all have ended.
    desired, succeeded = spec.get("completions") or 1, status.get("succeeded", 0)
    counts = {"desired": desired, "ready": status.get("ready", 0)}
    failed = condition_of(workload, "Failed")
    if failed and failed.get("status") == "True":
        why = ": ".join(text for text in (failed.get("reason"), failed.get("message")) if text)
        return Status(FAILED, f"failed, {why}", **counts, reason="job")
    complete = condition_of(workload, "Complete")
    if complete and complete.get("status") == "True":
        return Status(READY, f"{succeeded} completed", **counts)
    if spec.get("suspend"):
        return Status(WAITING, "is suspended", **counts)
    return Status(WAITING, f"{succeeded}/{desired} completed, {status.get('active', 0)} running", **counts)


def _balanced(workload: Object) -> Status:
    entries = ((workload.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    addresses = [entry.get("hostname") or entry.get("ip") for entry in entries]
    if not any(addresses):
        return Status(WAITING, "has no load balancer yet")
    return Status(READY, ", ".join(address for address in addresses if address))


def _condition_status(workload: Object, condition: str) -> Status:
    kind, dummy, wanted = condition.partition("=")
    wanted = wanted or "True"
    status = workload.get("status") or {}
    generation = workload["metadata"].get("generation", 0)
    entry = condition_of(workload, kind)
    # Not every controller keeps observedGeneration, on the status or on the condition: only one that is there and
    # behind says that the condition is about an older spec.
    for observed in (status.get("observedGeneration"), (entry or {}).get("observedGeneration")):
        if observed is not None and observed < generation:
            return Status(WAITING, _NOT_OBSERVED)
    if entry is None:
        return Status(WAITING, f"has no condition {kind} yet")
    said = ": ".join(text for text in (entry.get("reason"), entry.get("message")) if text)
    said = f" ({said})" if said else ""
    found = f"condition {kind} is {entry.get('status')}"
    if str(entry.get("status")).lower() == wanted.lower():
        return Status(READY, found)
    return Status(WAITING, f"{found}, not {wanted}{said}")


_RULES = {
    "Deployment": _deployment,
    "StatefulSet": _stateful_set,
    "DaemonSet": _daemon_set,
    "Job": _job,
    "Service": _balanced,
    "Ingress": _balanced,
}

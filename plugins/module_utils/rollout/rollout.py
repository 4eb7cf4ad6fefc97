# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The logic of the module ``rollout``: wait for many workloads at once, and say why when one does not come."""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import concurrently
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import (
    Cluster,
    auth_argument_spec,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object, spoken
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.workloads import (
    BALANCED,
    DEFAULT_API_VERSIONS,
    FAILED,
    MISSING,
    READY,
    WAITING,
    Status,
    status_of,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.rollout.trouble import (
    CREATE,
    DEADLINE,
    FIXES,
    GONE,
    JOB,
    STARTING,
    UNREADY,
    Trouble,
    event_lines,
    events_of,
    newest_replica_set,
    pod_troubles,
    selected,
    workload_troubles,
)

ARGUMENT_SPEC: dict[str, Any] = {
    **auth_argument_spec(),
    "workloads": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "kind": {"type": "str", "required": True},
            "name": {"type": "str", "required": True},
            "namespace": {"type": "str"},
            "api_version": {"type": "str"},
            "condition": {"type": "str"},
        },
    },
    "timeout_seconds": {"type": "int", "default": 600},
    "max_restarts": {"type": "int", "default": 3},
    "log_lines": {"type": "int", "default": 20},
}

_FIRST_POLL_SECONDS = 0.25
_POLL_SECONDS = 1.0
_REPORT_SECONDS = 10.0
_QUICKEST_REPORT_SECONDS = 1.0
_EVENTS_SECONDS = 3.0
"""Events only explain; reading them less often than the states keeps a long wait cheap."""
_OUTAGE_SECONDS = 60.0
"""An API server that does not answer for less than this (a control plane being upgraded) does not end a wait."""

_PODS_SHOWN = 3
_EVENTS_SHOWN = 5
_NAMED_IN_PROGRESS = 3

_PASSING = {"unreachable", "timeout", "unavailable"}


def run(
    params: Object,
    check_mode: bool,
    diff: bool,
    progress: Callable[[str], None] | None = None,
    connect: Callable[[Object], Cluster] | None = None,
) -> Object:
    """Wait for the workloads in ``params`` (the validated :data:`ARGUMENT_SPEC`); in check mode only look."""
    return Rollout((connect or Cluster)(params), params, progress).run(wait=not check_mode)


def unready(cluster: Cluster, refs: list[Object]) -> str:
    """What the pods of these workloads say now, in lines for a person; empty if all are ready."""
    look = Rollout(cluster, {"workloads": refs, "timeout_seconds": 0, "max_restarts": 0, "log_lines": 10})
    try:
        look.run()
    except PlatformError as error:
        return error.what.partition("\n")[2].rstrip()
    return ""


@dataclass
class Workload:
    """One workload of the task, and what the last look found."""

    ref: Object
    condition: str | None
    live: Object | None = None
    status: Status = field(default_factory=lambda: Status(WAITING, "not looked at yet"))
    replica_set: Object | None = None
    pods: list[Object] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    hopeless: list[Trouble] = field(default_factory=list)
    since: dict[tuple[str, str, str], float] = field(default_factory=dict)
    passing: dict[tuple[str, str, str], bool] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """How messages name it."""
        return spoken(self.ref)

    def judge(self, now: float) -> None:
        """Note since when each trouble lasts, and which have lasted too long. A cause that passes by itself may take
        the whole timeout; what follows it is counted from its own beginning.
        """
        before, since, passing = self.passing, {}, {}
        for trouble in self.troubles:
            known = trouble.identity
            passing[known] = before.get(known, False) if trouble.passes is None else trouble.passes
            since[known] = now if before.get(known) and not passing[known] else self.since.get(known, now)
        self.since, self.passing = since, passing
        self.hopeless = [
            trouble
            for trouble in self.troubles
            if trouble.hopeless_after is not None
            and not passing[trouble.identity]
            and now - since[trouble.identity] >= trouble.hopeless_after
        ]


class Rollout:
    """One wait. ``clock`` and ``sleep`` are seconds, replaced in tests."""

    def __init__(
        self,
        cluster: Cluster,
        params: Object,
        progress: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.cluster = cluster
        self.workloads = _workloads(params["workloads"])
        self.timeout_seconds = params["timeout_seconds"]
        self.max_restarts = params["max_restarts"]
        self.log_lines = params["log_lines"]
        self.progress = progress or (lambda line: None)
        self.clock = clock
        self.sleep = sleep
        self.notes: list[str] = []
        self._events: dict[str, list[Object]] = {}
        self._events_at: float | None = None
        self._unreadable: set[tuple[str, str]] = set()
        self._said = ""
        self._said_at = 0.0
        self._started = 0.0

    def run(self, wait: bool = True) -> Object:
        """The task's result once all are ready. Raises when one cannot become so, or when the time is over."""
        self._started = self._said_at = self.clock()
        deadline = self._started + self.timeout_seconds
        pause, silent_since = _FIRST_POLL_SECONDS, None
        looked = False
        while True:
            try:
                self._look()
                if wait and not self._done():
                    self._explain()
                looked, silent_since = True, None
            except PlatformError as error:
                # A first look that fails says something about the options; later ones may fail for a while.
                if not looked or error.reason not in _PASSING:
                    raise
                silent_since = self.clock() if silent_since is None else silent_since
                if self.clock() - silent_since > _OUTAGE_SECONDS:
                    raise
                self._say(f"rollout: {error.what}, trying again")
            if self._done() or not wait:
                return self._result()
            now = self.clock()
            hopeless = any(workload.hopeless for workload in self.workloads)
            if hopeless or now >= deadline:
                raise self._failure("cannot finish" if hopeless else f"did not finish within {self.timeout_seconds} s")
            if silent_since is None:
                self._say(self._line())
            self.sleep(min(pause, max(0.0, deadline - now)))
            pause = min(_POLL_SECONDS, pause * 1.5)

    def _done(self) -> bool:
        return all(workload.status.state == READY for workload in self.workloads)

    # --- looking -----------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Read the workloads, with one request for each kind and namespace."""
        groups: dict[tuple[str, str, str], list[Workload]] = {}
        for workload in self.workloads:
            ref = workload.ref
            groups.setdefault((ref["apiVersion"], ref["kind"], ref["namespace"]), []).append(workload)
        answers = concurrently(self._read_group, groups.items())
        for (_place, members), answer in zip(groups.items(), answers, strict=True):
            if isinstance(answer, PlatformError):
                raise answer
            for workload in members:
                workload.live = answer.get(workload.ref["name"])
                workload.status = status_of(workload.live, workload.condition)

    def _read_group(self, group: tuple[tuple[str, str, str], list[Workload]]) -> dict[str, Object]:
        (api_version, kind, namespace), members = group
        if not self.cluster.knows(api_version, kind):
            if api_version != DEFAULT_API_VERSIONS.get(kind):
                # A kind whose CustomResourceDefinition may still come; its absence is reported as the object's.
                self.cluster.forget_resources(api_version)
                return {}
            self.cluster.path(members[0].ref)
        if len(members) == 1:
            found = self.cluster.get(members[0].ref)
            return {} if found is None else {members[0].ref["name"]: {"apiVersion": api_version, "kind": kind, **found}}
        return {obj["metadata"]["name"]: obj for obj in self.cluster.list(api_version, kind, namespace or None)}

    def _explain(self) -> None:
        """Find out what the workloads that are not ready wait for."""
        waiting = [workload for workload in self.workloads if workload.status.state != READY]
        with_pods = [workload for workload in waiting if workload.live and workload.ref["kind"] in DEFAULT_API_VERSIONS]
        namespaces = sorted({workload.ref["namespace"] for workload in waiting if workload.live})
        pods = self._lists("v1", "Pod", {workload.ref["namespace"] for workload in with_pods})
        replica_sets = self._lists(
            "apps/v1",
            "ReplicaSet",
            {workload.ref["namespace"] for workload in with_pods if workload.ref["kind"] == "Deployment"},
        )
        now = self.clock()
        if self._events_at is None or now - self._events_at >= _EVENTS_SECONDS:
            self._events = self._lists("v1", "Event", set(namespaces))
            self._events_at = now
        claims: dict[str, list[Object]] = {}
        unscheduled = {namespace for namespace, found in pods.items() if any(_claims_unscheduled(pod) for pod in found)}
        if unscheduled:
            claims = self._lists("v1", "PersistentVolumeClaim", unscheduled)

        for workload in self.workloads:
            workload.troubles, workload.pods, workload.replica_set = [], [], None
            if workload.status.state != READY:
                namespace = workload.ref["namespace"]
                self._explain_one(
                    workload,
                    pods.get(namespace, []),
                    replica_sets.get(namespace, []),
                    self._events.get(namespace, []),
                    claims.get(namespace, []),
                )
            workload.judge(now)

    def _explain_one(
        self,
        workload: Workload,
        pods: list[Object],
        replica_sets: list[Object],
        events: list[Object],
        claims: list[Object],
    ) -> None:
        status = workload.status
        if status.state == MISSING:
            workload.troubles = [Trouble(GONE, status.message)]
            return
        if status.state == FAILED:
            kind = JOB if status.reason == "job" else DEADLINE
            workload.troubles.append(Trouble(kind, status.message))
        if workload.live is None or workload.ref["kind"] not in DEFAULT_API_VERSIONS:
            return
        if workload.ref["kind"] == "Deployment":
            workload.replica_set = newest_replica_set(workload.live, replica_sets)
        workload.pods = selected(workload.live, pods, replica_sets)
        workload.troubles += workload_troubles(workload.live, events, workload.replica_set)
        # How often a Job's container may fail is the Job's own backoffLimit.
        max_restarts = sys.maxsize if workload.ref["kind"] == "Job" else self.max_restarts
        for pod in workload.pods:
            workload.troubles += pod_troubles(pod, events, max_restarts, claims)

    def _lists(self, api_version: str, kind: str, namespaces: set[str]) -> dict[str, list[Object]]:
        """The objects of a kind in these namespaces. What only explains may be unreadable: the wait goes on without."""
        names = sorted(name for name in namespaces - {""} if (kind, name) not in self._unreadable)
        found = {}
        answers = concurrently(lambda namespace: self.cluster.list(api_version, kind, namespace), names)
        for namespace, answer in zip(names, answers, strict=True):
            if not isinstance(answer, PlatformError):
                found[namespace] = answer
            elif answer.reason == "forbidden":
                self._unreadable.add((kind, namespace))
                self.notes.append(f"no right to list {kind}s in namespace {namespace}, so causes may stay unknown")
            else:
                raise answer
        return found

    # --- progress ----------------------------------------------------------------------------------------------------

    def _say(self, line: str) -> None:
        """Show the line if it is new, or if nothing was shown for a while."""
        now = self.clock()
        quiet = now - self._said_at
        if (line != self._said and (quiet >= _QUICKEST_REPORT_SECONDS or not self._said)) or quiet >= _REPORT_SECONDS:
            self.progress(f"{line} [{now - self._started:.0f} s]")
            self._said, self._said_at = line, now

    def _line(self) -> str:
        waiting = [workload for workload in self.workloads if workload.status.state != READY]
        # The one that is worst off first, and only that one in detail.
        waiting.sort(key=lambda workload: _rank(_worst(workload.troubles)))
        shown: list[str] = []
        for workload in waiting[:_NAMED_IN_PROGRESS]:
            text = f"{workload.ref['namespace']}/{workload.ref['name']} {workload.status.message}".lstrip("/")
            trouble = _worst(workload.troubles)
            if not shown and trouble and trouble.pod:
                text += f" (Pod {trouble.pod}: {_short(trouble.brief(), 120)})"
            elif not shown and trouble and trouble.kind not in (GONE, JOB, DEADLINE):
                text += f" ({_short(trouble.brief(), 160)})"
            shown.append(text)
        if len(waiting) > _NAMED_IN_PROGRESS:
            shown.append(f"{len(waiting) - _NAMED_IN_PROGRESS} more")
        ready = len(self.workloads) - len(waiting)
        return f"rollout: {ready}/{len(self.workloads)} ready, waiting for " + "; ".join(shown)

    # --- result ------------------------------------------------------------------------------------------------------

    def _result(self) -> Object:
        ready = sum(workload.status.state == READY for workload in self.workloads)
        return {
            "changed": False,
            "msg": f"{ready} of {len(self.workloads)} workloads are ready",
            "workloads": [_summary(workload) for workload in self.workloads],
            "notes": self.notes,
        }

    def _failure(self, what: str) -> PlatformError:
        """One error that tells of every workload that is not ready: its pods, their last states, logs and events."""
        not_ready = [workload for workload in self.workloads if workload.status.state != READY]
        early = any(workload.hopeless for workload in not_ready)
        # The hopeless ones first: they are why the wait ends.
        not_ready.sort(key=lambda workload: not workload.hopeless)
        # A failed request costs details here, not the message.
        with contextlib.suppress(PlatformError):
            self._events = self._lists("v1", "Event", {workload.ref["namespace"] for workload in not_ready})
        logs = self._logs(not_ready)
        blocks, structured, fixes = [], {}, []
        for workload in not_ready:
            lines, summary = self._told(workload, logs)
            blocks.append("\n".join(lines))
            structured[workload.name] = summary
            # If waiting ended early, what ended it; after the whole time, everything.
            for trouble in workload.hopeless if early else workload.troubles:
                if FIXES.get(trouble.kind) and FIXES[trouble.kind] not in fixes:
                    fixes.append(FIXES[trouble.kind])
        ready = len(self.workloads) - len(not_ready)
        head = f"rollout {what}: {len(not_ready)} of {len(self.workloads)} workloads are not ready"
        waited = f" after {self.clock() - self._started:.0f} s" if "within" not in what else ""
        return PlatformError(
            f"{head}{waited} ({ready} ready)\n" + "\n".join(blocks) + "\n",
            fix="; ".join(fixes) or "see the states above",
            reason="rollout" if early else "timeout",
            workloads=[structured.get(workload.name) or _summary(workload) for workload in self.workloads],
            notes=self.notes,
        )

    def _told(self, workload: Workload, logs: dict[tuple[str, str, str], list[str]]) -> tuple[list[str], Object]:
        summary = _summary(workload)
        if workload.hopeless and summary["state"] == WAITING:
            summary["state"] = FAILED
        namespace = workload.ref["namespace"]
        events = self._events.get(namespace, [])
        lines = [f"{workload.name}: {workload.status.message}"]
        for trouble in workload.troubles:
            if not trouble.pod and trouble.reason != workload.status.message:
                lines.append(f"  {_short(trouble.text(), 1000)}")

        summary["pods"] = []
        troubles = [trouble for trouble in workload.troubles if trouble.pod]
        shown = _one_of_each(troubles)
        nodes = {pod["metadata"]["name"]: (pod.get("spec") or {}).get("nodeName", "") for pod in workload.pods}
        for trouble in shown[:_PODS_SHOWN]:
            node = nodes.get(trouble.pod, "")
            lines.append(f"  Pod {trouble.pod}{f' on {node}' if node else ''}: {_short(trouble.text(), 1000)}")
            if trouble.last_state:
                lines.append(f"    last ended: {trouble.last_state}; restarts: {trouble.restarts}")
            said = logs.get((namespace, trouble.pod, trouble.container), [])
            if said:
                which = ", before its restart" if trouble.log == "previous" else ""
                lines.append(f"    last log lines{which}:")
                lines.extend(f"    | {line}" for line in said)
            summary["pods"].append(
                {
                    "name": trouble.pod,
                    "node": node,
                    "container": trouble.container,
                    "reason": trouble.reason,
                    "message": trouble.message,
                    "last_state": trouble.last_state,
                    "restarts": trouble.restarts,
                    "log": said,
                }
            )
        alike = len({trouble.pod for trouble in troubles} - {trouble.pod for trouble in shown[:_PODS_SHOWN]})
        if alike:
            lines.append(f"  and {alike} more pods that are not ready")

        about = [obj for obj in (workload.live, workload.replica_set, *workload.pods) if obj is not None]
        told = "\n".join([workload.status.message, *(trouble.message for trouble in workload.troubles)])
        news = [event for obj in about for event in events_of(obj, events) if (event.get("message") or "") not in told]
        if any(trouble.kind == CREATE for trouble in workload.troubles):
            # Each try has its own pod's name in the text, and the newest is told already.
            news = [event for event in news if event.get("reason") != "FailedCreate"]
        summary["events"] = event_lines(news, _EVENTS_SHOWN)
        if summary["events"]:
            lines.append("  events:")
            lines.extend(f"    {_short(line, 500)}" for line in summary["events"])
        if workload.ref["kind"] not in DEFAULT_API_VERSIONS and workload.live:
            lines.extend(f"  {line}" for line in _conditions(workload.live))
        return lines, summary

    def _logs(self, workloads: list[Workload]) -> dict[tuple[str, str, str], list[str]]:
        """The last log lines of the containers that are to be shown."""
        if self.log_lines <= 0:
            return {}
        wanted = [
            (workload.ref["namespace"], trouble)
            for workload in workloads
            for trouble in _one_of_each([trouble for trouble in workload.troubles if trouble.pod])[:_PODS_SHOWN]
            if trouble.log
        ]

        def read(item: tuple[str, Trouble]) -> list[str]:
            namespace, trouble = item
            text = self.cluster.logs(
                namespace, trouble.pod, trouble.container, trouble.log == "previous", self.log_lines
            )
            return [_cut(_printable(line), 500) for line in text.splitlines()[-self.log_lines :]]

        answers = concurrently(read, wanted)
        return {
            (namespace, trouble.pod, trouble.container): answer
            for (namespace, trouble), answer in zip(wanted, answers, strict=True)
            # A container whose log is gone (its node too, or no right to read it) is told of without its log.
            if not isinstance(answer, PlatformError)
        }


def _workloads(given: list[Object]) -> list[Workload]:
    """The task's workloads, checked."""
    workloads = []
    for index, entry in enumerate(given):
        kind, condition = entry["kind"], entry.get("condition")
        api_version = entry.get("api_version") or DEFAULT_API_VERSIONS.get(kind)
        known = ", ".join(DEFAULT_API_VERSIONS)
        if not api_version:
            raise PlatformError(
                "a workload has no api_version",
                where=f"workloads[{index}], {kind} {entry['name']}",
                found="no api_version",
                expected=f"an api_version, or one of the kinds {known}",
                fix="set api_version, such as monitoring.coreos.com/v1",
                reason="argument",
            )
        if not condition and DEFAULT_API_VERSIONS.get(kind) != api_version:
            raise PlatformError(
                "a workload has no condition",
                where=f"workloads[{index}], {kind} {entry['name']} of {api_version}",
                found="no condition",
                expected=f"a condition to wait for, such as Ready, or one of the kinds {known}",
                fix="set condition",
                reason="argument",
            )
        namespace = entry.get("namespace") or ""
        if kind in DEFAULT_API_VERSIONS and not namespace:
            raise PlatformError(
                "a workload has no namespace",
                where=f"workloads[{index}], {kind} {entry['name']}",
                found="no namespace",
                expected="the namespace that it is in",
                fix="set namespace",
                reason="argument",
            )
        ref = {"apiVersion": api_version, "kind": kind, "name": entry["name"], "namespace": namespace}
        workloads.append(Workload(ref, condition))
    return workloads


def _summary(workload: Workload) -> Object:
    status = workload.status
    summary = {**workload.ref, "state": status.state, "message": status.message, **status.counts()}
    if workload.ref["kind"] not in DEFAULT_API_VERSIONS.keys() - BALANCED:
        summary["status"] = (workload.live or {}).get("status") or {}
    return summary


def _rank(trouble: Trouble | None) -> int:
    """The order of telling: what can become hopeless before what is only under way."""
    if trouble is None:
        return 4
    # A bare reason says less than one with an explanation.
    return {STARTING: 3 if not trouble.message else 2, UNREADY: 1}.get(trouble.kind, 0)


def _worst(troubles: list[Trouble]) -> Trouble | None:
    """The trouble to tell when there is room for one."""
    return min(troubles, key=_rank, default=None)


def _one_of_each(troubles: list[Trouble]) -> list[Trouble]:
    """One trouble for each container and reason: many replicas mostly share one cause. The worst come first."""
    chosen: dict[tuple[str, str, str], Trouble] = {}
    for trouble in sorted(troubles, key=_rank):
        chosen.setdefault((trouble.kind, trouble.container, trouble.reason), trouble)
    return list(chosen.values())


def _claims_unscheduled(pod: Object) -> bool:
    """Whether the pod waits for a node and uses claims, whose state may be why."""
    uses = any(volume.get("persistentVolumeClaim") for volume in (pod.get("spec") or {}).get("volumes") or [])
    return uses and not (pod.get("spec") or {}).get("nodeName")


def _conditions(obj: Object) -> list[str]:
    lines = []
    for entry in (obj.get("status") or {}).get("conditions") or []:
        said = ": ".join(text for text in (entry.get("reason"), entry.get("message")) if text)
        lines.append(
            f"condition {entry.get('type')}={entry.get('status')}" + (f" ({_short(said, 300)})" if said else "")
        )
    return lines


_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


def _printable(line: str) -> str:
    """Without colours and control characters, which would act on the terminal that shows the error."""
    return _CONTROL.sub("", line)


def _short(text: str, limit: int) -> str:
    """On one line."""
    return _cut(" ".join(text.split()), limit)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"

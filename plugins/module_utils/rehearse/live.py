# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster as it is, kept by watches: whoever waits is woken by what happens and asks nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object

KINDS = (
    ("v1", "Node"),
    ("v1", "Pod"),
    ("v1", "PersistentVolumeClaim"),
    ("v1", "PersistentVolume"),
    ("v1", "Service"),
    ("networking.k8s.io/v1", "Ingress"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("batch/v1", "Job"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("policy/v1", "PodDisruptionBudget"),
)
"""What is looked at all the time."""

_WATCH_SECONDS = 240
_AGAIN_SECONDS = 1.0
_LOOK_SECONDS = 0.15
"""How often a condition is looked at while events come one after the other."""

Told = Callable[[Object], None]


class Live:
    """All objects of some kinds. Use it as a context; ``told`` are called in the watch's thread for what comes or
    changes, by kind.
    """

    def __init__(
        self, cluster: Cluster, kinds: Iterable[tuple[str, str]] = KINDS, told: dict[str, Told] | None = None
    ) -> None:
        self.cluster = cluster
        self.kinds = tuple(kinds)
        self.told = told or {}
        self.changed = threading.Condition()
        self.faults: list[str] = []
        self._objects: dict[str, dict[str, Object]] = {kind: {} for _version, kind in self.kinds}
        self._read: set[str] = set()
        self._over = threading.Event()

    def __enter__(self) -> Live:
        for version, kind in self.kinds:
            threading.Thread(target=self._follow, args=(version, kind), daemon=True, name=f"watch-{kind}").start()
        return self

    def __exit__(self, *dummy: object) -> None:
        self._over.set()

    def of(self, kind: str) -> list[Object]:
        """The objects of a kind, as they are now."""
        with self.changed:
            return list(self._objects[kind].values())

    def wait(self, holds: Callable[[], Any], seconds: float) -> Any:
        """Wait until ``holds`` gives something true; what it gave last. It is asked anew when something has changed."""
        ends = time.monotonic() + seconds
        while True:
            found = holds()
            left = ends - time.monotonic()
            if found or left <= 0:
                return found
            with self.changed:
                self.changed.wait(min(left, 1.0))
            # Events come in crowds: one look for all of them.
            time.sleep(min(_LOOK_SECONDS, max(0.0, left)))

    def complete(self, seconds: float = 60) -> None:
        """Wait until every kind has been read once."""
        # Not those that nobody serves yet.
        served = {kind for version, kind in self.kinds if self.cluster.knows(version, kind)}
        if not self.wait(lambda: served <= self._read, seconds):
            raise PlatformError(
                "the simulated cluster cannot be read",
                where=self.cluster.described(),
                found="; ".join(self.faults[-3:]) or f"no list of {', '.join(sorted(served - self._read))}",
                expected="lists within %g s" % seconds,
                fix="see whether the machine has anything left to give: processor, memory, disk",
                reason="timeout",
            )

    def _follow(self, version: str, kind: str) -> None:
        while not self._over.is_set():
            try:
                if not self.cluster.knows(version, kind):
                    # A kind that site.yml brings.
                    self.cluster.forget_resources(version)
                    self._over.wait(_AGAIN_SECONDS)
                    continue
                self._once(version, kind)
            except PlatformError as fault:
                self.faults.append(str(fault))
                self._over.wait(_AGAIN_SECONDS)

    def _once(self, version: str, kind: str) -> None:
        items, at = self.cluster.list_at(version, kind)
        with self.changed:
            self._objects[kind] = {obj["metadata"]["uid"]: obj for obj in items}
            self._read.add(kind)
            self.changed.notify_all()
        for obj in items:
            self._tell(kind, obj)
        for event in self.cluster.watch(version, kind, resource_version=at, timeout_seconds=_WATCH_SECONDS):
            if self._over.is_set() or event["type"] == "ERROR":
                return
            if event["type"] == "BOOKMARK":
                continue
            obj = {"apiVersion": version, "kind": kind, **event["object"]}
            with self.changed:
                if event["type"] == "DELETED":
                    self._objects[kind].pop(obj["metadata"]["uid"], None)
                else:
                    self._objects[kind][obj["metadata"]["uid"]] = obj
                self.changed.notify_all()
            if event["type"] != "DELETED":
                self._tell(kind, obj)

    def _tell(self, kind: str, obj: Object) -> None:
        if kind not in self.told:
            return
        try:
            self.told[kind](obj)
        except PlatformError as fault:
            # What was written a moment ago may have changed again: the next event brings it anew.
            if fault.details.get("status") not in (404, 409):
                self.faults.append(str(fault))

# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a release's objects is not so in the cluster, and its repair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import concurrently
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.compare import (
    Ignored,
    changed_paths,
    missing_from,
    without_bookkeeping,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.manifest import (
    Key,
    as_stored,
    label_of,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object


@dataclass
class Drift:
    """What of the rendered objects is not so in the cluster."""

    missing: dict[Key, Object] = field(default_factory=dict)
    changed: dict[Key, tuple[Object, Object, Object]] = field(default_factory=dict)
    """key: (what to apply, the live object, what it would become)"""
    paths: dict[Key, list[str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.missing or self.changed)

    def keep_only(self, keys: set[Key]) -> None:
        """Forget the other objects."""
        for part in (self.missing, self.changed, self.paths):
            for key in [key for key in part if key not in keys]:
                del part[key]

    def described(self) -> list[str]:
        """One line for each object."""
        missing = ["%s is missing" % label_of(key) for key in self.missing]
        return missing + [
            "%s was changed: %s" % (label_of(key), ", ".join(self.paths[key][:5])) for key in self.changed
        ]


@dataclass
class Owner:
    """A release in the cluster: whose its objects are, and what of them others may change."""

    cluster: Cluster
    name: str
    namespace: str
    field_manager: str
    ignored: list[Ignored]

    def drift(self, objects: dict[Key, Object], is_autoscaled: Callable[[Key], bool]) -> Drift:
        """Compare with the live objects; in doubt, ask the API server what applying would change."""
        drift = Drift()
        wanted = {key: self._marked(obj) for key, obj in objects.items()}
        live = self.cluster.get_many([ref(key, obj) for key, obj in wanted.items()])
        doubtful = []
        for (key, obj), found in zip(wanted.items(), live, strict=True):
            if found is None:
                # A finished Job with a time to live is meant to go.
                if not (key[1] == "Job" and "ttlSecondsAfterFinished" in (obj.get("spec") or {})):
                    drift.missing[key] = obj
                continue
            compared = obj
            for ignored in self.ignored:
                compared = ignored.drop_from(compared)
            paths = missing_from(compared, found)
            if ("spec", "replicas") in paths and is_autoscaled(key):
                paths.remove(("spec", "replicas"))
            paths = [path for path in paths if not (path[-1] == "caBundle" and _at(obj, path) in ("", None))]
            if paths:
                doubtful.append((key, self._to_apply(obj, found, is_autoscaled(key)), found, paths))
        results = concurrently(lambda entry: self.would_become(entry[1]), doubtful)
        for (key, obj, found, paths), result in zip(doubtful, results, strict=True):
            if isinstance(result, PlatformError):
                # A refused repair (an immutable field) is drift too, and the error comes when it is tried.
                drift.changed[key] = (obj, found, obj)
                drift.paths[key] = [".".join(path) for path in paths]
                continue
            changed = changed_paths(without_bookkeeping(found), without_bookkeeping(result))
            if changed:
                drift.changed[key] = (obj, found, result)
                drift.paths[key] = changed
        return drift

    def would_become(self, obj: Object) -> Object:
        """The object as it would be stored."""
        return self.cluster.apply(self._placed(obj), self.field_manager, dry_run=True)

    def repair(self, drift: Drift) -> None:
        """Apply what differs, as it was rendered."""
        objects = [*drift.missing.values(), *(obj for obj, dummy, result in drift.changed.values())]
        # Namespaces, classes and roles before what stands in or on them.
        first = [obj for obj in objects if not self.cluster.namespaced(obj["apiVersion"], obj["kind"])]
        rest = [obj for obj in objects if obj not in first]
        for part in (first, rest):
            self.cluster.apply_many([self._placed(obj) for obj in part], self.field_manager)

    def _placed(self, obj: Object) -> Object:
        """With the release's namespace, if it needs one and names none."""
        metadata = obj["metadata"]
        if metadata.get("namespace") or not self.cluster.namespaced(obj["apiVersion"], obj["kind"]):
            return obj
        return {**obj, "metadata": {**metadata, "namespace": self.namespace}}

    def _marked(self, obj: Object) -> Object:
        """The object as Helm stores it: with the marks of its release, which the template does not show."""
        stored = as_stored(obj)
        metadata = stored["metadata"] = dict(stored.get("metadata") or {})
        metadata["labels"] = {**(metadata.get("labels") or {}), "app.kubernetes.io/managed-by": "Helm"}
        metadata["annotations"] = {
            **(metadata.get("annotations") or {}),
            "meta.helm.sh/release-name": self.name,
            "meta.helm.sh/release-namespace": self.namespace,
        }
        return stored

    def _to_apply(self, obj: Object, live: Object, is_autoscaled: bool) -> Object:
        """The object with the live value wherever somebody else owns the field. Left out, it would be removed."""
        for ignored in self.ignored:
            obj = ignored.keep_live(obj, live)
        if "replicas" in (obj.get("spec") or {}) and is_autoscaled:
            obj = {**obj, "spec": {**obj["spec"], "replicas": (live.get("spec") or {}).get("replicas")}}
        return obj


def ref(key: Key, obj: Object) -> Object:
    """The reference of a rendered object."""
    return {"apiVersion": obj.get("apiVersion", ""), "kind": key[1], "namespace": key[2], "name": key[3]}


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list):
            found = [item for index, item in enumerate(value) if part in (str(index), (item or {}).get("name"))]
            value = found[0] if found else None
        else:
            return None
    return value

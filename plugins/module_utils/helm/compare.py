# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects compared by meaning: of a chart with its last rendering, and with what is in the cluster."""

from __future__ import annotations

import copy
import fnmatch
from dataclasses import dataclass
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.yaml import to_yaml
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.quantities import quantity
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.redaction import (
    LAST_APPLIED,
    Redaction,
)


def plain(value: Any) -> Any:
    """A form in which equal means equal to Helm: whole floats are integers (Go's JSON has one kind of number), and
    true is not 1.
    """
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def changed_paths(before: Any, after: Any, path: str = "") -> list[str]:
    """Dotted paths of what differs between two values."""
    if isinstance(before, dict) and isinstance(after, dict):
        paths = []
        for name in sorted({*before, *after}, key=str):
            here = "%s.%s" % (path, name) if path else str(name)
            if name not in before or name not in after:
                paths.append(here)
            else:
                paths.extend(changed_paths(before[name], after[name], here))
        return paths
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        paths = []
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            paths.extend(changed_paths(one, other, "%s[%d]" % (path, index)))
        return paths
    return [] if plain(before) == plain(after) else [path or "(all)"]


# Lists of the API that are maps in truth (patchMergeKey in k8s.io/api): one entry, one thing, in any order, and other
# writers (an injected sidecar, a defaulted toleration) may add entries of their own.
MERGE_KEYS = {
    "containers": ("name",),
    "initContainers": ("name",),
    "ephemeralContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "imagePullSecrets": ("name",),
    "hostAliases": ("ip",),
    "secrets": ("name",),
    "webhooks": ("name",),
}


def missing_from(expected: Any, live: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The paths at which live does not say what expected says. What only live says (defaults, status, what controllers
    and other writers added) does not count, nor does an empty value that the API server drops.

    It is strict where in doubt: a path that it names need not be drift, an empty list means that there is none.
    """
    if expected is None:
        return []
    if isinstance(expected, dict):
        if not isinstance(live, dict):
            return [] if live is None and is_empty(expected) else [path]
        return [
            found for name, item in expected.items() for found in missing_from(item, live.get(name), (*path, str(name)))
        ]
    if isinstance(expected, list):
        return _missing_from_list(expected, live, path)
    if live is None:
        return [] if is_empty(expected) else [path]
    if plain(expected) == plain(live):
        return []
    if _may_be_quantity(path):
        one, other = quantity(expected), quantity(live)
        if one is not None and one == other:
            return []
    return [path]


def _missing_from_list(expected: list[Any], live: Any, path: tuple[str, ...]) -> list[tuple[str, ...]]:
    if live is None:
        return [] if is_empty(expected) else [path]
    if not isinstance(live, list):
        return [path]
    names = MERGE_KEYS.get(path[-1] if path else "")
    if names and all(isinstance(item, dict) for item in [*expected, *live]):
        by_name = {tuple(item.get(name) for name in names): item for item in live}
        found: list[tuple[str, ...]] = []
        for item in expected:
            name = tuple(item.get(part) for part in names)
            here = (*path, ",".join(str(part) for part in name))
            found.extend(missing_from(item, by_name[name], here) if name in by_name else [here])
        return found
    if len(expected) != len(live):
        return [path]
    return [
        found
        for index, (item, other) in enumerate(zip(expected, live, strict=True))
        for found in missing_from(item, other, (*path, str(index)))
    ]


def is_empty(value: Any) -> bool:
    """Whether the API server may leave it out (Go's omitempty), all the way down."""
    if isinstance(value, dict):
        return all(is_empty(item) for item in value.values())
    if isinstance(value, list):
        return not value
    return value is None or value is False or value == 0 or value == ""


def _may_be_quantity(path: tuple[str, ...]) -> bool:
    parents = {"limits", "requests", "hard", "capacity", "default", "defaultRequest", "max", "min", "allocatable"}
    leaves = {"sizeLimit", "averageValue", "value", "storage", "divisor"}
    return len(path) > 1 and path[0] != "data" and (path[-2] in parents or path[-1] in leaves)


_SERVER_METADATA = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink")


def without_bookkeeping(obj: Object) -> Object:
    """An object of the cluster without status and the server's own metadata, for comparison and for diffs."""
    kept = {name: item for name, item in obj.items() if name != "status"}
    metadata = {name: item for name, item in (obj.get("metadata") or {}).items() if name not in _SERVER_METADATA}
    annotations = dict(metadata.get("annotations") or {})
    annotations.pop(LAST_APPLIED, None)
    annotations.pop("deployment.kubernetes.io/revision", None)
    metadata["annotations"] = annotations
    if not annotations:
        del metadata["annotations"]
    kept["metadata"] = metadata
    return kept


@dataclass(frozen=True)
class Ignored:
    """A field that someone else is meant to change: kind, a pattern for the name, a path with ``*`` for any part."""

    kind: str
    path: str
    name: str = "*"

    def matches(self, obj: Object) -> bool:
        """Whether it speaks of this object."""
        name = str((obj.get("metadata") or {}).get("name", ""))
        return obj.get("kind") == self.kind and fnmatch.fnmatchcase(name, self.name)

    def _parts(self) -> list[str]:
        return [part.replace("~1", "/").replace("~0", "~") for part in self.path.strip("/").split("/")]

    def drop_from(self, obj: Object) -> Object:
        """The object without the field; itself if it does not match."""
        if not self.matches(obj):
            return obj
        changed = copy.deepcopy(obj)
        _drop(changed, self._parts())
        return changed

    def keep_live(self, obj: Object, live: Object) -> Object:
        """The object with the live value in the field; without the field where there is no live value."""
        if not self.matches(obj):
            return obj
        changed = copy.deepcopy(obj)
        _take(changed, live, self._parts())
        return changed


def _take(value: Any, live: Any, parts: list[str]) -> None:
    """Set what parts lead to in value to what live has there."""
    first, rest = parts[0], parts[1:]
    if isinstance(value, dict):
        live = live if isinstance(live, dict) else {}
        for name in [name for name in value if first in ("*", name)]:
            if rest:
                _take(value[name], live.get(name), rest)
            elif name in live:
                value[name] = live[name]
            else:
                del value[name]
    elif isinstance(value, list) and rest:
        live = live if isinstance(live, list) else []
        for index, item in enumerate(value):
            if first not in ("*", str(index)):
                continue
            named = [other for other in live if isinstance(other, dict) and isinstance(item, dict) and "name" in item]
            same = [other for other in named if other.get("name") == item["name"]]
            counterpart = same[0] if same else live[index] if not named and index < len(live) else None
            _take(item, counterpart, rest)


def _drop(value: Any, parts: list[str]) -> None:
    first, rest = parts[0], parts[1:]
    if isinstance(value, dict):
        for name in [name for name in value if first in ("*", name)]:
            if rest:
                _drop(value[name], rest)
            else:
                del value[name]
    elif isinstance(value, list) and rest:
        for index, item in enumerate(value):
            if first in ("*", str(index)):
                _drop(item, rest)


def diff_entry(label: str, before: Object | None, after: Object | None, redact: Redaction) -> dict[str, str]:
    """One entry of a task's diff, in the form that Ansible's callbacks show as a unified diff."""
    entry = {"before_header": label, "after_header": label, "before": "", "after": ""}
    for side, obj in (("before", before), ("after", after)):
        if obj is not None:
            entry[side] = to_yaml(redact(obj))
    return entry

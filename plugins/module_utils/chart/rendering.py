# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a chart renders to, what Helm's record says of it, and why a new revision is needed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.chart.chance import kept
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.compare import changed_paths
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.manifest import (
    Key,
    documents,
    is_hook,
    key_of,
    label_of,
    without_replicas,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.program import Chart, identity_of
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.release import Release
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object


@dataclass
class Rendered:
    """A rendered chart, split by what happens to its parts."""

    namespace: str
    objects: dict[Key, Object] = field(default_factory=dict)
    hooks: dict[Key, Object] = field(default_factory=dict)
    crds: dict[Key, Object] = field(default_factory=dict)
    texts: Counter[str] = field(default_factory=Counter)
    """The documents as they are compared first, without comments; most are equal as text."""
    lists: list[list[Key]] = field(default_factory=list)
    """The objects of each document that has several."""

    def everything(self) -> dict[Key, Object]:
        """Objects and hooks."""
        return {**self.objects, **self.hooks}

    def replaced(self, others: dict[Key, Object]) -> dict[str, str]:
        """What a post-renderer needs to put these objects into the manifest that helm renders."""
        keys = {*others}
        for together in self.lists:
            if keys & {*together}:
                keys |= {*together}
        chosen = [others.get(key, self.objects[key]) for key in keys if key in self.objects]
        return {identity_of(obj, self.namespace): json.dumps(_as_go_counts(obj)) for obj in chosen}


def split(texts: Iterable[str], namespace: str) -> Rendered:
    """The parts of a manifest. Namespace is the release's, for objects that name none."""
    rendered = Rendered(namespace)
    for text in texts:
        for document in documents(text):
            if document.is_crd_file:
                rendered.crds.update({key_of(obj, namespace): obj for obj in document.objects})
                continue
            rendered.texts[_comparable(document.text)] += 1
            keys = []
            for obj in document.objects:
                key = key_of(obj, namespace)
                (rendered.hooks if is_hook(obj) else rendered.objects)[key] = obj
                keys.append(key)
            if len(keys) > 1:
                rendered.lists.append(keys)
    return rendered


def recorded(release: Release, namespace: str) -> Rendered:
    """The same of what Helm has recorded."""
    return split([release.manifest, *release.hooks], namespace)


def _comparable(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.splitlines() if not line.startswith("#") and line.strip())


def _as_go_counts(value: Any) -> Any:
    """Whole floats as integers, as Go writes them: a port of 8e1 is 80."""
    if isinstance(value, dict):
        return {name: _as_go_counts(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_as_go_counts(item) for item in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return int(value) if isinstance(value, float) and value.is_integer() else value


@dataclass
class Comparison:
    """What differs between a rendering and Helm's record."""

    changes: dict[Key, str] = field(default_factory=dict)
    """One line for each object that differs, by what the chart says and not by chance."""
    kept: dict[Key, Object] = field(default_factory=dict)
    """Objects of the rendering with the installed values in place of those that are rendered anew each time."""
    by_chance: dict[Key, list[str]] = field(default_factory=dict)
    """The fields of these."""


def compare(
    rendered: Rendered,
    release: Release,
    again: Callable[[], Rendered],
    is_autoscaled: Callable[[Key], bool],
) -> Comparison:
    """Compare, and where anything differs render again, to tell what is rendered anew each time. The installed values
    of that take the place of the new ones in ``rendered``.
    """
    found = Comparison()
    texts = [document.text for text in (release.manifest, *release.hooks) for document in documents(text)]
    if Counter(map(_comparable, texts)) == rendered.texts:
        return found
    before = recorded(release, rendered.namespace)
    found.changes = _changes(before.everything(), rendered.everything(), is_autoscaled)
    if not found.changes:
        return found
    then = again()
    old, now, other = before.everything(), rendered.everything(), then.everything()
    for key in found.changes:
        if key in old and key in now and key in other:
            chance = changed_paths(now[key], other[key])
            if chance:
                found.by_chance[key] = chance
                found.kept[key] = kept(now[key], other[key], old[key])
    _follow(found, rendered, before)
    for part in (rendered.objects, rendered.hooks):
        part.update({key: obj for key, obj in found.kept.items() if key in part})
    found.changes = _changes(before.everything(), rendered.everything(), is_autoscaled)
    return found


def _follow(found: Comparison, rendered: Rendered, before: Rendered) -> None:
    """A digest in a pod template's annotations (``checksum/config``) is rendered anew with the random value that it
    covers. It is kept with it, unless something else in an object with such values has changed: then it restarts pods.
    """
    old = before.everything()
    moved = any(
        changed_paths(old[key], obj)
        for key, obj in found.kept.items()
        if not all(_ANNOTATIONS in path for path in found.by_chance[key])
    )
    if not moved:
        return
    for key, obj in found.kept.items():
        now = rendered.everything()[key]
        for path in [("spec",), ("spec", "jobTemplate", "spec")]:
            mine, new = _at(obj, path), _at(now, path)
            annotations = _at(new, ("template", "metadata", "annotations"))
            if isinstance(annotations, dict):
                mine["template"]["metadata"]["annotations"] = annotations


_ANNOTATIONS = "template.metadata.annotations"


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _changes(
    before: dict[Key, Object], after: dict[Key, Object], is_autoscaled: Callable[[Key], bool]
) -> dict[Key, str]:
    changes: dict[Key, str] = {}
    for key in sorted({*before, *after}):
        if key not in before:
            changes[key] = "%s is new" % label_of(key)
        elif key not in after:
            changes[key] = "%s is gone from the chart" % label_of(key)
        else:
            one, other = before[key], after[key]
            if is_autoscaled(key):
                one, other = without_replicas(one), without_replicas(other)
            paths = changed_paths(one, other)
            if paths:
                changes[key] = "%s: %s" % (label_of(key), ", ".join(paths[:5]))
    return changes


def reasons(chart: Chart, values: Object, release: Release, comparison: Comparison) -> list[str]:
    """Why a new revision is needed; empty if it is not. Values are named, never shown."""
    why = []
    if (release.chart_name, release.chart_version) != (chart.name, chart.version):
        why.append(
            "chart %s %s instead of %s %s" % (chart.name, chart.version, release.chart_name, release.chart_version)
        )
    paths = changed_paths(release.values, values)
    if paths:
        why.append("values: %s" % ", ".join(paths[:10]) + (" and more" if len(paths) > 10 else ""))
    return why + list(comparison.changes.values())

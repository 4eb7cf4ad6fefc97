# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the cluster holds of a batch: the objects with its label, and the records of the sets that others belong to."""

from __future__ import annotations

from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import concurrently
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object, spoken
from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy.applyset import (
    ID_LABEL,
    RECORD_PREFIX,
    TOOL,
    TOOLING_ANNOTATION,
    ApplySet,
    GroupKind,
    Key,
    Scope,
    key_of,
)

Unreadable = dict[GroupKind, PlatformError]


def labelled_objects(
    cluster: Cluster, applyset: ApplySet, scope: Scope, versions: dict[GroupKind, str]
) -> tuple[dict[Key, Object], Unreadable, list[PlatformError]]:
    """The live objects that carry the batch's label, in the kinds and namespaces of the scope.

    ``versions`` are the API versions in which the batch wants its kinds; of others, the one that the cluster prefers is
    read. The second result are kinds that only the record names and that cannot be read now, since the server of their
    API is down: their objects may well be there. The third are all other failures.
    """
    unreadable: Unreadable = {}
    places: list[tuple[GroupKind, str, str | None]] = []
    for kind in sorted(scope.kinds):
        try:
            version = _version_of(cluster, kind, versions.get(kind))
        except PlatformError as error:
            if kind in versions or error.reason != "unavailable":
                raise
            unreadable[kind] = error
            continue
        if version is None:
            # Its CRD is gone, and all objects of the kind with it; or it comes with this batch.
            continue
        if cluster.namespaced(version, kind.kind):
            places.extend((kind, version, name) for name in sorted({*scope.namespaces, applyset.namespace}))
        else:
            places.append((kind, version, None))

    def read(place: tuple[GroupKind, str, str | None]) -> list[Object]:
        kind, version, namespace = place
        return cluster.list(version, kind.kind, namespace, label_selector=applyset.selector)

    live: dict[Key, Object] = {}
    errors: list[PlatformError] = []
    for (kind, _version, _namespace), answer in zip(places, concurrently(read, places), strict=True):
        if not isinstance(answer, PlatformError):
            live.update((key_of(obj), obj) for obj in answer)
        elif answer.reason == "unavailable" and kind not in versions:
            unreadable[kind] = answer
        else:
            errors.append(answer)
    return live, unreadable, errors


def _version_of(cluster: Cluster, kind: GroupKind, wanted: str | None) -> str | None:
    """An API version in which the cluster serves the kind; None if it serves it in none."""
    if wanted is not None and cluster.knows(wanted, kind.kind):
        return wanted
    down: PlatformError | None = None
    for version in cluster.versions_of(kind.group):
        try:
            if cluster.knows(version, kind.kind):
                return version
        except PlatformError as error:
            down = error
    if down is not None:
        raise down
    return None


def spoken_set(cluster: Cluster, set_id: str, namespaces: set[str]) -> str:
    """How messages name the set with this id: by its record, which is looked for in the whole cluster, or in these
    namespaces where that is not allowed.
    """
    selector = f"{ID_LABEL}={set_id}"
    for kind in ("ConfigMap", "Secret"):
        for place in (None, *sorted(namespaces)):
            try:
                records = cluster.list("v1", kind, place, label_selector=selector)
            except PlatformError:
                # The conflict is the news, whoever may not see the record.
                continue
            for record in records:
                metadata = record["metadata"]
                tooling = (metadata.get("annotations") or {}).get(TOOLING_ANNOTATION, "")
                if tooling.partition("/")[0] == TOOL:
                    return f"batch {metadata['name'].removeprefix(RECORD_PREFIX)} in namespace {metadata['namespace']}"
                return f"the ApplySet {spoken(record)} of {tooling or 'an unknown tool'}"
            if place is None:
                break
    return f"an ApplySet whose record was not found (id {set_id})"

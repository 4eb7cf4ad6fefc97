# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Helm's own record of a release, read from the Secrets that Helm 3 and 4 keep (storage driver ``secret``).

A revision is the Secret ``sh.helm.release.v1.NAME.vREVISION``; its ``data.release`` is base64 (the API's) of base64
(Helm's) of gzip of JSON. See helm's pkg/storage/driver/util.go.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import MERGE_PATCH, Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object

DEPLOYED = "deployed"
SETTLED = (DEPLOYED, "failed", "superseded", "uninstalled")
"""The states in which nobody is at work. In any other (``pending-*``, ``uninstalling``) somebody is, or was killed."""
UNINSTALLING = "uninstalling"
"""The only other state from which Helm goes on."""
RUN_LABEL = "lambda-microservice.platform/run"
"""A label on the record that says which process made it, so that a later run knows whether it is still alive."""

_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
_ONE_METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"


@dataclass(frozen=True)
class Revision:
    """A revision as its Secret's metadata tells it."""

    name: str
    namespace: str
    number: int
    status: str
    written: datetime | None = None
    """When its record was last written, by the API server's clock: helm does so before each hook."""
    run: str = ""
    resource_version: str = ""

    @property
    def secret_name(self) -> str:
        """The Secret that holds it."""
        return "sh.helm.release.v1.%s.v%d" % (self.name, self.number)

    @property
    def ref(self) -> Object:
        """The Secret's reference."""
        return {"apiVersion": "v1", "kind": "Secret", "name": self.secret_name, "namespace": self.namespace}


@dataclass(frozen=True)
class Release:
    """A revision with all that Helm recorded."""

    revision: Revision
    status: str
    description: str
    manifest: str
    hooks: list[str]
    values: Object
    chart_name: str
    chart_version: str
    app_version: str
    record: Object = field(repr=False, default_factory=dict)
    resource_version: str = ""


def histories(cluster: Cluster, namespace: str, names: Iterable[str]) -> dict[str, list[Revision]]:
    """The revisions of these releases, newest first. One request; the large part of the Secrets is not sent."""
    found: dict[str, list[Revision]] = {name: [] for name in names}
    about = {"apiVersion": "v1", "kind": "Secret", "namespace": namespace}
    query: dict[str, Any] = {"labelSelector": "owner=helm,name in (%s)" % ",".join(sorted(found)), "limit": 500}
    while True:
        answer = cluster.request(
            "GET", cluster.path(about, collection=True), query=query, accept=_METADATA_ONLY, about=about
        )
        for item in answer.get("items") or []:
            revision = _revision(item["metadata"])
            if revision is not None and revision.name in found:
                found[revision.name].append(revision)
        query["continue"] = answer["metadata"].get("continue")
        if not query["continue"]:
            break
    return {name: sorted(revisions, key=lambda r: r.number, reverse=True) for name, revisions in found.items()}


def _revision(metadata: Object) -> Revision | None:
    labels = metadata.get("labels") or {}
    try:
        number = int(labels.get("version", ""))
    except ValueError:
        return None
    times = [entry.get("time") for entry in metadata.get("managedFields") or []]
    written = [datetime.fromisoformat(time) for time in [*times, metadata.get("creationTimestamp")] if time]
    return Revision(
        name=labels.get("name", ""),
        namespace=metadata.get("namespace", ""),
        number=number,
        status=labels.get("status", "unknown"),
        written=max(written, default=None),
        run=labels.get(RUN_LABEL, ""),
        resource_version=metadata.get("resourceVersion", ""),
    )


def look(cluster: Cluster, revision: Revision) -> tuple[Revision | None, datetime | None]:
    """The revision as it is now (None if it has gone), and the API server's time: clocks here and there may differ."""
    try:
        response = cluster.open("GET", cluster.path(revision.ref), accept=_ONE_METADATA_ONLY, about=revision.ref)
    except PlatformError as failure:
        if failure.details.get("status") == 404:
            return None, None
        raise
    try:
        now = parsedate_to_datetime(response.headers.get("Date", ""))
    except ValueError:
        now = None
    return _revision(json.loads(response.data)["metadata"]), now


def sign(cluster: Cluster, revision: Revision, run: str, field_manager: str) -> None:
    """Say in the record who works on it from now on; :func:`look` tells it to others."""
    body = {"metadata": {"labels": {RUN_LABEL: run}}}
    cluster.patch(revision.ref, body, field_manager, content_type=MERGE_PATCH)


def read(cluster: Cluster, revision: Revision) -> Release | None:
    """The whole record, or None if it has gone meanwhile."""
    secret = cluster.get(revision.ref)
    if secret is None:
        return None
    record = decode((secret.get("data") or {}).get("release", ""), revision)
    info = record.get("info") or {}
    metadata = (record.get("chart") or {}).get("metadata") or {}
    return Release(
        revision=revision,
        status=info.get("status") or revision.status,
        description=info.get("description") or "",
        manifest=record.get("manifest") or "",
        hooks=[hook.get("manifest") or "" for hook in record.get("hooks") or []],
        values=record.get("config") or {},
        chart_name=metadata.get("name") or "",
        chart_version=metadata.get("version") or "",
        app_version=metadata.get("appVersion") or "",
        record=record,
        resource_version=secret["metadata"].get("resourceVersion", ""),
    )


def decode(data: str, revision: Revision) -> Object:
    """The record in a Secret's ``data.release``."""
    try:
        packed = base64.b64decode(base64.b64decode(data, validate=True), validate=True)
        # Helm 2's records, and none else, are not compressed.
        text = gzip.decompress(packed) if packed[:2] == b"\x1f\x8b" else packed
        record = json.loads(text)
    except (binascii.Error, ValueError, OSError, EOFError, zlib.error) as error:
        raise PlatformError(
            "Helm's record of the release cannot be read",
            where="Secret %s/%s" % (revision.namespace, revision.secret_name),
            found="%s: %s" % (type(error).__name__, str(error)[:200]),
            expected="a record that Helm 3 or 4 wrote",
            fix="delete this Secret (the release's objects stay) and run again, or restore it from a backup",
            reason="record",
        ) from error
    if not isinstance(record, dict):
        raise PlatformError(
            "Helm's record of the release cannot be read",
            where="Secret %s/%s" % (revision.namespace, revision.secret_name),
            found="JSON that is no object",
            fix="delete this Secret (the release's objects stay) and run again",
            reason="record",
        )
    return record


def encode(record: Object) -> str:
    """The inverse of :func:`decode`."""
    packed = gzip.compress(json.dumps(record, separators=(",", ":")).encode(), 9)
    return base64.b64encode(base64.b64encode(packed)).decode()


def mark_failed(cluster: Cluster, release: Release, why: str, field_manager: str) -> None:
    """Say in the record what became of a revision whose process has died, so that Helm goes on from it.

    Helm refuses to touch a pending release, and goes on from a failed one with the right base for its merge. Deleting
    the record instead would forget which objects the dead process may have made. Refused by the API server (conflict)
    if anyone wrote the record since it was read: then somebody is alive.
    """
    record = dict(release.record)
    record["info"] = {**(record.get("info") or {}), "status": "failed", "description": why}
    body = {
        "metadata": {"resourceVersion": release.resource_version, "labels": {"status": "failed"}},
        "data": {"release": encode(record)},
    }
    cluster.patch(release.revision.ref, body, field_manager, content_type=MERGE_PATCH)

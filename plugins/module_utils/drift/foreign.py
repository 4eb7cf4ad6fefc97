# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in the platform's namespaces and nobody's that it knows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import concurrently
from ansible_collections.lambda_microservice.platform.plugins.module_utils.drift.difference import (
    EXTRA,
    FOREIGN,
    Difference,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.manifest import Key
from ansible_collections.lambda_microservice.platform.plugins.module_utils.installed.components import (
    Claims,
    release_of,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object, spoken

_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"

OF_CONTROLLERS = frozenset({"Event", "Endpoints", "EndpointSlice", "Lease", "ControllerRevision", "ComponentStatus"})
"""Kinds whose objects controllers make of other objects, or for themselves."""

_OF_NAMESPACE = {
    ("ConfigMap", "kube-root-ca.crt"),
    ("ConfigMap", "openshift-service-ca.crt"),
    ("ConfigMap", "istio-ca-root-cert"),
    ("ServiceAccount", "default"),
}
"""What a cluster puts into each namespace."""


def objects_in(cluster: Cluster, namespaces: set[str]) -> list[Object]:
    """The metadata of all objects in these namespaces, each with apiVersion and kind. Kinds that this user may not
    list, and those whose server is down, are left out.
    """
    results = concurrently(partial(_of_kind, cluster, namespaces), _kinds(cluster))
    return [obj for result in results if not isinstance(result, PlatformError) for obj in result]


def _kinds(cluster: Cluster) -> list[tuple[str, str]]:
    """(apiVersion, kind) of what is in namespaces and can be listed, each kind under one version."""
    found: dict[tuple[str, str], str] = {}
    for name in cluster.api_versions():
        api_version, _slash, kind = name.rpartition("/")
        group = api_version.rpartition("/")[0]
        if not kind[:1].isupper() or kind in OF_CONTROLLERS or group.endswith("metrics.k8s.io"):
            continue
        resource = cluster.resources_of(api_version).get(kind) or {}
        if resource.get("namespaced") and "list" in (resource.get("verbs") or []):
            found[group, kind] = api_version
    return [(api_version, kind) for (_group, kind), api_version in sorted(found.items())]


def _of_kind(cluster: Cluster, namespaces: set[str], where: tuple[str, str]) -> list[Object]:
    api_version, kind = where
    try:
        # One request for all namespaces costs less than one for each.
        listed = _listed(cluster, api_version, kind, "")
    except PlatformError as failure:
        if failure.reason != "forbidden":
            raise
        listed = [obj for name in sorted(namespaces) for obj in _listed(cluster, api_version, kind, name)]
    return [
        {"apiVersion": api_version, "kind": kind, "metadata": obj["metadata"]}
        for obj in listed
        if obj["metadata"].get("namespace") in namespaces
    ]


def _listed(cluster: Cluster, api_version: str, kind: str, namespace: str) -> list[Object]:
    about = {"apiVersion": api_version, "kind": kind, "namespace": namespace}
    query: dict[str, Any] = {"limit": 500}
    found: list[Object] = []
    while True:
        path = cluster.path(about, collection=True)
        answer = cluster.request("GET", path, query=query, accept=_METADATA_ONLY, about=about)
        found += answer.get("items") or []
        query["continue"] = (answer.get("metadata") or {}).get("continue")
        if not query["continue"]:
            return found


def is_systems(obj: Object) -> bool:
    """Whether a controller, the cluster or a user of the platform keeps it by another object that stands for it."""
    kind, metadata = obj["kind"], obj["metadata"]
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    return bool(
        metadata.get("ownerReferences")
        or (kind, metadata["name"]) in _OF_NAMESPACE
        or "kubernetes.io/service-account.name" in annotations
        or "cert-manager.io/certificate-name" in annotations
        # Functions, which their users deploy by the gateway.
        or "faas_function" in labels
    )


def foreign(
    objects: Iterable[Object],
    claims: Claims,
    rendered: dict[tuple[str, str], set[Key]],
    referenced: set[tuple[str, str, str]],
) -> Iterator[Difference]:
    """What is of nobody, and what carries the mark of a release of ours whose chart does not make it.

    ``rendered`` are, by release (namespace, name), the objects that its chart makes, hooks among them; ``referenced``
    are Secrets and ConfigMaps, (kind, namespace, name), that a workload of ours reads: the inventory has named them.
    """
    objects = list(objects)
    # An operator's StatefulSet makes claims that carry no mark of anybody's.
    sets = {
        (obj["metadata"].get("namespace"), obj["metadata"]["name"])
        for obj in objects
        if obj["kind"] == "StatefulSet" and (is_systems(obj) or claims.component_of("StatefulSet", obj["metadata"]))
    }
    for obj in objects:
        kind, metadata = obj["kind"], obj["metadata"]
        place = (kind, metadata.get("namespace") or "", metadata["name"])
        if is_systems(obj) or place in referenced:
            continue
        if kind == "PersistentVolumeClaim" and any(
            where == place[1] and re.search(rf"-{re.escape(name)}-\d+$", place[2]) for where, name in sets
        ):
            continue
        component, release = claims.component_of(kind, metadata), release_of(metadata)
        if not component:
            yield Difference("", FOREIGN, spoken(obj), note=f"of the release {release[1]}" if release[1] else "")
            continue
        keeps = (metadata.get("annotations") or {}).get("helm.sh/resource-policy") == "keep"
        if (
            release in rendered
            and not keeps
            and (obj["apiVersion"].rpartition("/")[0], *place) not in rendered[release]
        ):
            yield Difference(component, EXTRA, spoken(obj), note=f"the release {release[1]} does not make it")


def referenced_by(objects: Iterable[tuple[str, Object]]) -> set[tuple[str, str, str]]:
    """Secrets and ConfigMaps that these objects, each with its namespace, name anywhere."""
    found: set[tuple[str, str, str]] = set()
    for namespace, obj in objects:
        where = (obj.get("metadata") or {}).get("namespace") or namespace
        found |= {(kind, where, name) for kind, name in _references(obj)}
    return found


def _references(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        name = value.get("name")
        if isinstance(name, str):
            if key in ("secretRef", "secretKeyRef", "secret", "imagePullSecrets"):
                yield "Secret", name
            elif key in ("configMapRef", "configMapKeyRef", "configMap"):
                yield "ConfigMap", name
        if isinstance(value.get("secretName"), str):
            yield "Secret", value["secretName"]
        for name, part in value.items():
            yield from _references(part, str(name))
    elif isinstance(value, list):
        for part in value:
            yield from _references(part, key)

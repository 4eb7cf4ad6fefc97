# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the current user may do what the roles will do: SelfSubjectAccessReviews, all at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import (
    all_or_error,
    concurrently,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
from ansible_collections.lambda_microservice.platform.plugins.module_utils.preflight.finding import (
    FAIL,
    Finding,
    passed,
)

WRITING = ("get", "create", "patch", "delete")
_RECORDS = ("get", "list", "create", "update", "patch", "delete")
"""What is done with Secrets where a release is: helm keeps its records in some, and roles make others."""
_READING = (("nodes", ""), ("pods", ""), ("namespaces", ""))

Right = tuple[str, str, str, str]
"""Verb, API group, resource, namespace (empty: all of them, or a kind without)."""


def wanted(
    cluster: Cluster, components: Iterable[dict[str, Any]], rendered: Iterable[tuple[str, Object]]
) -> set[Right]:
    """The rights that the plan needs. A kind that the cluster does not serve yet is guessed by its name."""
    objects = [
        (str((obj.get("metadata") or {}).get("namespace") or ""), obj) for one in components for obj in one["objects"]
    ]
    found: set[Right] = {("list", "", resource, namespace) for resource, namespace in _READING}
    for namespace, obj in [*objects, *((name, obj) for name, obj in rendered)]:
        if not isinstance(obj, dict) or "kind" not in obj:
            continue
        own = str((obj.get("metadata") or {}).get("namespace") or namespace)
        resource, scoped = _resource(cluster, str(obj.get("apiVersion") or ""), str(obj["kind"]))
        group = str(obj.get("apiVersion") or "").rpartition("/")[0]
        found |= {(verb, group, resource, own if scoped else "") for verb in WRITING}
    for one in components:
        for release in one["releases"]:
            found |= {(verb, "", "secrets", str(release["namespace"])) for verb in _RECORDS}
    return found


def _resource(cluster: Cluster, api_version: str, kind: str) -> tuple[str, bool]:
    try:
        if cluster.knows(api_version, kind):
            path = cluster.path(
                {"apiVersion": api_version, "kind": kind, "namespace": "", "name": "x"}, collection=True
            )
            return path.rpartition("/")[2], cluster.namespaced(api_version, kind)
    except PlatformError:
        pass  # An aggregated API whose server is away.
    name = kind.lower()
    plural = name[:-1] + "ies" if name.endswith("y") else name + "es" if name.endswith(("s", "ch")) else name + "s"
    return plural, True


def rights(cluster: Cluster, needed: set[Right]) -> Iterator[Finding]:
    """One question for who may do everything, else one for each right."""
    if _may(cluster, ("*", "*", "*", "")):
        yield passed("rights", f"this user may do everything, {len(needed)} rights that are needed among it")
        return
    ordered = sorted(needed)
    answers = all_or_error("rights could not be asked for", concurrently(lambda right: _may(cluster, right), ordered))
    lacking = [right for right, allowed in zip(ordered, answers, strict=True) if not allowed]
    if not lacking:
        yield passed("rights", f"{len(needed)} rights, all granted")
        return
    by_place: dict[tuple[str, str, str], list[str]] = {}
    for verb, group, resource, namespace in lacking:
        by_place.setdefault((group, resource, namespace), []).append(verb)
    told = [
        f"{', '.join(verbs)} {resource}{'.' + group if group else ''} in {namespace or 'the cluster'}"
        for (group, resource, namespace), verbs in by_place.items()
    ]
    yield Finding(
        "rights",
        FAIL,
        f"{len(lacking)} of {len(needed)} rights are missing: {'; '.join(told)}",
        "a role that grants them",
        "bind this user to cluster-admin for the installation, or to a role with these rules",
    )


def _may(cluster: Cluster, right: Right) -> bool:
    verb, group, resource, namespace = right
    attributes = {"verb": verb, "group": group, "resource": resource}
    if namespace:
        attributes["namespace"] = namespace
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    answer = cluster.request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=body, about=body)
    return bool((answer.get("status") or {}).get("allowed"))

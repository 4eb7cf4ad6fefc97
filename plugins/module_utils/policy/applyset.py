# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ApplySets: how a set of objects that were applied together is marked, so that any tool can find and prune it.

The specification is KEP-3659 (sig-cli), which ``kubectl apply --prune --applyset`` follows as well: a parent object
carries the set's id and says in which kinds and namespaces its members are; each member carries the id in a label.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object, ref_of

ID_LABEL = "applyset.kubernetes.io/id"
PART_OF_LABEL = "applyset.kubernetes.io/part-of"
TOOLING_ANNOTATION = "applyset.kubernetes.io/tooling"
GROUP_KINDS_ANNOTATION = "applyset.kubernetes.io/contains-group-kinds"
NAMESPACES_ANNOTATION = "applyset.kubernetes.io/additional-namespaces"

TOOL = "lambda-microservice-platform"
# The version is that of our use of the format. The collection's version would rewrite every parent on each upgrade.
TOOLING = TOOL + "/v1"
FIELD_MANAGER = TOOL
RECORD_PREFIX = "policy-"
"""Begins the records' names: a chart may well have a ConfigMap that is called like its batch."""


class GroupKind(NamedTuple):
    """A kind without its version: what the API server stores is the same under every version."""

    group: str
    kind: str

    def __str__(self) -> str:
        return f"{self.kind}.{self.group}" if self.group else self.kind

    @classmethod
    def of(cls, obj: Object) -> GroupKind:
        """The kind of an object or reference with ``apiVersion`` and ``kind``."""
        api_version = obj["apiVersion"]
        return cls(api_version.rpartition("/")[0], obj["kind"])

    @classmethod
    def parse(cls, text: str) -> GroupKind:
        """The reverse of ``str``. A kind has no dots, a group may."""
        kind, dummy, group = text.partition(".")
        return cls(group, kind)


NAMESPACE = GroupKind("", "Namespace")
SERVICE = GroupKind("", "Service")
ENDPOINTS = GroupKind("", "Endpoints")
CUSTOM_RESOURCE_DEFINITION = GroupKind("apiextensions.k8s.io", "CustomResourceDefinition")

Key = tuple[GroupKind, str, str]


def key_of(obj: Object) -> Key:
    """What makes an object the same one: kind, namespace and name."""
    ref = ref_of(obj)
    return GroupKind.of(ref), ref["namespace"], ref["name"]


def label_of(obj: Object, label: str) -> str | None:
    """The value of an object's label."""
    return (obj["metadata"].get("labels") or {}).get(label)


class Scope(NamedTuple):
    """Where members are: kinds, and the namespaces besides the parent's."""

    kinds: frozenset[GroupKind] = frozenset()
    namespaces: frozenset[str] = frozenset()

    def union(self, other: Scope) -> Scope:
        """Both."""
        return Scope(self.kinds | other.kinds, self.namespaces | other.namespaces)


class ApplySet:
    """The set whose parent is the ConfigMap ``name`` in ``namespace``."""

    def __init__(self, name: str, namespace: str) -> None:
        self.name = name
        self.namespace = namespace
        self.id = applyset_id(name, namespace, "ConfigMap", "")

    @property
    def ref(self) -> Object:
        """The parent's reference."""
        return {"apiVersion": "v1", "kind": "ConfigMap", "name": self.name, "namespace": self.namespace}

    @property
    def selector(self) -> str:
        """The label selector of the members, and of what controllers have copied their labels to."""
        return f"{PART_OF_LABEL}={self.id}"

    def claims(self, obj: Object) -> bool:
        """Whether the object carries the set's label."""
        return label_of(obj, PART_OF_LABEL) == self.id

    def foreign_id(self, obj: Object) -> str | None:
        """The id of the other set that the object is a member of."""
        found = label_of(obj, PART_OF_LABEL)
        return found if found != self.id else None

    def scope_of(self, objects: Iterable[Object]) -> Scope:
        """The scope that these objects need."""
        everything = list(objects)
        namespaces = {obj["metadata"].get("namespace", "") for obj in everything} - {"", self.namespace}
        return Scope(frozenset(GroupKind.of(obj) for obj in everything), frozenset(namespaces))

    def parent(self, scope: Scope) -> Object:
        """The parent as it is to be applied."""
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "labels": {
                    ID_LABEL: self.id,
                    "app.kubernetes.io/part-of": TOOL,
                },
                "annotations": {
                    TOOLING_ANNOTATION: TOOLING,
                    GROUP_KINDS_ANNOTATION: ",".join(sorted(str(kind) for kind in scope.kinds)),
                    NAMESPACES_ANNOTATION: ",".join(sorted(scope.namespaces - {self.namespace})),
                },
            },
        }

    def read_parent(self, parent: Object | None) -> Scope:
        """The scope that the live parent records. An object that is not this set's parent is an error."""
        if parent is None:
            return Scope()
        metadata = parent["metadata"]
        labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
        where = f"ConfigMap {self.namespace}/{self.name}"
        tooling = annotations.get(TOOLING_ANNOTATION, "")
        if tooling.partition("/")[0] != TOOL:
            raise PlatformError(
                "the batch's record belongs to something else",
                where=where,
                found=f"tooling {tooling}" if tooling else f"an object without the annotation {TOOLING_ANNOTATION}",
                expected=f"no such ConfigMap, or one that {TOOL} has made",
                fix="give the batch another name, or remove that ConfigMap if nothing needs it",
                reason="conflict",
            )
        if labels.get(ID_LABEL) != self.id:
            raise PlatformError(
                "the batch's record carries another id",
                where=where,
                found=f"{ID_LABEL}: {labels.get(ID_LABEL)}",
                expected=self.id,
                fix="set the label to the expected id (the members' labels name it), then run again",
                reason="conflict",
            )
        if GROUP_KINDS_ANNOTATION not in annotations:
            # An empty set has an empty annotation. The specification takes a missing one for "look everywhere".
            raise PlatformError(
                "the batch's record does not say which kinds it has",
                where=where,
                found=f"no annotation {GROUP_KINDS_ANNOTATION}",
                expected="the kinds of the batch's members (Kind.group, separated by commas), empty for none",
                fix="set the annotation to every kind of which the batch may have objects, then run again",
                reason="conflict",
            )
        return Scope(
            frozenset(GroupKind.parse(text) for text in _split(annotations.get(GROUP_KINDS_ANNOTATION))),
            frozenset(_split(annotations.get(NAMESPACES_ANNOTATION))),
        )

    def labelled(self, obj: Object) -> Object:
        """A copy of the object with the member's label."""
        metadata = dict(obj["metadata"])
        metadata["labels"] = {**(metadata.get("labels") or {}), PART_OF_LABEL: self.id}
        return {**obj, "metadata": metadata}


def applyset_id(name: str, namespace: str, kind: str, group: str) -> str:
    """The id in the format v1 of KEP-3659: base64url(sha256("name.namespace.kind.group")) without padding."""
    digest = hashlib.sha256(f"{name}.{namespace}.{kind}.{group}".encode()).digest()
    return f"applyset-{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}-v1"


def owner_of(obj: Object, live: dict[Key, Object], record_uid: str | None) -> str | None:
    """Who made and keeps an object that carries the label without being a member (``ReplicaSet web-5d4f``), or None.

    Controllers copy labels to what they make. Such objects have owner references; KEP-3659 accepts only the record's
    own. The Endpoints of a Service with a selector have none, though they are a copy of it in the same way. ``live``
    are the objects that carry the label.
    """
    for reference in obj["metadata"].get("ownerReferences") or []:
        if reference.get("uid") != record_uid:
            return f"{reference.get('kind')} {reference.get('name')}"
    kind, namespace, name = key_of(obj)
    if kind == ENDPOINTS:
        service = live.get((SERVICE, namespace, name))
        if service is not None and (service.get("spec") or {}).get("selector"):
            return f"Service {name}"
    return None


def _split(annotation: str | None) -> list[str]:
    return [text.strip() for text in (annotation or "").split(",") if text.strip()]

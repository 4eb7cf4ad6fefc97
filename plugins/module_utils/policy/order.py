# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The order in which a batch is written and deleted, and which refusals of a later wave an earlier one may lift."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy.applyset import (
    CUSTOM_RESOURCE_DEFINITION,
    NAMESPACE,
    GroupKind,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy.objects import defined_kinds

NEVER_DELETED = frozenset(
    {
        NAMESPACE,
        CUSTOM_RESOURCE_DEFINITION,
        GroupKind("", "PersistentVolume"),
        GroupKind("", "PersistentVolumeClaim"),
    }
)
"""Kinds whose deletion takes along what others have put into them. The module lets go of such objects instead."""

_RBAC = "rbac.authorization.k8s.io"
_ADMISSION = "admissionregistration.k8s.io"
_LIMITS = frozenset({GroupKind("", "ResourceQuota"), GroupKind("", "LimitRange")})

# The order of creation; kinds that are not listed come before the last wave. What others refer to at the moment of
# their creation comes first; what can refuse or change other objects comes last, so that a batch is not in its own way.
_WAVES: tuple[frozenset[GroupKind], ...] = (
    frozenset({NAMESPACE}),
    frozenset(
        {
            CUSTOM_RESOURCE_DEFINITION,
            GroupKind("scheduling.k8s.io", "PriorityClass"),
            GroupKind("storage.k8s.io", "StorageClass"),
            GroupKind("node.k8s.io", "RuntimeClass"),
            GroupKind("networking.k8s.io", "IngressClass"),
            GroupKind(_RBAC, "ClusterRole"),
            GroupKind(_RBAC, "Role"),
            *_LIMITS,
            GroupKind("", "ServiceAccount"),
            GroupKind("networking.k8s.io", "NetworkPolicy"),
            GroupKind(_ADMISSION, "ValidatingAdmissionPolicy"),
        }
    ),
    frozenset(
        {
            GroupKind("", "ConfigMap"),
            GroupKind("", "Secret"),
            GroupKind("", "Service"),
            GroupKind("", "PersistentVolume"),
            GroupKind("", "PersistentVolumeClaim"),
            GroupKind(_RBAC, "ClusterRoleBinding"),
            GroupKind(_RBAC, "RoleBinding"),
        }
    ),
    frozenset(
        {
            GroupKind(_ADMISSION, "ValidatingAdmissionPolicyBinding"),
            GroupKind(_ADMISSION, "ValidatingWebhookConfiguration"),
            GroupKind(_ADMISSION, "MutatingWebhookConfiguration"),
            GroupKind(_ADMISSION, "MutatingAdmissionPolicyBinding"),
            GroupKind("apiregistration.k8s.io", "APIService"),
        }
    ),
)
_REST = len(_WAVES) - 1

DEFINITIONS_WAVE = 1
"""The wave after which the kinds of the batch's own CustomResourceDefinitions are served."""


def wave_of(kind: GroupKind) -> int:
    """The position of a kind in the order of creation."""
    for wave, kinds in enumerate(_WAVES):
        if kind in kinds:
            # The last listed wave comes after the kinds that are not listed.
            return wave if wave < _REST else wave + 1
    return _REST


def in_waves(objects: Iterable[Object]) -> list[list[Object]]:
    """The objects in the order of creation, those of one wave together."""
    waves: dict[int, list[Object]] = {}
    for obj in objects:
        waves.setdefault(wave_of(GroupKind.of(obj)), []).append(obj)
    return [members for _wave, members in sorted(waves.items())]


def that_may_lift(refusal: PlatformError, obj: Object, changing: Iterable[Object]) -> list[Object]:
    """Those of the changing objects that are written before ``obj`` and may be what its refusal is about.

    A refusal that names an object (``no PriorityClass with name high was found``) is about this object. Others are
    about a kind of object: what a quota refuses, a changed quota may let through.
    """
    wave = wave_of(GroupKind.of(obj))
    earlier = [other for other in changing if wave_of(GroupKind.of(other)) < wave]
    return [other for other in earlier if _may_lift(refusal, obj, other)]


def _may_lift(refusal: PlatformError, obj: Object, other: Object) -> bool:
    kind, metadata = GroupKind.of(other), other["metadata"]
    namespace = obj["metadata"].get("namespace", "")
    if refusal.reason in ("invalid", "kind", "missing") and (obj["apiVersion"], obj["kind"]) in defined_kinds([other]):
        return True
    if refusal.reason not in ("admission", "quota", "missing", "forbidden", "webhook"):
        return False
    if metadata.get("namespace", namespace) != namespace:
        return False
    text = f"{refusal.what} {refusal.found}"
    # The refused object is named too, and a batch's objects are often called alike.
    text = re.sub(rf'"?{re.escape(obj["metadata"]["name"])}"? is (?:forbidden|invalid)', "", text)
    named = re.search(rf"(?<![\w.-]){re.escape(metadata['name'])}(?![\w-])(?!\.\w)", text) is not None
    if named and kind.kind.lower() in re.sub(r"[ _-]", "", text).lower():
        return True
    if kind == NAMESPACE:
        # Its labels choose the Pod Security level, and which webhooks and admission policies are asked. A controller
        # makes the account in a new one.
        about = r'Pod ?Security|webhook|admission policy|serviceaccount "default"'
        return metadata["name"] == namespace and bool(re.search(about, text))
    if kind in _LIMITS:
        # LimitRanger: "maximum cpu usage per Container is 1, but limit is 2".
        return bool(re.search(r"quota| per (?:Container|Pod|PersistentVolumeClaim)\b", text, re.IGNORECASE))
    if kind.group == _RBAC:
        return refusal.reason == "forbidden"
    if kind.group == _ADMISSION:
        return named
    # An admission policy whose parameters come with the batch: objects of any kind.
    return "no params found" in text


def lasts(refusal: PlatformError, changing: Iterable[Object]) -> bool:
    """Whether a dry run's refusal to remove an object will be the same once these objects are written or removed.

    What neither access control nor admission says is left to the removal itself.
    """
    groups = {GroupKind.of(obj).group for obj in changing}
    if refusal.reason == "forbidden":
        return _RBAC not in groups
    return refusal.reason in ("admission", "webhook") and _ADMISSION not in groups

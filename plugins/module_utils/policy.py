# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The logic of the module ``policy``: one batch of objects, applied, pruned and recorded as one ApplySet.

A run that is killed at any moment leaves nothing that the next run does not finish: the record (the ApplySet's parent)
names every kind and namespace before an object of it can exist, and is narrowed only after pruning.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.applyset import (
    PART_OF_LABEL,
    TOOL,
    ApplySet,
    GroupKind,
    Scope,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.cluster import (
    Cluster,
    auth_argument_spec,
    concurrently,
    ref_of,
    spoken,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy_compare import (
    changed_fields,
    diff_of,
    is_applied,
    with_encoded_data,
    without_nulls,
)

Object = dict[str, Any]
Key = tuple[GroupKind, str, str]

FIELD_MANAGER = TOOL

ARGUMENT_SPEC: dict[str, Any] = {
    **auth_argument_spec(),
    "name": {"type": "str", "required": True},
    "namespace": {"type": "str", "required": True},
    "objects": {"type": "list", "elements": "dict", "default": []},
    "prune": {"type": "bool", "default": True},
    "unserved": {"type": "str", "choices": ["fail", "skip"], "default": "fail"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}

NAMESPACE = GroupKind("", "Namespace")
CUSTOM_RESOURCE_DEFINITION = GroupKind("apiextensions.k8s.io", "CustomResourceDefinition")

NEVER_DELETED = frozenset(
    {
        NAMESPACE,
        CUSTOM_RESOURCE_DEFINITION,
        GroupKind("", "PersistentVolume"),
        GroupKind("", "PersistentVolumeClaim"),
    }
)
"""Kinds whose deletion takes along what others have put into them. The module lets go of such objects instead."""

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
            GroupKind("rbac.authorization.k8s.io", "ClusterRole"),
            GroupKind("rbac.authorization.k8s.io", "Role"),
            GroupKind("", "ResourceQuota"),
            GroupKind("", "LimitRange"),
            GroupKind("", "ServiceAccount"),
            GroupKind("networking.k8s.io", "NetworkPolicy"),
            GroupKind("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
        }
    ),
    frozenset(
        {
            GroupKind("", "ConfigMap"),
            GroupKind("", "Secret"),
            GroupKind("", "Service"),
            GroupKind("", "PersistentVolume"),
            GroupKind("", "PersistentVolumeClaim"),
            GroupKind("rbac.authorization.k8s.io", "ClusterRoleBinding"),
            GroupKind("rbac.authorization.k8s.io", "RoleBinding"),
        }
    ),
    frozenset(
        {
            GroupKind("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"),
            GroupKind("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
            GroupKind("admissionregistration.k8s.io", "MutatingWebhookConfiguration"),
            GroupKind("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding"),
            GroupKind("apiregistration.k8s.io", "APIService"),
        }
    ),
)
_REST = len(_WAVES) - 1

_ESTABLISHED_SECONDS = 30

# A Namespace and a ConfigMap name hold 63 and 253 characters; the parent's name has a prefix.
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,51}[a-z0-9])?")


def run(params: Object, check_mode: bool, diff: bool, progress: Callable[[str], None] | None = None) -> Object:
    """Apply (or remove) the batch in ``params`` (the validated :data:`ARGUMENT_SPEC`) and return the task's result."""
    batch = Batch(Cluster(params), params["name"], params["namespace"], check_mode, progress)
    if params["state"] == "absent":
        batch.remove(params["objects"])
    else:
        batch.apply(params["objects"], params["prune"], skip_unserved=params["unserved"] == "skip")
    return batch.result(diff)


def wave_of(kind: GroupKind) -> int:
    """The position of a kind in the order of creation."""
    for wave, kinds in enumerate(_WAVES):
        if kind in kinds:
            # The last listed wave comes after the kinds that are not listed.
            return wave if wave < _REST else wave + 1
    return _REST


def key_of(obj: Object) -> Key:
    """What makes an object the same one."""
    ref = ref_of(obj)
    return GroupKind.of(ref), ref["namespace"], ref["name"]


class Batch:
    """One run over one batch. Public methods raise one PlatformError that lists every failure."""

    def __init__(
        self,
        cluster: Cluster,
        name: str,
        namespace: str,
        check_mode: bool = False,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        for option, value in (("name", name), ("namespace", namespace)):
            if not _NAME.fullmatch(value):
                raise PlatformError(
                    f"{option} is not usable",
                    found=repr(value),
                    expected="lower-case letters, digits and hyphens, at most 53 characters",
                    fix=f"change {option}",
                    reason="argument",
                )
        self.cluster = cluster
        # Not the bare name: a chart may well have a ConfigMap that is called like its batch.
        self.applyset = ApplySet(f"policy-{name}", namespace)
        self.name = name
        self.check_mode = check_mode
        self.progress = progress or (lambda line: None)
        self.notes: list[str] = []
        self._outcomes: list[Object] = []
        self._differences: list[tuple[str, Object | None, Object | None]] = []

    # --- state: present ----------------------------------------------------------------------------------------------

    def apply(self, objects: list[Object], prune: bool = True, skip_unserved: bool = False) -> None:
        """Make the cluster hold these objects, and of this batch no others."""
        wanted = self._prepared(objects, skip_unserved)
        parent = self.cluster.get(self.applyset.ref)
        recorded = self.applyset.read_parent(parent)
        needed = self.applyset.scope_of(wanted)
        live = self._live(wanted, self._members(recorded.union(needed), wanted))
        changes = self._changes(wanted, live)
        stale = self._stale({key_of(obj) for obj in wanted}, live)

        kept_scope = needed if prune else needed.union(self.applyset.scope_of(stale))
        # The record needs its namespace, which may be one of the batch's. All else comes after it.
        first = [(0, [obj for _wave, members in changes for obj in members if self._is_home(obj)])]
        self._write_waves(first)
        self._write_parent(parent, recorded.union(needed), kept_scope)
        self._write_waves([(wave, [obj for obj in members if not self._is_home(obj)]) for wave, members in changes])
        if prune:
            self._delete(stale)
        else:
            for obj in stale:
                self._note_outcome(obj, "kept", [])
        self._narrow_parent(recorded.union(needed), kept_scope)

    def _is_home(self, obj: Object) -> bool:
        return GroupKind.of(obj) == NAMESPACE and obj["metadata"]["name"] == self.applyset.namespace

    def _prepared(self, objects: list[Object], skip_unserved: bool) -> list[Object]:
        """The objects as they are to be applied: checked, with their namespace, the label and nothing null."""
        errors: list[PlatformError] = []
        prepared: dict[Key, Object] = {}
        checked = []
        for index, given in enumerate(objects):
            problem = _malformed(index, given)
            if problem:
                errors.append(problem)
            else:
                checked.append((index, without_nulls(given)))
        # Read what the cluster serves at once and not version by version.
        versions = sorted({obj["apiVersion"] for _index, obj in checked})
        for answer in concurrently(lambda version: self.cluster.knows(version, ""), versions):
            if isinstance(answer, PlatformError):
                raise answer
        defined = _defined_kinds([obj for _index, obj in checked])
        if skip_unserved:
            checked = self._served(checked, defined)
        for index, obj in checked:
            try:
                obj = self._placed(obj, index, defined)
            except PlatformError as error:
                errors.append(error)
                continue
            if key_of(obj) in prepared:
                errors.append(
                    PlatformError(
                        "an object is in the batch twice",
                        where=f"objects[{index}], {spoken(obj)}",
                        expected="each object once",
                        fix="remove one of the two",
                        reason="argument",
                    )
                )
            prepared[key_of(obj)] = self.applyset.labelled(with_encoded_data(obj))
        if errors:
            raise self._failed("the batch has %d wrong objects" % len(errors), errors)
        return list(prepared.values())

    def _served(
        self, checked: list[tuple[int, Object]], defined: dict[tuple[str, str], bool]
    ) -> list[tuple[int, Object]]:
        """What the cluster knows; of an object that is given in several versions, the first of them."""
        served: list[tuple[int, Object]] = []
        version_of: dict[Key, str] = {}
        left_out: dict[Key, list[str]] = {}
        for index, obj in checked:
            version, key = obj["apiVersion"], key_of(obj)
            if not self.cluster.knows(version, obj["kind"]) and (version, obj["kind"]) not in defined:
                left_out.setdefault(key, []).append(version)
            elif version_of.setdefault(key, version) == version:
                served.append((index, obj))
        for key, versions in left_out.items():
            if key not in version_of:
                note = f"{key[0].kind} {key[2]} was left out: this cluster does not serve {' or '.join(versions)}"
                self.notes.append(note)
                self.progress(note)
        return served

    def _placed(self, obj: Object, index: int, defined: dict[tuple[str, str], bool]) -> Object:
        """The object in its namespace. ``defined`` are the kinds that the batch's own CRDs bring."""
        api_version, kind = obj["apiVersion"], obj["kind"]
        namespace = obj["metadata"].get("namespace")
        if self.cluster.knows(api_version, kind):
            namespaced = self.cluster.namespaced(api_version, kind)
        elif (api_version, kind) in defined:
            namespaced = defined[(api_version, kind)]
        elif self.check_mode and "." in api_version:
            # A group with a dot may be a CustomResourceDefinition's, which an earlier task would have installed.
            self.notes.append(
                f"{spoken(obj)}: the cluster does not know {kind} of {api_version} yet, so the object was not checked"
            )
            namespaced = True
        else:
            # Its message says what the cluster knows instead.
            self.cluster.path(obj)
            namespaced = True
        if not namespaced and namespace:
            raise PlatformError(
                f"a {kind} cannot be in a namespace",
                where=f"objects[{index}], {spoken(obj)}",
                found=f"metadata.namespace: {namespace}",
                expected="no metadata.namespace, objects of this kind belong to the whole cluster",
                fix="remove metadata.namespace",
                reason="argument",
            )
        if namespaced and not namespace:
            obj = {**obj, "metadata": {**obj["metadata"], "namespace": self.applyset.namespace}}
        return obj

    def _live(self, wanted: list[Object], members: dict[Key, Object]) -> dict[Key, Object]:
        """Members, and the objects of the batch that exist without being members yet."""
        live = dict(members)
        missing = [obj for obj in wanted if key_of(obj) not in live]
        for obj, found in zip(missing, self.cluster.get_many(missing), strict=True):
            if found is not None:
                live[key_of(obj)] = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], **found}
        return live

    def _changes(self, wanted: list[Object], live: dict[Key, Object]) -> list[tuple[int, list[Object]]]:
        """What must be written, wave by wave. Nothing is written unless the cluster accepts all of it in a dry run."""
        errors: list[PlatformError] = []
        unsure = []
        for obj in wanted:
            found = live.get(key_of(obj))
            if found is not None and found["metadata"].get("deletionTimestamp"):
                errors.append(_terminating(obj, found))
            elif found is not None and is_applied(obj, found, FIELD_MANAGER):
                self._note_outcome(obj, "unchanged", [])
            else:
                unsure.append(obj)

        coming = {obj["metadata"]["name"] for obj in unsure if GroupKind.of(obj) == NAMESPACE}
        tried = concurrently(lambda obj: self._tried(obj, coming), unsure)
        changes: dict[int, list[Object]] = {}
        for obj, outcome in zip(unsure, tried, strict=True):
            if isinstance(outcome, PlatformError):
                errors.append(outcome)
                continue
            found = live.get(key_of(obj))
            fields = changed_fields(found, outcome) if found is not None else []
            if found is not None and not fields:
                self._note_outcome(obj, "unchanged", [])
                continue
            self._note_outcome(obj, "updated" if found is not None else "created", fields)
            self._differences.append((spoken(obj), found, outcome if found is not None else obj))
            changes.setdefault(wave_of(GroupKind.of(obj)), []).append(obj)
        if errors:
            raise self._failed(
                "%d of %d objects cannot be applied, and nothing was changed" % (len(errors), len(wanted)), errors
            )
        return sorted(changes.items())

    def _tried(self, obj: Object, coming: set[str]) -> Object:
        """The object as the API server would store it, by a dry run where one is possible."""
        namespace = obj["metadata"].get("namespace", "")
        if namespace in coming or not self.cluster.knows(obj["apiVersion"], obj["kind"]):
            return obj
        try:
            return self.cluster.apply(obj, FIELD_MANAGER, dry_run=True)
        except PlatformError as error:
            if "does not support dry run" in str(error):
                # A webhook with side effects. The object is refused or not when it is written.
                self.notes.append(
                    f"{spoken(obj)}: could not be checked beforehand, an admission webhook has no dry run"
                )
                return obj
            if self.check_mode and error.reason == "not_found" and namespace:
                # An earlier task of the same play would have made the namespace.
                self.notes.append(
                    f"{spoken(obj)}: the namespace {namespace} does not exist yet, so only the kind was checked"
                )
                return obj
            raise

    def _write_waves(self, waves: list[tuple[int, list[Object]]]) -> None:
        if self.check_mode:
            return
        for _wave, objects in waves:
            errors = []
            for outcome in concurrently(lambda obj: self.cluster.apply(obj, FIELD_MANAGER), objects):
                if isinstance(outcome, PlatformError):
                    errors.append(outcome)
            if errors:
                raise self._failed(
                    "%d of %d objects could not be applied; a run after the correction finishes the batch"
                    % (len(errors), len(objects)),
                    errors,
                )
            crds = [obj for obj in objects if GroupKind.of(obj) == CUSTOM_RESOURCE_DEFINITION]
            if crds:
                self._await_established(crds)

    def _await_established(self, crds: list[Object]) -> None:
        """Until the API server serves the new kinds, objects of them are refused as unknown."""
        deadline = time.monotonic() + _ESTABLISHED_SECONDS
        while True:
            waiting = [
                obj
                for obj, live in zip(crds, self.cluster.get_many(crds), strict=True)
                if not _has_condition(live, "Established")
            ]
            if not waiting:
                self.cluster.forget_resources()
                return
            if time.monotonic() > deadline:
                raise PlatformError(
                    "the API server does not serve new kinds",
                    where=", ".join(spoken(obj) for obj in waiting),
                    found=f"no condition Established after {_ESTABLISHED_SECONDS} s",
                    expected="Established",
                    fix="see the conditions of the CustomResourceDefinition (kubectl describe crd)",
                    reason="not_established",
                )
            time.sleep(0.1)

    # --- state: absent -----------------------------------------------------------------------------------------------

    def remove(self, objects: list[Object]) -> None:
        """Delete every member of the batch, then its record. ``objects`` only help to find members without a record."""
        parent = self.cluster.get(self.applyset.ref)
        scope = self.applyset.read_parent(parent)
        named = [without_nulls(obj) for index, obj in enumerate(objects) if _malformed(index, obj) is None]
        named = [obj for obj in named if self.cluster.knows(obj["apiVersion"], obj["kind"])]
        stale = self._stale(set(), self._members(scope.union(self.applyset.scope_of(named)), named))
        self._delete(stale)
        if parent is not None and not parent["metadata"].get("deletionTimestamp"):
            # Last, so that an interrupted run can still find the members.
            self._note_outcome(parent, "deleted", [])
            if not self.check_mode:
                self.cluster.delete(self.applyset.ref, uid=parent["metadata"]["uid"])

    # --- members -----------------------------------------------------------------------------------------------------

    def _members(self, scope: Scope, wanted: list[Object]) -> dict[Key, Object]:
        """The live objects that carry the batch's label, in the kinds and namespaces of the scope."""
        versions = {GroupKind.of(obj): obj["apiVersion"] for obj in wanted}
        where: list[tuple[str, str, str | None]] = []
        for kind in sorted(scope.kinds):
            api_version = versions.get(kind) or self._served_version(kind)
            if not api_version or not self.cluster.knows(api_version, kind.kind):
                # Its CRD is gone, and all objects of the kind with it; or it comes with this batch.
                continue
            if self.cluster.namespaced(api_version, kind.kind):
                where.extend(
                    (api_version, kind.kind, name) for name in sorted({*scope.namespaces, self.applyset.namespace})
                )
            else:
                where.append((api_version, kind.kind, None))
        answers = concurrently(lambda place: self.cluster.list(*place, label_selector=self.applyset.selector), where)
        errors = [answer for answer in answers if isinstance(answer, PlatformError)]
        if errors:
            raise self._failed("the batch's objects cannot be read", errors)
        return {key_of(obj): obj for answer in answers for obj in answer}

    def _served_version(self, kind: GroupKind) -> str | None:
        """Any version in which the cluster serves a kind that only the record names."""
        for known in self.cluster.api_versions():
            api_version, dummy, name = known.rpartition("/")
            if name == kind.kind and api_version and api_version.rpartition("/")[0] == kind.group:
                return api_version
        return None

    def _stale(self, wanted: set[Key], live: dict[Key, Object]) -> list[Object]:
        """Members that the batch does not name, in the order of their deletion."""
        stale = [
            obj
            for key, obj in live.items()
            if key not in wanted
            and (obj["metadata"].get("labels") or {}).get(PART_OF_LABEL) == self.applyset.id
            and not obj["metadata"].get("deletionTimestamp")
        ]
        return sorted(stale, key=lambda obj: (-wave_of(GroupKind.of(obj)), *key_of(obj)))

    def _delete(self, stale: list[Object]) -> None:
        """Delete members, or let go of those that must not be deleted."""
        waves: dict[int, list[Object]] = {}
        for obj in stale:
            if GroupKind.of(obj) in NEVER_DELETED:
                self._note_outcome(obj, "released", [])
                self.notes.append(
                    f"{spoken(obj)} is not part of the batch any more. It stays, because what it holds would go with "
                    "it: delete it by hand if it is not needed"
                )
            else:
                self._note_outcome(obj, "deleted", [])
                self._differences.append((spoken(obj), obj, None))
            waves.setdefault(wave_of(GroupKind.of(obj)), []).append(obj)
        if self.check_mode:
            return
        errors = []
        for _wave, objects in sorted(waves.items(), reverse=True):
            answers = concurrently(self._delete_one, objects)
            errors.extend(answer for answer in answers if isinstance(answer, PlatformError))
        if errors:
            raise self._failed(
                "%d of %d objects that the batch does not name could not be removed" % (len(errors), len(stale)), errors
            )

    def _delete_one(self, obj: Object) -> None:
        uid = obj["metadata"]["uid"]
        if GroupKind.of(obj) in NEVER_DELETED:
            # With its uid: an object of the same name that was made in the meantime is not ours to touch.
            self.cluster.patch(obj, {"metadata": {"uid": uid, "labels": {PART_OF_LABEL: None}}}, FIELD_MANAGER)
        else:
            self.cluster.delete(obj, uid=uid)

    # --- the record --------------------------------------------------------------------------------------------------

    def _write_parent(self, parent: Object | None, superset: Scope, final: Scope) -> None:
        """Record every kind and namespace that the run may touch, before it does."""
        wanted = self.applyset.parent(superset)
        if parent is not None and is_applied(wanted, parent, FIELD_MANAGER):
            self._recorded = parent
        elif self.check_mode:
            self._recorded = wanted
        else:
            self._recorded = self.cluster.apply(wanted, FIELD_MANAGER)
        if parent is None:
            self._note_outcome(wanted, "created", [])
        else:
            narrowed = self.applyset.parent(final)
            fields = [] if is_applied(narrowed, parent, FIELD_MANAGER) else ["metadata.annotations"]
            self._note_outcome(wanted, "updated" if fields else "unchanged", fields)

    def _narrow_parent(self, superset: Scope, final: Scope) -> None:
        """Record what is left once nothing else can be."""
        if final != superset and not self.check_mode:
            self.cluster.apply(self.applyset.parent(final), FIELD_MANAGER)

    # --- result ------------------------------------------------------------------------------------------------------

    def _note_outcome(self, obj: Object, action: str, fields: list[str]) -> None:
        self._outcomes.append({**ref_of(obj), "action": action, "fields": fields})

    def _failed(self, what: str, errors: list[PlatformError]) -> PlatformError:
        return PlatformError.of_many(f"batch {self.name}: {what}", errors)

    def result(self, diff: bool = False) -> Object:
        """The task's result."""
        outcomes = sorted(self._outcomes, key=lambda entry: (entry["kind"], entry["namespace"], entry["name"]))
        counts: dict[str, int] = {}
        for entry in outcomes:
            counts[entry["action"]] = counts.get(entry["action"], 0) + 1
        said = ", ".join(f"{number} {action}" for action, number in sorted(counts.items())) or "nothing to do"
        result: Object = {
            "changed": any(action not in ("unchanged", "kept") for action in counts),
            "msg": f"batch {self.name}: {said}",
            "objects": outcomes,
            "applyset": {"name": self.applyset.name, "namespace": self.applyset.namespace, "id": self.applyset.id},
            "notes": self.notes,
        }
        if diff:
            result["diff"] = [diff_of(*difference) for difference in self._differences]
        return result


def _malformed(index: int, obj: Object) -> PlatformError | None:
    metadata = obj.get("metadata")
    found = ""
    for path, value in (
        ("apiVersion", obj.get("apiVersion")),
        ("kind", obj.get("kind")),
        ("metadata.name", metadata.get("name") if isinstance(metadata, dict) else None),
    ):
        if not isinstance(value, str) or not value:
            found = f"{path}: {value!r}"
            break
    if not found and metadata.get("namespace") is not None and not isinstance(metadata["namespace"], str):
        found = f"metadata.namespace: {metadata['namespace']!r}"
    if not found and not isinstance(metadata.get("labels") or {}, dict):
        found = f"metadata.labels: {type(metadata['labels']).__name__}"
    if not found and PART_OF_LABEL in (metadata.get("labels") or {}):
        found = f"the label {PART_OF_LABEL}, which the module sets itself"
    if not found:
        return None
    return PlatformError(
        "an object of the batch is malformed",
        where=f"objects[{index}]"
        + (f", {obj.get('kind')} {metadata.get('name')}" if isinstance(metadata, dict) else ""),
        found=found,
        expected="apiVersion, kind and metadata.name as non-empty strings; labels without ApplySet's own",
        fix="correct the object",
        reason="argument",
    )


def _defined_kinds(objects: list[Object]) -> dict[tuple[str, str], bool]:
    """The kinds that the CRDs among these objects bring: (apiVersion, kind) to whether they are namespaced."""
    defined = {}
    for obj in objects:
        if GroupKind.of(obj) != CUSTOM_RESOURCE_DEFINITION:
            continue
        spec = obj.get("spec") or {}
        for version in spec.get("versions") or []:
            kind = (spec.get("names") or {}).get("kind", "")
            defined[(f"{spec.get('group')}/{version.get('name')}", kind)] = spec.get("scope") == "Namespaced"
    return defined


def _terminating(obj: Object, live: Object) -> PlatformError:
    finalizers = live["metadata"].get("finalizers") or (live.get("spec") or {}).get("finalizers") or []
    return PlatformError(
        "the object is being deleted",
        where=spoken(obj),
        found=f"deletion requested at {live['metadata']['deletionTimestamp']}"
        + (f", waiting for {', '.join(finalizers)}" if finalizers else ""),
        expected="an object that is not being deleted",
        fix="wait until it is gone, then run again",
        reason="terminating",
    )


def _has_condition(obj: Object | None, condition: str) -> bool:
    conditions = ((obj or {}).get("status") or {}).get("conditions") or []
    return any(entry.get("type") == condition and entry.get("status") == "True" for entry in conditions)

# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The logic of the module ``policy``: one batch of objects, applied, pruned and recorded as one ApplySet.

A run that is killed at any moment leaves nothing that the next run does not finish: the record (the ApplySet's parent)
names every kind and namespace before an object of it can exist, and is narrowed only when the objects are gone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import concurrently, wait_until
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import (
    Cluster,
    auth_argument_spec,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import (
    Object,
    ref_of,
    spoken,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.workloads import condition_of
from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy.applyset import (
    CUSTOM_RESOURCE_DEFINITION,
    FIELD_MANAGER,
    ID_LABEL,
    NAMESPACE,
    PART_OF_LABEL,
    RECORD_PREFIX,
    ApplySet,
    GroupKind,
    Key,
    Scope,
    key_of,
    label_of,
    owner_of,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy.compare import (
    changed_fields,
    diff_of,
    is_applied,
    overlaid,
    without_nulls,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy.members import (
    Unreadable,
    labelled_objects,
    spoken_set,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy.objects import (
    Preparation,
    defined_kinds,
    documents,
    in_files,
    malformed,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy.order import (
    NEVER_DELETED,
    in_waves,
    lasts,
    that_may_lift,
    wave_of,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy.peers import with_found_peers
from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy.record import Record

ARGUMENT_SPEC: dict[str, Any] = {
    **auth_argument_spec(),
    "name": {"type": "str", "required": True},
    "namespace": {"type": "str", "required": True},
    # Not dict: an empty document of a YAML stream is null.
    "objects": {"type": "list", "elements": "raw", "default": []},
    "files": {"type": "list", "elements": "path", "default": []},
    "prune": {"type": "bool", "default": True},
    "existing": {"type": "str", "choices": ["adopt", "leave"], "default": "adopt"},
    "unserved": {"type": "str", "choices": ["fail", "skip"], "default": "fail"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "definitions_unless_used": {"type": "list", "elements": "str", "default": []},
}

ESTABLISHED_SECONDS = 120
"""How long the API server may take to serve the kinds of a new CustomResourceDefinition. The ten of
prometheus-operator, 2.4 MB, took more than 30 s on two cores that compiled something else."""

SETTLED_SECONDS = 10
"""How long an admission plugin may take to see what an earlier wave has written (a PriorityClass, a quota)."""

GONE_SECONDS = 30
"""How long a deleted object's finalizers and grace periods are waited for, wave by wave."""

# A Namespace's name is a DNS label of at most 63 characters. A batch's leaves room for its record's prefix.
_NAMES = {"name": 53, "namespace": 63}
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


def run(
    params: Object,
    check_mode: bool,
    diff: bool,
    progress: Callable[[str], None] | None = None,
    connect: Callable[[Object], Cluster] | None = None,
) -> Object:
    """Apply (or remove) the batch in ``params`` (the validated :data:`ARGUMENT_SPEC`) and return the task's result."""
    batch = Batch((connect or Cluster)(params), params["name"], params["namespace"], check_mode, progress)
    objects = [*params["objects"], *in_files(params.get("files") or [])]
    if params["state"] == "absent":
        batch.remove(objects, params.get("definitions_unless_used") or [])
    else:
        batch.apply(
            objects,
            params["prune"],
            skip_unserved=params["unserved"] == "skip",
            leave_existing=params["existing"] == "leave",
        )
    return batch.result(diff)


class _Unchecked(NamedTuple):
    """An object that no dry run has seen, and what a person should know of it."""

    note: str = ""


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
            if not _NAME.fullmatch(value) or len(value) > _NAMES[option]:
                raise PlatformError(
                    f"{option} is not usable",
                    found=repr(value),
                    expected="lower-case letters, digits and hyphens, a letter or digit first and last, "
                    f"at most {_NAMES[option]} characters",
                    fix=f"change {option}",
                    reason="argument",
                )
        self.cluster = cluster
        self.applyset = ApplySet(RECORD_PREFIX + name, namespace)
        self.name = name
        self.check_mode = check_mode
        self.progress = progress or (lambda line: None)
        self.notes: list[str] = []
        self._outcomes: dict[Key, Object] = {}
        self._differences: dict[Key, tuple[str, Object | None, Object | None]] = {}
        self._definitions: list[Object] = []
        self._unchecked: set[Key] = set()
        self._ending: set[Key] = set()
        self._written: list[Object] = []
        self._unfinished: PlatformError | None = None
        self._unless_used: list[str] = []
        self._decided: dict[str, str | None] = {}

    # --- state: present ----------------------------------------------------------------------------------------------

    def apply(
        self, objects: list[Any], prune: bool = True, skip_unserved: bool = False, leave_existing: bool = False
    ) -> None:
        """Make the cluster hold these objects, and of this batch no others."""
        preparation = Preparation(self.cluster, self.applyset, self.check_mode, self.notes.append, self.progress)
        wanted, errors = preparation.prepared(with_found_peers(self.cluster, objects), skip_unserved)
        if errors:
            raise self._failed("the batch has %d wrong objects" % len(errors), errors)
        self._definitions = [obj for obj in wanted if GroupKind.of(obj) == CUSTOM_RESOURCE_DEFINITION]
        record = Record(self.cluster, self.applyset)
        needed = self.applyset.scope_of(wanted)
        labelled, unreadable = self._labelled(record.scope.union(needed), wanted)
        live = self._live(wanted, labelled)
        if leave_existing:
            wanted = self._without_those_of_others(wanted, live)
        stale = self._stale(wanted, live, labelled, record.uid)
        changing, errors = self._changes(wanted, live)
        if prune:
            errors += self._refused_removals(stale, changing)
        # It is refused for the members' reasons mostly.
        errors = errors or self._refused_record(record, needed, changing)
        if errors:
            raise self._failed(
                "%d of %d objects cannot be applied or removed, and nothing was changed"
                % (len(errors), len(wanted) + len(stale if prune else [])),
                errors,
            )

        recorded = record.scope
        if not self.check_mode:
            # The record needs its namespace, which may be one of the batch's. All else comes after it.
            self._write([obj for obj in changing if self._is_home(obj)], live)
            record.widen(needed)
            self._write([obj for obj in changing if not self._is_home(obj)], live)
        left = self._delete(stale) if prune else self._keep(stale)
        final = needed.union(self.applyset.scope_of(left))
        if unreadable:
            # Nobody can tell in which namespaces these kinds have objects.
            final = final.union(Scope(frozenset(unreadable), recorded.namespaces))
        change = record.change(final)
        self._note_outcome(self.applyset.ref, change, ["metadata.annotations"] if change == "updated" else [])
        if not self.check_mode:
            record.narrow(final)

    def _without_those_of_others(self, wanted: list[Object], live: dict[Key, Object]) -> list[Object]:
        """The objects that are not there, or that the batch has made."""
        others = [obj for obj in wanted if key_of(obj) in live and not self.applyset.claims(live[key_of(obj)])]
        for obj in others:
            self._note_outcome(obj, "left", [])
        return [obj for obj in wanted if obj not in others]

    def _is_home(self, obj: Object) -> bool:
        return GroupKind.of(obj) == NAMESPACE and obj["metadata"]["name"] == self.applyset.namespace

    def _labelled(self, scope: Scope, wanted: list[Object]) -> tuple[dict[Key, Object], Unreadable]:
        """The live objects with the batch's label, and the kinds that nobody can read now."""
        versions = {GroupKind.of(obj): obj["apiVersion"] for obj in wanted}
        labelled, unreadable, errors = labelled_objects(self.cluster, self.applyset, scope, versions)
        if errors:
            raise self._failed("the batch's objects cannot be read", errors)
        for kind, error in sorted(unreadable.items()):
            self.notes.append(
                f"{kind} cannot be read now, so objects of it that are not part of the batch any more stay, and the "
                f"record goes on naming the kind: {error.found}"
            )
        return labelled, unreadable

    def _live(self, wanted: list[Object], labelled: dict[Key, Object]) -> dict[Key, Object]:
        """The objects of the batch that exist, members or not."""
        live = {key_of(obj): labelled[key_of(obj)] for obj in wanted if key_of(obj) in labelled}
        missing = [obj for obj in wanted if key_of(obj) not in live]
        for obj, found in zip(missing, self.cluster.get_many(missing), strict=True):
            if found is not None:
                live[key_of(obj)] = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], **found}
        return live

    def _changes(self, wanted: list[Object], live: dict[Key, Object]) -> tuple[list[Object], list[PlatformError]]:
        """What must be written, and what the cluster refuses in a dry run and no earlier wave may make it accept."""
        errors = self._conflicts(wanted, live)
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
        changing: list[Object] = []
        refused: list[tuple[Object, PlatformError]] = []
        for obj, outcome in zip(unsure, tried, strict=True):
            if isinstance(outcome, PlatformError):
                refused.append((obj, outcome))
            elif isinstance(outcome, _Unchecked):
                self._note_unchecked(obj, live, outcome.note)
                changing.append(obj)
            elif self._note_change(obj, live, outcome):
                changing.append(obj)
        # In the order of the waves: what is let pass may be what a later refusal is about.
        for obj, refusal in sorted(refused, key=lambda pair: wave_of(GroupKind.of(pair[0]))):
            lifting = that_may_lift(refusal, obj, changing)
            if lifting:
                names = ", ".join(spoken(other) for other in lifting)
                self._note_unchecked(obj, live, f"needs {names} of the same batch, which is written first")
                changing.append(obj)
            else:
                errors.append(refusal)
        adopted = [spoken(obj) for obj in changing if self._outcomes[key_of(obj)]["action"] == "adopted"]
        if adopted:
            self.notes.append(
                "existed before and %s now part of the batch, which removes %s once it no longer names %s: %s"
                % (*(("is", "it", "it") if len(adopted) == 1 else ("are", "them", "them")), ", ".join(adopted))
            )
        return changing, errors

    def _refused_record(self, record: Record, needed: Scope, changing: list[Object]) -> list[PlatformError]:
        """What the cluster has against the record, if it must be written before the members."""
        wanted = self.applyset.parent(record.scope.union(needed))
        if record.live is not None and is_applied(wanted, record.live, FIELD_MANAGER):
            return []
        try:
            self._tried(wanted, {obj["metadata"]["name"] for obj in changing if self._is_home(obj)})
        except PlatformError as error:
            return [error]
        return []

    def _refused_removals(self, stale: list[Object], changing: list[Object]) -> list[PlatformError]:
        """What the cluster has against the removals, as far as a dry run tells before anything is written."""
        removed = [obj for obj in stale if not obj["metadata"].get("deletionTimestamp")]
        answers = concurrently(lambda obj: self._remove_one(obj, dry_run=True), removed)
        return [
            answer for answer in answers if isinstance(answer, PlatformError) and lasts(answer, [*stale, *changing])
        ]

    def _conflicts(self, wanted: list[Object], live: dict[Key, Object]) -> list[PlatformError]:
        """What another batch (or tool) holds: two that apply one object undo each other, and prune it in the end."""
        errors = []
        sets: dict[str, str] = {}
        for obj in wanted:
            found = live.get(key_of(obj))
            if found is None:
                continue
            if label_of(found, ID_LABEL) and not label_of(obj, ID_LABEL):
                errors.append(
                    PlatformError(
                        "an object of the batch is the record of another set of objects",
                        where=spoken(obj),
                        found=f"the label {ID_LABEL}: {label_of(found, ID_LABEL)}",
                        expected="an object that is no ApplySet's record",
                        fix="give the object another name",
                        reason="conflict",
                    )
                )
            other = self.applyset.foreign_id(found)
            if other is None:
                continue
            if other not in sets:
                namespaces = {obj["metadata"].get("namespace", ""), self.applyset.namespace} - {""}
                sets[other] = spoken_set(self.cluster, other, namespaces)
            kind, namespace, name = key_of(obj)
            errors.append(
                PlatformError(
                    "an object belongs to another batch",
                    where=spoken(obj),
                    found=f"a member of {sets[other]}",
                    expected=f"an object of the batch {self.name} in namespace {self.applyset.namespace}, or of none",
                    fix="name it in one of the two only. To move it here, run the other without it first, or take it "
                    f"out by hand: kubectl label {str(kind).lower()} {name} {PART_OF_LABEL}-"
                    + (f" -n {namespace}" if namespace else ""),
                    reason="conflict",
                )
            )
        return errors

    def _tried(self, obj: Object, coming: set[str]) -> Object | _Unchecked:
        """The object as the API server would store it, by a dry run where one is possible."""
        namespace = obj["metadata"].get("namespace", "")
        if namespace in coming or not self.cluster.knows(obj["apiVersion"], obj["kind"]):
            return _Unchecked()
        try:
            return self.cluster.apply(obj, FIELD_MANAGER, dry_run=True)
        except PlatformError as error:
            if "does not support dry run" in str(error):
                # A webhook with side effects. The object is refused or not when it is written.
                return _Unchecked("could not be checked beforehand, an admission webhook has no dry run")
            if self.check_mode and _is_about_missing_namespace(error, namespace):
                # An earlier task of the same play would have made the namespace.
                return _Unchecked(f"the namespace {namespace} does not exist yet, so only the kind was checked")
            raise

    def _write(self, objects: list[Object], live: dict[Key, Object]) -> None:
        """Write the objects, wave by wave."""
        for members in in_waves(objects):
            self._await_served([obj for obj in self._definitions if self._brings_unknown(obj, members)])
            outcomes = concurrently(self._write_one, members)
            errors = []
            for obj, outcome in zip(members, outcomes, strict=True):
                if isinstance(outcome, PlatformError):
                    errors.append(outcome)
                elif key_of(obj) in self._unchecked:
                    self._note_change(obj, live, outcome)
            if errors:
                raise self._failed(
                    "%d of %d objects could not be applied; a run after the correction finishes the batch"
                    % (len(errors), len(members)),
                    errors,
                )
            self._written.extend(members)
            self._await_served([obj for obj in members if GroupKind.of(obj) == CUSTOM_RESOURCE_DEFINITION])

    def _write_one(self, obj: Object) -> Object:
        """Apply one object; a refusal that is about what was written before it may pass in a moment."""
        refusals: list[PlatformError] = []

        def attempt() -> Object | None:
            try:
                return self.cluster.apply(obj, FIELD_MANAGER)
            except PlatformError as error:
                if not that_may_lift(error, obj, self._written):
                    raise
                refusals.append(error)
                return None

        stored = wait_until(attempt, SETTLED_SECONDS)
        if stored is None and refusals:
            raise refusals[-1]
        return stored or obj

    def _brings_unknown(self, definition: Object, objects: list[Object]) -> bool:
        """Whether one of the objects is of a kind that comes with this definition and is not served yet."""
        kinds = defined_kinds([definition])
        wanted = {(obj["apiVersion"], obj["kind"]) for obj in objects}
        return any(not self.cluster.knows(*kind) for kind in wanted & kinds.keys())

    def _await_served(self, definitions: list[Object]) -> None:
        """Until the API server serves the kinds of new definitions, objects of them are refused as unknown."""
        if not definitions:
            return
        waiting: list[tuple[Object, Object | None]] = [(definition, None) for definition in definitions]

        def served() -> bool:
            nonlocal waiting
            self.cluster.forget_resources()
            # Not those again that are served: an operator's definitions are megabytes, and the API server is busy
            # with them.
            wanted = [definition for definition, _live in waiting]
            lives = zip(wanted, self.cluster.get_many(wanted), strict=True)
            waiting = [(obj, live) for obj, live in lives if not self._is_established(obj, live)]
            return not waiting

        if not wait_until(served, ESTABLISHED_SECONDS, 0.5):
            raise self._failed("new kinds are not served", [_not_established(obj, live) for obj, live in waiting])

    def _is_established(self, definition: Object, live: Object | None) -> bool:
        condition = condition_of(live or {}, "Established")
        return (condition or {}).get("status") == "True" and all(
            self.cluster.knows(*kind) for kind in defined_kinds([definition])
        )

    # --- state: absent -----------------------------------------------------------------------------------------------

    def remove(self, objects: list[Any], unless_used: list[str] | None = None) -> None:
        """Delete every member of the batch, then its record. ``objects`` only help to find members without a record.

        Its definitions stay, unless the kinds are named whose objects would be lost with them: then they go once there
        is no such object.
        """
        self._unless_used = unless_used or []
        record = Record(self.cluster, self.applyset)
        named = [without_nulls(obj) for index, obj in documents(objects) if malformed(index, obj) is None]
        named = [obj for obj in named if self.cluster.knows(obj["apiVersion"], obj["kind"])]
        labelled, unreadable = self._labelled(record.scope.union(self.applyset.scope_of(named)), [])
        stale = self._stale([], {}, labelled, record.uid)
        errors = self._refused_removals(stale, [])
        if errors:
            raise self._failed(
                "%d of %d objects cannot be removed, and nothing was changed" % (len(errors), len(stale)), errors
            )
        left = self._delete(stale)
        if left or unreadable:
            # The record says where the rest is: the next run finds it there.
            if record.live is not None:
                self._note_outcome(self.applyset.ref, "unchanged", [])
            self._unfinished = PlatformError(
                f"batch {self.name}: not all of it is gone",
                where=", ".join([*(spoken(obj) for obj in left), *(str(kind) for kind in sorted(unreadable))]),
                found="; ".join(self.notes),
                expected="no object of the batch",
                fix="mend what the notes name, then run again: the record stays until everything is gone",
                reason="terminating" if left else "unavailable",
            )
            return
        # Last, so that an interrupted run can still find the members.
        if record.live is not None and not record.live["metadata"].get("deletionTimestamp"):
            self._note_outcome(self.applyset.ref, "deleted", [])
            if not self.check_mode and not record.delete():
                raise PlatformError(
                    "another run has written the batch's record meanwhile",
                    where=spoken(self.applyset.ref),
                    found="another version of the record than when this run began",
                    expected="no run that applies a batch while another removes it",
                    fix="run again once the other run has ended",
                    reason="conflict",
                )

    # --- members -----------------------------------------------------------------------------------------------------

    def _stale(
        self, wanted: list[Object], live: dict[Key, Object], labelled: dict[Key, Object], record_uid: str | None
    ) -> list[Object]:
        """Members that the batch does not name, those that are being deleted already among them."""
        named = {key_of(obj) for obj in wanted}
        # One object can be served under two groups (Events): the batch may name it by the other one.
        uids = {obj["metadata"].get("uid") for obj in live.values()}
        stale, owned = [], []
        for key, obj in sorted(labelled.items()):
            if key in named or obj["metadata"].get("uid") in uids or not self.applyset.claims(obj):
                continue
            owner = owner_of(obj, labelled, record_uid)
            if owner is None:
                stale.append(obj)
            else:
                owned.append(f"{spoken(obj)} (of {owner})")
        if owned:
            more = f" and {len(owned) - 5} more" if len(owned) > 5 else ""
            self.notes.append(
                "carry the batch's label, but belong to their owners, so the batch leaves them alone: "
                + ", ".join(owned[:5])
                + more
            )
        return stale

    def _keep(self, stale: list[Object]) -> list[Object]:
        for obj in stale:
            self._note_outcome(obj, "deleting" if obj["metadata"].get("deletionTimestamp") else "kept", [])
        return stale

    def _delete(self, stale: list[Object]) -> list[Object]:
        """Delete members, or let go of those that must not be deleted. The result are those that are still there.

        A wave begins when the one before is gone: the controller that ends an object may need the role, the secret or
        the way through the network that an earlier wave of the batch has made for it.
        """
        left: list[Object] = []
        for members in reversed(in_waves(stale)):
            if left:
                left.extend(self._keep(members))
                continue
            left.extend(self._keep([obj for obj in members if obj["metadata"].get("deletionTimestamp")]))
            removed = [obj for obj in members if not obj["metadata"].get("deletionTimestamp")]
            # Earlier waves may have taken what a definition was needed for.
            self._decided.clear()
            for obj in removed:
                self._note_removal(obj)
            if self.check_mode:
                continue
            answers = concurrently(self._remove_one, removed)
            errors = [answer for answer in answers if isinstance(answer, PlatformError)]
            if errors:
                raise self._failed(
                    "%d of %d objects that the batch does not name could not be removed; a run after the correction "
                    "finishes it" % (len(errors), len(removed)),
                    errors,
                )
            still = self._await_gone([obj for obj in removed if self._why_kept(obj) is None])
            self._ending |= {key_of(obj) for obj in still}
            left.extend(self._keep(still))
        self._note_left(left)
        return left

    def _why_kept(self, obj: Object) -> str | None:
        """Why a member is let go of instead of deleted; None for one that goes."""
        why = _stays(obj)
        if why is None or not self._unless_used or GroupKind.of(obj) != CUSTOM_RESOURCE_DEFINITION:
            return why
        if obj["metadata"]["uid"] not in self._decided:
            self._decided[obj["metadata"]["uid"]] = self._used(obj)
        return self._decided[obj["metadata"]["uid"]]

    def _used(self, definition: Object) -> str | None:
        """What keeps it: objects of the named kinds, of its own group."""
        spec = definition["spec"]
        versions = [f"{spec['group']}/{one['name']}" for one in spec["versions"] if one.get("served", True)]
        for kind in self._unless_used:
            api_version = next((each for each in versions if self.cluster.knows(each, kind)), None)
            found = self.cluster.list(api_version, kind) if api_version else []
            if found:
                named = ", ".join(spoken({**obj, "apiVersion": api_version, "kind": kind}) for obj in found[:3])
                return f"there are objects that need it ({len(found)} {kind}: {named})"
        return None

    def _note_removal(self, obj: Object) -> None:
        why = self._why_kept(obj)
        if why is None:
            self._note_outcome(obj, "deleted", [])
            self._differences[key_of(obj)] = (spoken(obj), obj, None)
        else:
            self._note_outcome(obj, "released", [])
            self.notes.append(
                f"{spoken(obj)} is not part of the batch any more. It stays, because {why}: delete it by hand if it is "
                "not needed"
            )

    def _note_left(self, left: list[Object]) -> None:
        kept = []
        for obj in left:
            if self._outcomes[key_of(obj)]["action"] == "kept":
                kept.append(spoken(obj))
            else:
                self.notes.append(
                    f"{spoken(obj)} is still being deleted, {_waits_for(obj)}. The record keeps naming it"
                )
        if kept:
            self.notes.append("not deleted yet, since what is still being deleted may need it: " + ", ".join(kept))

    def _remove_one(self, obj: Object, dry_run: bool = False) -> None:
        """Delete a member or let go of it: the one that was seen, by its UID, and no other of the same name."""
        uid = obj["metadata"]["uid"]
        try:
            if self._why_kept(obj) is None:
                self.cluster.delete(obj, uid=uid, dry_run=dry_run)
            else:
                body = {"metadata": {"uid": uid, "labels": {PART_OF_LABEL: None}}}
                self.cluster.patch(obj, body, FIELD_MANAGER, dry_run=dry_run)
        except PlatformError as error:
            if dry_run and "does not support dry run" in str(error):
                return
            if error.reason == "conflict" and self._is_gone(obj):
                return
            raise

    def _is_gone(self, obj: Object) -> bool:
        """Whether somebody else has deleted the object that was seen."""
        found = self.cluster.get(obj)
        return found is None or found["metadata"]["uid"] != obj["metadata"]["uid"]

    def _await_gone(self, deleted: list[Object]) -> list[Object]:
        """Wait for the objects to be gone, and give those that still are not."""
        still = deleted

        def gone() -> bool:
            nonlocal still
            lives = zip(still, self.cluster.get_many(still), strict=True)
            still = [
                {**live, "apiVersion": obj["apiVersion"], "kind": obj["kind"]}
                for obj, live in lives
                if live is not None and live["metadata"]["uid"] == obj["metadata"]["uid"]
            ]
            return not still

        if not gone():
            self.progress(f"waiting for the end of {', '.join(spoken(obj) for obj in still)}")
            wait_until(gone, GONE_SECONDS)
        return still

    # --- result ------------------------------------------------------------------------------------------------------

    def _note_outcome(self, obj: Object, action: str, fields: list[str]) -> None:
        self._outcomes[key_of(obj)] = {**ref_of(obj), "action": action, "fields": fields}

    def _note_change(self, obj: Object, live: dict[Key, Object], stored: Object) -> bool:
        """Note what an apply makes of the object, and whether it is any change."""
        found = live.get(key_of(obj))
        fields = changed_fields(found, stored) if found is not None else []
        self._differences.pop(key_of(obj), None)
        if found is not None and not fields:
            self._note_outcome(obj, "unchanged", [])
            return False
        action = "created" if found is None else "updated" if self.applyset.claims(found) else "adopted"
        self._note_outcome(obj, action, fields)
        self._differences[key_of(obj)] = (spoken(obj), found, stored if found is not None else obj)
        return True

    def _note_unchecked(self, obj: Object, live: dict[Key, Object], note: str) -> None:
        found = live.get(key_of(obj))
        self._note_change(obj, live, overlaid(found, obj) if found is not None else obj)
        self._unchecked.add(key_of(obj))
        if note:
            self.notes.append(f"{spoken(obj)}: {note}")

    def _failed(self, what: str, errors: list[PlatformError]) -> PlatformError:
        return PlatformError.of_many(f"batch {self.name}: {what}", errors)

    def result(self, diff: bool = False) -> Object:
        """The task's result."""
        outcomes = sorted(self._outcomes.values(), key=lambda entry: (entry["kind"], entry["namespace"], entry["name"]))
        counts: dict[str, int] = {}
        for entry in outcomes:
            counts[entry["action"]] = counts.get(entry["action"], 0) + 1
        said = ", ".join(f"{number} {action}" for action, number in sorted(counts.items())) or "nothing to do"
        result: Object = {
            # An object that is ending since an earlier run is no change of this one.
            "changed": bool(self._ending) or bool(counts.keys() - {"unchanged", "kept", "left", "deleting"}),
            "msg": f"batch {self.name}: {said}",
            "objects": outcomes,
            "applyset": {"name": self.applyset.name, "namespace": self.applyset.namespace, "id": self.applyset.id},
            "notes": self.notes,
        }
        if diff:
            result["diff"] = [diff_of(*difference) for difference in self._differences.values()]
        if self._unfinished is not None:
            result.update(self._unfinished.result(), failed=True)
        return result


def _is_about_missing_namespace(error: PlatformError, namespace: str) -> bool:
    return bool(namespace) and error.reason == "missing" and f'namespaces "{namespace}" not found' in str(error)


def _stays(obj: Object) -> str | None:
    """Why an object that is no member any more is not deleted; None if it is."""
    if GroupKind.of(obj) in NEVER_DELETED:
        return "what it holds would go with it"
    release = (obj["metadata"].get("annotations") or {}).get("meta.helm.sh/release-name")
    return f"it belongs to the Helm release {release}" if release else None


def _waits_for(obj: Object) -> str:
    """What keeps an object that is being deleted."""
    finalizers = obj["metadata"].get("finalizers") or (obj.get("spec") or {}).get("finalizers") or []
    since = f"requested at {obj['metadata'].get('deletionTimestamp')}"
    return since + (f", waiting for {', '.join(finalizers)}" if finalizers else "")


def _terminating(obj: Object, live: Object) -> PlatformError:
    return PlatformError(
        "the object is being deleted",
        where=spoken(obj),
        found=f"deletion {_waits_for(live)}",
        expected="an object that is not being deleted",
        fix="wait until it is gone, then run again",
        reason="terminating",
    )


def _not_established(definition: Object, live: Object | None) -> PlatformError:
    conditions = ((live or {}).get("status") or {}).get("conditions") or []
    said = [f"{entry.get('type')} {entry.get('status')}: {entry.get('message', '')}" for entry in conditions]
    return PlatformError(
        "the API server does not serve the kinds of a CustomResourceDefinition",
        where=spoken(definition),
        found=f"after {ESTABLISHED_SECONDS} s: " + ("; ".join(said) or "no conditions"),
        expected="the condition Established, and the kinds in the API server's list",
        fix="mend what the conditions name (kubectl describe crd), then run again",
        reason="timeout",
    )

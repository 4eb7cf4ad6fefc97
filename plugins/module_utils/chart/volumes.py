# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes, classes and data of the volumes that a chart asks for, against those that exist.

A StatefulSet's volumeClaimTemplates cannot be changed, and a claim's size only upwards, where its class allows it. So
a volume grows in two steps that Helm does not know: the claims get the new size, and the StatefulSet is made anew
around its pods, which run on. The same is done for podManagementPolicy, which cannot be changed either. Whatever cannot
be is said before anything is changed.
"""

from __future__ import annotations

import copy
import re
import time
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.compare import without_bookkeeping
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.manifest import Key, label_of
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object, spoken
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.quantities import quantity

ORPHAN_SECONDS = 60
ONE_AFTER_THE_OTHER = "OrderedReady"
"""What a StatefulSet has that says nothing: a pod that never gets ready holds up the revision that would mend it."""
DATA_VERSION = "lambda-microservice.platform/data-version"
"""A StatefulSet's annotation: the major version whose data are on its volumes."""
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"


@dataclass
class Changes:
    """Claims that get a larger size, and StatefulSets that are made anew."""

    claims: list[tuple[Object, str]] = field(default_factory=list)
    sets: list[tuple[Object, Object | None]] = field(default_factory=list)
    """(the live object, the same but for the sizes of its volumes and its policy; or None, for Helm to make it)"""

    def __bool__(self) -> bool:
        return bool(self.claims or self.sets)

    def described(self) -> list[str]:
        """One line for each."""
        lines = ["%s grows from %s to %s" % (spoken(claim), _size(claim["spec"]), size) for claim, size in self.claims]
        for live, successor in self.sets:
            if successor is None or _templates(successor) != _templates(live):
                lines.append("%s gets other claim templates" % spoken(live))
            if successor is not None and _policy(successor) != _policy(live):
                lines.append("%s gets podManagementPolicy %s" % (spoken(live), _policy(successor)))
        return lines


def changes(cluster: Cluster, objects: dict[Key, Object], release: str) -> Changes:
    """What has to be done before Helm may. Raises where a volume would shrink, or cannot grow or have its class."""
    wanted = {key: obj for key, obj in objects.items() if key[1] in ("PersistentVolumeClaim", "StatefulSet")}
    if not wanted:
        return Changes()
    refs = [
        {"apiVersion": obj["apiVersion"], "kind": key[1], "namespace": key[2], "name": key[3]}
        for key, obj in wanted.items()
    ]
    try:
        live = dict(zip(wanted, cluster.get_many(refs), strict=True))
        claims = {
            namespace: cluster.list("v1", "PersistentVolumeClaim", namespace)
            for namespace in {key[2] for key in wanted if key[1] == "StatefulSet"}
        }
    except PlatformError as failure:
        if failure.reason != "forbidden":
            raise
        return Changes()
    found, errors = Changes(), []
    for key, obj in wanted.items():
        try:
            if key[1] == "PersistentVolumeClaim":
                _compare_claim(cluster, found, key, obj, live[key])
            else:
                _compare_set(cluster, found, key, obj, live[key], claims[key[2]], release)
        except PlatformError as error:
            errors.append(error)
    if errors:
        raise PlatformError.of_many("%d objects ask for volumes that cannot be" % len(errors), errors)
    return found


def make(cluster: Cluster, wanted: Changes, field_manager: str) -> None:
    """Claims first: a run that ends in between finds them grown and the StatefulSet as it was."""
    for claim, size in wanted.claims:
        cluster.patch(claim, _resized(size), field_manager)
    for live, successor in wanted.sets:
        cluster.delete(live, propagation="Orphan", uid=live["metadata"]["uid"])
        until = time.monotonic() + ORPHAN_SECONDS
        while cluster.get(live) is not None:
            if time.monotonic() > until:
                raise PlatformError(
                    "a StatefulSet that is made anew for larger volumes does not go",
                    where=spoken(live),
                    found="still there %d s after it was deleted (its pods and volumes stay)" % ORPHAN_SECONDS,
                    expected="that the cluster's garbage collector lets its pods go",
                    fix="look at its finalizers and at kube-controller-manager, then run again",
                    reason="timeout",
                )
            time.sleep(0.2)
        if successor is not None:
            cluster.apply(successor, field_manager)


def _compare_claim(cluster: Cluster, found: Changes, key: Key, obj: Object, live: Object | None) -> None:
    label, spec = label_of(key), obj.get("spec") or {}
    if live is None:
        _check_class(cluster, label, spec)
        return
    _check_same_class(label, spec, [live])
    _check_no_shrinking(label, spec, [live])
    _grow(cluster, found, label, spec, [live])


def _compare_set(
    cluster: Cluster,
    found: Changes,
    key: Key,
    obj: Object,
    live: Object | None,
    claims: list[Object],
    release: str,
) -> None:
    installed = {template["metadata"]["name"]: template["spec"] for template in _templates(live or {})}
    successor = without_bookkeeping(copy.deepcopy(live)) if live else {}
    owner = ((live or {}).get("metadata", {}).get("annotations") or {}).get("meta.helm.sh/release-name")
    changed = False
    for template in _templates(obj):
        name, spec = template["metadata"]["name"], template.get("spec") or {}
        label = "%s, volume %s" % (label_of(key), name)
        of_template = re.compile("%s-%s-[0-9]+" % (re.escape(name), re.escape(key[3])))
        existing = [claim for claim in claims if of_template.fullmatch(claim["metadata"]["name"])]
        if name not in installed:
            # Claims that outlived an earlier release are taken as they are, or grow.
            if not existing:
                _check_class(cluster, label, spec)
        elif _differ(spec, installed[name]):
            _check_same_class(label, spec, existing)
            _check_no_shrinking(label, spec, existing)
            if not existing:
                _check_class(cluster, label, spec)
            changed = True
            for place in _templates(successor):
                if place["metadata"]["name"] == name:
                    place["spec"]["resources"] = spec["resources"]
                    _take(place["spec"], spec, "storageClassName")
        _grow(cluster, found, label, spec, existing)
        if existing and live is not None:
            check_data(label_of(key), obj, live)
    if live is None or owner != release:
        return
    if _policy(obj) != _policy(live):
        successor["spec"]["podManagementPolicy"] = _policy(obj)
        changed = True
    if set(installed) != {template["metadata"]["name"] for template in _templates(obj)}:
        # Other volumes go with another pod template, and so are the chart's to make as a whole. Claims stay.
        found.sets.append((live, None))
    elif changed:
        found.sets.append((live, successor))


def check_data(label: str, obj: Object, live: Object) -> None:
    """Whether ``obj`` reads what ``live`` has written. Neither says a version where its program reads every one."""
    version, of_data = ((one["metadata"].get("annotations") or {}).get(DATA_VERSION) for one in (obj, live))
    if not version or not of_data or version == of_data:
        return
    later = int(version) > int(of_data)
    raise PlatformError(
        "the data on volumes are of %s version than the one that would run" % ("an earlier" if later else "a later"),
        where=label,
        found=f"data of {of_data}; version {version} asked for",
        expected=f"version {of_data}, as no other reads them",
        fix=f"upgrade them with playbooks/upgrade-postgresql.yml, or set data_services_postgresql_version to {of_data}"
        if later
        else f"set data_services_postgresql_version to {of_data}; to go back, restore a backup that {version} has "
        "written (playbooks/restore.yml)",
        reason="volume",
    )


def _templates(obj: Object) -> list[Object]:
    return (obj.get("spec") or {}).get("volumeClaimTemplates") or [] if obj.get("kind") == "StatefulSet" else []


def _policy(obj: Object) -> str:
    return str((obj.get("spec") or {}).get("podManagementPolicy") or ONE_AFTER_THE_OTHER)


def _take(target: Object, source: Object, name: str) -> None:
    target.pop(name, None)
    if source.get(name) is not None:
        target[name] = source[name]


def _size(spec: Object) -> str:
    return str(((spec.get("resources") or {}).get("requests") or {}).get("storage") or "0")


def _bytes(spec: Object) -> Any:
    return quantity(_size(spec)) or 0


def _differ(one: Object, other: Object) -> bool:
    return _bytes(one) != _bytes(other) or one.get("storageClassName") != other.get("storageClassName")


def _resized(size: str) -> Object:
    return {"spec": {"resources": {"requests": {"storage": size}}}}


def _listed(claims: list[Object], say: Any) -> str:
    shown = ["%s has %s" % (claim["metadata"]["name"], say(claim)) for claim in claims[:3]]
    return ", ".join(shown) + (" and %d more" % (len(claims) - 3) if len(claims) > 3 else "")


def _check_no_shrinking(label: str, spec: Object, existing: list[Object]) -> None:
    larger = [claim for claim in existing if _bytes(claim["spec"]) > _bytes(spec)]
    if larger:
        largest = max(larger, key=lambda claim: _bytes(claim["spec"]))
        raise PlatformError(
            "a volume cannot be made smaller",
            where=label,
            found="%s asked for; %s" % (_size(spec), _listed(larger, lambda claim: _size(claim["spec"]))),
            expected="%s or more" % _size(largest["spec"]),
            fix="set the size to that; nothing was changed",
            reason="volume",
        )


def _check_same_class(label: str, spec: Object, existing: list[Object]) -> None:
    name = spec.get("storageClassName")
    # A claim whose class the chart leaves to the cluster has the default of its day, and keeps it.
    other = [claim for claim in existing if name is not None and claim["spec"].get("storageClassName") != name]
    if other:
        waiting = all((claim.get("status") or {}).get("phase") == "Pending" for claim in other)
        raise PlatformError(
            "the StorageClass of a volume that exists cannot be changed",
            where=label,
            found="%s asked for; %s"
            % (name or "no class", _listed(other, lambda claim: claim["spec"].get("storageClassName") or "none")),
            expected="the class that the claims have",
            fix="the claims were never bound, so they are empty: delete the workload, then the claims, and run again"
            if waiting
            else "set the class back; data get to another class only by a backup that is restored into new claims",
            reason="volume",
        )


def _check_class(cluster: Cluster, label: str, spec: Object) -> None:
    """Whether anything can make or hold a new claim's volume: a StorageClass, or volumes made by hand."""
    if spec.get("volumeName"):
        return
    name = spec.get("storageClassName")
    try:
        classes = cluster.list("storage.k8s.io/v1", "StorageClass")
        known = [obj["metadata"]["name"] for obj in classes]
        usable = name in known
        if name is None:
            usable = any((obj["metadata"].get("annotations") or {}).get(DEFAULT_CLASS) == "true" for obj in classes)
        if usable or any(
            (volume["spec"].get("storageClassName") or "") == (name or "")
            for volume in cluster.list("v1", "PersistentVolume")
        ):
            return
    except PlatformError as failure:
        if failure.reason != "forbidden":
            raise
        return
    raise PlatformError(
        "the StorageClass %s does not exist" % name if name else "no StorageClass is the cluster's default",
        where=label,
        found="the classes %s" % ", ".join(sorted(known)) if known else "no StorageClass at all",
        expected="a StorageClass that makes the volume, or a PersistentVolume of that class",
        fix="name one of the cluster's classes (kubectl get storageclass)",
        reason="storage",
    )


def _grow(cluster: Cluster, found: Changes, label: str, spec: Object, existing: list[Object]) -> None:
    """Ask the cluster itself, without a change: it knows the class, the quota and the state of the claim."""
    for claim in existing:
        if _bytes(claim["spec"]) >= _bytes(spec):
            continue
        try:
            cluster.patch(claim, _resized(_size(spec)), "helm", dry_run=True)
        except PlatformError as failure:
            if failure.reason == "quota":
                raise
            waiting = (claim.get("status") or {}).get("phase") == "Pending"
            raise PlatformError(
                "a volume cannot grow",
                where=label,
                found="%s asked for; %s; %s"
                % (_size(spec), _listed([claim], lambda claim: _size(claim["spec"])), failure.found or failure.what),
                expected="a bound claim of a StorageClass with allowVolumeExpansion",
                fix="nothing has been written to it yet: delete the claim, and run again"
                if waiting
                else "set the size back to %s; or allow it in the class, if its driver can; or restore a backup into "
                "new, larger claims" % _size(claim["spec"]),
                reason="volume",
            ) from failure
        found.claims.append((claim, _size(spec)))

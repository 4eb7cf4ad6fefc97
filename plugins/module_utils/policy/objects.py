# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The objects that a batch was given: whether they are well-formed, served and placed, and what their CRDs define."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.concurrency import concurrently
from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.client import Cluster
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object, spoken
from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy.applyset import (
    CUSTOM_RESOURCE_DEFINITION,
    PART_OF_LABEL,
    ApplySet,
    GroupKind,
    Key,
    key_of,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.policy.compare import (
    with_encoded_data,
    without_nulls,
)


def in_files(paths: Iterable[str]) -> list[Any]:
    """The objects that files of JSON list."""
    found: list[Any] = []
    for path in paths:
        try:
            listed = json.loads(Path(path).read_bytes())
        except (OSError, ValueError) as error:
            listed = error
        if not isinstance(listed, list):
            raise PlatformError(
                "a file of objects cannot be read",
                where=path,
                found=str(listed)[:200],
                expected="a JSON list of objects",
                fix="correct files",
                reason="argument",
            )
        found += listed
    return found


def documents(objects: Iterable[Any] | None) -> list[tuple[int, Any]]:
    """The objects with their places. An empty document of a YAML stream is None and no object."""
    return [(index, obj) for index, obj in enumerate(objects or []) if obj is not None]


def malformed(index: int, obj: Any) -> PlatformError | None:
    """What is wrong with an object before any cluster is asked; its place is told, since its name may be missing."""
    found = _fault(obj)
    if found is None:
        return None
    metadata = obj.get("metadata") if isinstance(obj, dict) else None
    name = f", {obj.get('kind')} {metadata.get('name')}" if isinstance(metadata, dict) else ""
    return PlatformError(
        "an object of the batch is malformed",
        where=f"objects[{index}]{name}",
        found=found,
        expected="apiVersion, kind and metadata.name as non-empty strings; labels without ApplySet's own",
        fix="correct the object",
        reason="argument",
    )


def _fault(obj: Any) -> str | None:
    if not isinstance(obj, dict):
        return f"{type(obj).__name__} in place of an object"
    metadata = obj["metadata"] if isinstance(obj.get("metadata"), dict) else {}
    for path, value in (
        ("apiVersion", obj.get("apiVersion")),
        ("kind", obj.get("kind")),
        ("metadata.name", metadata.get("name")),
    ):
        if not isinstance(value, str) or not value:
            return f"{path}: {value!r}"
    namespace, labels = metadata.get("namespace"), metadata.get("labels") or {}
    if namespace is not None and not isinstance(namespace, str):
        return f"metadata.namespace: {namespace!r}"
    if not isinstance(labels, dict):
        return f"metadata.labels: {type(labels).__name__}"
    if PART_OF_LABEL in labels:
        return f"the label {PART_OF_LABEL}, which the module sets itself"
    return None


def defined_kinds(objects: Iterable[Object]) -> dict[tuple[str, str], bool]:
    """The kinds that the CRDs among these objects bring: (apiVersion, kind) to whether they are namespaced.

    A CRD that is wrong defines nothing here: the API server tells what is wrong.
    """
    defined = {}
    for obj in objects:
        if GroupKind.of(obj) != CUSTOM_RESOURCE_DEFINITION:
            continue
        spec = obj["spec"] if isinstance(obj.get("spec"), dict) else {}
        names = spec["names"] if isinstance(spec.get("names"), dict) else {}
        for version in spec["versions"] if isinstance(spec.get("versions"), list) else []:
            if isinstance(version, dict) and version.get("served", True):
                served = (f"{spec.get('group')}/{version.get('name')}", str(names.get("kind")))
                defined[served] = spec.get("scope") == "Namespaced"
    return defined


class Preparation:
    """Makes what was given to what is applied. ``note`` takes what a person should know, ``progress`` shows it now."""

    def __init__(
        self,
        cluster: Cluster,
        applyset: ApplySet,
        check_mode: bool,
        note: Callable[[str], None],
        progress: Callable[[str], None],
    ) -> None:
        self.cluster = cluster
        self.applyset = applyset
        self.check_mode = check_mode
        self.note = note
        self.progress = progress

    def prepared(self, objects: Iterable[Any] | None, skip_unserved: bool) -> tuple[list[Object], list[PlatformError]]:
        """The objects with their namespace, the label and nothing null; and what is wrong with any of them."""
        errors: list[PlatformError] = []
        prepared: dict[Key, Object] = {}
        checked = []
        for index, given in documents(objects):
            problem = malformed(index, given)
            if problem:
                errors.append(problem)
            else:
                checked.append((index, without_nulls(given)))
        # Read what the cluster serves at once and not version by version.
        versions = sorted({obj["apiVersion"] for _index, obj in checked})
        answers = concurrently(lambda version: self.cluster.knows(version, ""), versions)
        unread = [answer for answer in answers if isinstance(answer, PlatformError)]
        if unread:
            return [], [*errors, *unread]
        defined = defined_kinds(obj for _index, obj in checked)
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
            if key_of(obj) == key_of(self.applyset.ref):
                errors.append(
                    PlatformError(
                        "the batch names its own record",
                        where=f"objects[{index}], {spoken(obj)}",
                        expected="no object of this name, it is where the module keeps the batch's record",
                        fix="give the object or the batch another name",
                        reason="argument",
                    )
                )
            prepared[key_of(obj)] = self.applyset.labelled(with_encoded_data(obj))
        return list(prepared.values()), errors

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
                self.note(note)
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
            self.note(
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

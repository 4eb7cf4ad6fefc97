# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rendered manifests: their documents and objects, and what the cluster makes of these."""

from __future__ import annotations

import base64
import copy
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError
from ansible_collections.lambda_microservice.platform.plugins.module_utils.helm.yaml import (
    YAMLError,
    from_yaml,
    yaml_error,
)
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object

Key = tuple[str, str, str, str]
"""API group (not version: an object that moves from v1beta1 to v1 is the same one), kind, namespace, name."""


@dataclass
class Document:
    """One document of a manifest; parsed when it is first needed, since many are equal as text."""

    text: str
    source: str = ""

    @cached_property
    def objects(self) -> list[Object]:
        """The objects in it: none (only comments), one, or those of a List."""
        try:
            value = from_yaml(self.text)
        except YAMLError as error:
            raise PlatformError(
                "a rendered template is not YAML",
                where=self.source or "manifest",
                found=yaml_error(error),
                expected="a Kubernetes object",
                fix="correct the template's indentation or quoting",
                reason="render",
            ) from None  # its text quotes the manifest, in which Secrets are
        if value is None:
            return []
        if not isinstance(value, dict) or not value.get("kind"):
            raise PlatformError(
                "a rendered template is not a Kubernetes object",
                where=self.source or "manifest",
                found="a %s without kind" % type(value).__name__,
                expected="an object with apiVersion, kind and metadata.name",
                fix="correct the template",
                reason="render",
            )
        if value["kind"].endswith("List") and isinstance(value.get("items"), list):
            return [item for item in value["items"] if isinstance(item, dict)]
        return [value]

    @property
    def is_crd_file(self) -> bool:
        """Whether it comes from a chart's crds folder, which Helm installs once and never upgrades."""
        return "/crds/" in self.source and "/templates/" not in self.source


_SEPARATOR = re.compile(r"^---[ \t]*(?:#.*)?$", re.MULTILINE)
_SOURCE = re.compile(r"^# Source: (\S.*)$", re.MULTILINE)


def documents(manifest: str) -> list[Document]:
    """Split a manifest as Helm does: at lines of three dashes."""
    found = []
    for part in _SEPARATOR.split(manifest):
        text = part.strip()
        if text:
            source = _SOURCE.search(text)
            # With the line's end, as Helm has it: a block scalar in the last line would lose its own.
            found.append(Document(text + "\n", source.group(1).strip() if source else ""))
    return found


def key_of(obj: Object, namespace: str = "") -> Key:
    """What makes it the same object in two manifests; namespace is the release's, for objects that name none."""
    metadata = obj.get("metadata") or {}
    api_version = str(obj.get("apiVersion") or "")
    group = api_version.rpartition("/")[0]
    return group, str(obj.get("kind") or ""), metadata.get("namespace") or namespace, str(metadata.get("name") or "")


def label_of(key: Key) -> str:
    """How a person names it: ``Deployment controller/controller``."""
    return "%s %s" % (key[1], "/".join(part for part in key[2:] if part))


def is_hook(obj: Object) -> bool:
    """Whether Helm runs it at certain moments instead of keeping it."""
    return "helm.sh/hook" in ((obj.get("metadata") or {}).get("annotations") or {})


def as_stored(obj: Object) -> Object:
    """What of a rendered object the cluster can be expected to keep: no status, no nulls, stringData as data."""
    kept = _without_nulls(copy.deepcopy({name: item for name, item in obj.items() if name != "status"}))
    if kept.get("kind") == "Secret" and isinstance(kept.get("stringData"), dict):
        # stringData wins over data and is never given back.
        encoded = {name: base64.b64encode(str(text).encode()).decode() for name, text in kept.pop("stringData").items()}
        kept["data"] = {**(kept.get("data") or {}), **encoded}
    if kept.get("kind") == "Secret" and isinstance(kept.get("data"), dict):
        kept["data"] = {name: "".join(str(text).split()) for name, text in kept["data"].items()}
    return kept


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def autoscaled(objects: Iterable[Object], namespace: str) -> set[tuple[str, str, str]]:
    """(kind, namespace, name) of the workloads that these objects' HorizontalPodAutoscalers scale."""
    found = set()
    for obj in objects:
        if obj.get("kind") == "HorizontalPodAutoscaler":
            target = (obj.get("spec") or {}).get("scaleTargetRef") or {}
            where = (obj.get("metadata") or {}).get("namespace") or namespace
            found.add((str(target.get("kind")), where, str(target.get("name"))))
    return found


def without_replicas(obj: Object) -> Object:
    """The workload without its replica count."""
    spec = {name: item for name, item in (obj.get("spec") or {}).items() if name != "replicas"}
    return {**obj, "spec": spec}

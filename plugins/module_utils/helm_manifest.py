# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rendered manifests: read as Helm reads them, compared by meaning, shown without secrets."""

from __future__ import annotations

import base64
import copy
import fnmatch
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.errors import PlatformError

try:
    import yaml
except ImportError:  # the module itself reports what is missing, see Cluster
    yaml = None  # type: ignore[assignment]

Object = dict[str, Any]
Key = tuple[str, str, str, str]
"""API group (not version: an object that moves from v1beta1 to v1 is the same one), kind, namespace, name."""


# --- YAML as Go reads it ----------------------------------------------------------------------------------------------

if yaml is not None:
    _LOADER_BASE = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    _DUMPER_BASE = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

    class _Loader(_LOADER_BASE):  # type: ignore[misc,valid-type]
        """sigs.k8s.io/yaml, which Helm and Kubernetes use, has neither dates nor base-60 numbers, but has 1e3 and the
        booleans y and n.
        """

        yaml_implicit_resolvers = {
            first: [(tag, pattern) for tag, pattern in resolvers if tag.endswith((":bool", ":null", ":merge"))]
            for first, resolvers in _LOADER_BASE.yaml_implicit_resolvers.items()
        }

    _INT = re.compile(r"^[-+]?(0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)$")
    _FLOAT = re.compile(r"^([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$")

    def _read_as_go(yaml_class: Any) -> None:
        """What is no text for Go. For a dumper: what it has to quote to make it one."""
        yaml_class.add_implicit_resolver("tag:yaml.org,2002:int", _INT, list("-+0123456789"))
        yaml_class.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
        yaml_class.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^[yYnN]$"), list("yYnN"))

    _read_as_go(_Loader)

    def _construct_bool(loader: Any, node: Any) -> bool:
        return loader.construct_scalar(node).lower() in ("y", "yes", "on", "true")

    _Loader.add_constructor("tag:yaml.org,2002:bool", _construct_bool)

    def _construct_int(loader: Any, node: Any) -> int:
        text = loader.construct_scalar(node).replace("_", "")
        digits = text.lstrip("-+")
        if len(digits) > 1 and digits[0] == "0" and digits[1].isdigit():
            return int(text, 8)
        return int(text, 0)

    def _construct_float(loader: Any, node: Any) -> float:
        text = loader.construct_scalar(node)
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))

    _Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
    _Loader.add_constructor("tag:yaml.org,2002:float", _construct_float)

    class _Dumper(_DUMPER_BASE):  # type: ignore[misc,valid-type]
        """Texts of several lines as blocks: a diff of a configuration file must show lines."""

        def ignore_aliases(self, data: Any) -> bool:
            """An anchor in a diff would only confuse."""
            return True

    def _represent_text(dumper: Any, text: str) -> Any:
        style = "|" if "\n" in text else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    _Dumper.add_representer(str, _represent_text)
    _read_as_go(_Dumper)


def to_yaml(obj: Any) -> str:
    """YAML with sorted keys, so that two equal objects give equal text."""
    return yaml.dump(obj, Dumper=_Dumper, default_flow_style=False, sort_keys=True, width=160, allow_unicode=True)


def from_yaml(text: str) -> Any:
    """The value that Helm would read. Raises yaml.YAMLError."""
    return _with_text_keys(yaml.load(text, Loader=_Loader))


def _with_text_keys(value: Any) -> Any:
    """JSON, into which Helm turns its YAML, has only texts as keys: ``n:`` becomes ``"false":``."""
    if isinstance(value, dict):
        return {_key_text(name): _with_text_keys(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_text_keys(item) for item in value]
    return value


def _key_text(name: Any) -> str:
    return str(name).lower() if isinstance(name, bool) else "null" if name is None else str(name)


# --- documents --------------------------------------------------------------------------------------------------------


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
        except yaml.YAMLError as error:
            raise PlatformError(
                "a rendered template is not YAML",
                where=self.source or "manifest",
                found=" ".join(str(error).split()),
                expected="a Kubernetes object",
                fix="correct the template's indentation or quoting",
                reason="render",
            ) from None
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


# --- comparison by meaning --------------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """A form in which equal means equal to Helm: whole floats are integers (Go's JSON has one kind of number), and
    true is not 1.
    """
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def changed_paths(before: Any, after: Any, path: str = "") -> list[str]:
    """Dotted paths of what differs between two values."""
    if isinstance(before, dict) and isinstance(after, dict):
        paths = []
        for name in sorted({*before, *after}, key=str):
            here = "%s.%s" % (path, name) if path else str(name)
            if name not in before or name not in after:
                paths.append(here)
            else:
                paths.extend(changed_paths(before[name], after[name], here))
        return paths
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        paths = []
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            paths.extend(changed_paths(one, other, "%s[%d]" % (path, index)))
        return paths
    return [] if plain(before) == plain(after) else [path or "(all)"]


_QUANTITY = re.compile(r"^([+-]?[0-9]*\.?[0-9]+)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|n|u|[eE][+-]?[0-9]+)?$")
_SCALE = {
    None: Decimal(1),
    **{
        suffix: Decimal(10) ** power
        for suffix, power in zip("numkMGTPE", (-9, -6, -3, 3, 6, 9, 12, 15, 18), strict=True)
    },
    **{prefix + "i": Decimal(1024) ** power for power, prefix in enumerate("KMGTPE", 1)},
}


def quantity(value: Any) -> Decimal | None:
    """The number that a Kubernetes quantity (``100m``, ``1.5Gi``, ``2``) stands for, or None if it is none."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    match = _QUANTITY.match(str(value))
    if not match:
        return None
    number, suffix = match.groups()
    try:
        if suffix and suffix[0] in "eE" and len(suffix) > 1 and suffix != "Ei":
            return Decimal(number + suffix)
        return Decimal(number) * _SCALE[suffix]
    except (InvalidOperation, KeyError):
        return None


# Lists of the API that are maps in truth (patchMergeKey in k8s.io/api): one entry, one thing, in any order, and other
# writers (an injected sidecar, a defaulted toleration) may add entries of their own.
_MERGE_KEYS = {
    "containers": ("name",),
    "initContainers": ("name",),
    "ephemeralContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
    "imagePullSecrets": ("name",),
    "hostAliases": ("ip",),
    "secrets": ("name",),
    "webhooks": ("name",),
}


def missing_from(expected: Any, live: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The paths at which live does not say what expected says. What only live says (defaults, status, what controllers
    and other writers added) does not count, nor does an empty value that the API server drops.

    It is strict where in doubt: a path that it names need not be drift, an empty list means that there is none.
    """
    if expected is None:
        return []
    if isinstance(expected, dict):
        if not isinstance(live, dict):
            return [] if live is None and is_empty(expected) else [path]
        return [
            found for name, item in expected.items() for found in missing_from(item, live.get(name), (*path, str(name)))
        ]
    if isinstance(expected, list):
        return _missing_from_list(expected, live, path)
    if live is None:
        return [] if is_empty(expected) else [path]
    if plain(expected) == plain(live):
        return []
    if _may_be_quantity(path):
        one, other = quantity(expected), quantity(live)
        if one is not None and one == other:
            return []
    return [path]


def _missing_from_list(expected: list[Any], live: Any, path: tuple[str, ...]) -> list[tuple[str, ...]]:
    if live is None:
        return [] if is_empty(expected) else [path]
    if not isinstance(live, list):
        return [path]
    names = _MERGE_KEYS.get(path[-1] if path else "")
    if names and all(isinstance(item, dict) for item in [*expected, *live]):
        by_name = {tuple(item.get(name) for name in names): item for item in live}
        found: list[tuple[str, ...]] = []
        for item in expected:
            name = tuple(item.get(part) for part in names)
            here = (*path, ",".join(str(part) for part in name))
            found.extend(missing_from(item, by_name[name], here) if name in by_name else [here])
        return found
    if len(expected) != len(live):
        return [path]
    return [
        found
        for index, (item, other) in enumerate(zip(expected, live, strict=True))
        for found in missing_from(item, other, (*path, str(index)))
    ]


def is_empty(value: Any) -> bool:
    """Whether the API server may leave it out (Go's omitempty), all the way down."""
    if isinstance(value, dict):
        return all(is_empty(item) for item in value.values())
    if isinstance(value, list):
        return not value
    return value is None or value is False or value == 0 or value == ""


def _may_be_quantity(path: tuple[str, ...]) -> bool:
    parents = {"limits", "requests", "hard", "capacity", "default", "defaultRequest", "max", "min", "allocatable"}
    leaves = {"sizeLimit", "averageValue", "value", "storage", "divisor"}
    return len(path) > 1 and path[0] != "data" and (path[-2] in parents or path[-1] in leaves)


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


_SERVER_METADATA = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink")


def without_bookkeeping(obj: Object) -> Object:
    """An object of the cluster without status and the server's own metadata, for comparison and for diffs."""
    kept = {name: item for name, item in obj.items() if name != "status"}
    metadata = {name: item for name, item in (obj.get("metadata") or {}).items() if name not in _SERVER_METADATA}
    annotations = dict(metadata.get("annotations") or {})
    annotations.pop("kubectl.kubernetes.io/last-applied-configuration", None)
    annotations.pop("deployment.kubernetes.io/revision", None)
    metadata["annotations"] = annotations
    if not annotations:
        del metadata["annotations"]
    kept["metadata"] = metadata
    return kept


@dataclass(frozen=True)
class Ignored:
    """A field that someone else is meant to change: kind, a pattern for the name, a path with ``*`` for any part."""

    kind: str
    path: str
    name: str = "*"

    def matches(self, obj: Object) -> bool:
        """Whether it speaks of this object."""
        name = str((obj.get("metadata") or {}).get("name", ""))
        return obj.get("kind") == self.kind and fnmatch.fnmatchcase(name, self.name)

    def _parts(self) -> list[str]:
        return [part.replace("~1", "/").replace("~0", "~") for part in self.path.strip("/").split("/")]

    def drop_from(self, obj: Object) -> Object:
        """The object without the field; itself if it does not match."""
        if not self.matches(obj):
            return obj
        changed = copy.deepcopy(obj)
        _drop(changed, self._parts())
        return changed

    def keep_live(self, obj: Object, live: Object) -> Object:
        """The object with the live value in the field; without the field where there is no live value."""
        if not self.matches(obj):
            return obj
        changed = copy.deepcopy(obj)
        _take(changed, live, self._parts())
        return changed


def _take(value: Any, live: Any, parts: list[str]) -> None:
    """Set what parts lead to in value to what live has there."""
    first, rest = parts[0], parts[1:]
    if isinstance(value, dict):
        live = live if isinstance(live, dict) else {}
        for name in [name for name in value if first in ("*", name)]:
            if rest:
                _take(value[name], live.get(name), rest)
            elif name in live:
                value[name] = live[name]
            else:
                del value[name]
    elif isinstance(value, list) and rest:
        live = live if isinstance(live, list) else []
        for index, item in enumerate(value):
            if first not in ("*", str(index)):
                continue
            named = [other for other in live if isinstance(other, dict) and isinstance(item, dict) and "name" in item]
            same = [other for other in named if other.get("name") == item["name"]]
            counterpart = same[0] if same else live[index] if not named and index < len(live) else None
            _take(item, counterpart, rest)


def _drop(value: Any, parts: list[str]) -> None:
    first, rest = parts[0], parts[1:]
    if isinstance(value, dict):
        for name in [name for name in value if first in ("*", name)]:
            if rest:
                _drop(value[name], rest)
            else:
                del value[name]
    elif isinstance(value, list) and rest:
        for index, item in enumerate(value):
            if first in ("*", str(index)):
                _drop(item, rest)


# --- what an autoscaler owns ------------------------------------------------------------------------------------------


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


# --- redaction and diffs ----------------------------------------------------------------------------------------------


class Redaction:
    """Replaces Secrets' values by marks that are equal exactly when the values are.

    The marks are keyed with a random salt that is forgotten with this object, so they cannot be used to try values.
    """

    def __init__(self, salt: bytes | None = None) -> None:
        self._salt = salt or secrets.token_bytes(16)

    def mark(self, value: Any) -> str:
        """The mark of one value."""
        digest = hmac.new(self._salt, str(value).encode(), hashlib.sha256).hexdigest()
        return "(hidden, mark %s)" % digest[:8]

    def __call__(self, obj: Object) -> Object:
        """The object if it is no Secret, otherwise a copy with marks; stringData and data of equal value look equal."""
        if obj.get("kind") != "Secret":
            return obj
        shown = as_stored(obj)
        if "data" in shown:
            data = shown["data"] if isinstance(shown["data"], dict) else {}
            shown["data"] = {name: self.mark(value) for name, value in data.items()}
        shown.pop("stringData", None)
        annotations = (shown.get("metadata") or {}).get("annotations")
        if isinstance(annotations, dict):
            annotations.pop("kubectl.kubernetes.io/last-applied-configuration", None)
        return shown


def diff_entry(label: str, before: Object | None, after: Object | None, redact: Redaction) -> dict[str, str]:
    """One entry of a task's diff, in the form that Ansible's callbacks show as a unified diff."""
    entry = {"before_header": label, "after_header": label, "before": "", "after": ""}
    for side, obj in (("before", before), ("after", after)):
        if obj is not None:
            entry[side] = to_yaml(redact(obj))
    return entry

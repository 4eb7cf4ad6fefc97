# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What differs between objects: a sure and cheap "nothing", the changed fields, and diffs that show no secret."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.objects import Object
from ansible_collections.lambda_microservice.platform.plugins.module_utils.kubernetes.redaction import Redaction

try:
    import yaml
except ImportError:  # comes with the kubernetes client, whose absence cluster.py reports
    yaml = None  # type: ignore[assignment]


# What the API server keeps by itself, and what says nothing about the object's meaning.
_SERVER_METADATA = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid")


def without_nulls(value: Any) -> Any:
    """A copy in which no dictionary has a null: for the API server null and absent are the same."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


def with_encoded_data(obj: Object) -> Object:
    """A Secret with ``stringData`` moved into ``data``, as the API server stores it; any other object as it is."""
    if obj.get("kind") != "Secret" or obj.get("apiVersion") != "v1" or not isinstance(obj.get("stringData"), dict):
        return obj
    data = obj.get("data") or {}
    if not isinstance(data, dict):
        # The API server says what is wrong with it.
        return obj
    data = dict(data)
    for key, value in obj["stringData"].items():
        # A value that is not a string stays what it is: the API server names its field.
        data[key] = base64.b64encode(value.encode()).decode() if isinstance(value, str) else value
    return {**{key: value for key, value in obj.items() if key != "stringData"}, "data": data}


def is_applied(desired: Object, live: Object, field_manager: str) -> bool:
    """Whether applying ``desired`` again would surely change nothing, told without asking the API server.

    True only if the fields that the manager owns in the live object (``managedFields``, the bookkeeping of server-side
    apply) are exactly those that ``desired`` sets, with the same values. So it sees drift, fields that another manager
    took over, and fields that ``desired`` no longer sets. False may also mean that the API server writes a value
    another way (``0.5`` CPU as ``500m``) or fills in defaults inside a list that is owned as a whole: then ask it.
    """
    for entry in live["metadata"].get("managedFields") or []:
        if (
            entry.get("manager") == field_manager
            and entry.get("operation") == "Apply"
            and entry.get("apiVersion") == desired["apiVersion"]
            and not entry.get("subresource")
        ):
            break
    else:
        return False
    return _owned(_applied_part(desired), live, entry.get("fieldsV1") or {})


def _applied_part(desired: Object) -> Object:
    """What server-side apply records ownership of: all but the identity."""
    part = {key: value for key, value in desired.items() if key not in ("apiVersion", "kind", "metadata")}
    metadata = {key: value for key, value in desired["metadata"].items() if key not in ("name", "namespace")}
    # An object that sets nothing in an empty map owns nothing in it.
    metadata = {key: value for key, value in metadata.items() if value not in ({}, [])}
    return {**part, "metadata": metadata} if metadata else part


def _owned(desired: Any, live: Any, fields: Object) -> bool:
    """Whether desired and live agree on exactly the owned fields.

    ``fields`` is a node of FieldsV1. Its keys are ``f:NAME`` for a field, ``k:{...}`` for an element of a list by its
    key fields, ``v:VALUE`` for one of a set, ``.`` for the node itself; a node without children is owned as a whole (a
    scalar, or an atomic list or map).
    """
    children = {key for key in fields if key != "."}
    if not children:
        return _identical(desired, live)
    if isinstance(desired, dict) and isinstance(live, dict):
        return children == {f"f:{key}" for key in desired} and all(
            key in live and _owned(value, live[key], fields[f"f:{key}"]) for key, value in desired.items()
        )
    if isinstance(desired, list) and isinstance(live, list):
        return len(children) == len(desired) and all(
            _owned_element(desired, live, key, fields[key]) for key in children
        )
    return False


def _owned_element(desired: list[Any], live: list[Any], key: str, fields: Object) -> bool:
    form, dummy, text = key.partition(":")
    try:
        wanted = json.loads(text)
    except ValueError:
        return False
    if form == "v":
        return wanted in desired and wanted in live
    if form != "k":
        return False

    def has_key(element: Any, defaulted: bool) -> bool:
        # The API server fills in key fields that have a default (a port's protocol).
        return isinstance(element, dict) and all(
            element[name] == value if name in element else defaulted for name, value in wanted.items()
        )

    ours = [element for element in desired if has_key(element, defaulted=True)]
    theirs = [element for element in live if has_key(element, defaulted=False)]
    if len(ours) != 1 or len(theirs) != 1:
        return False
    return _owned(ours[0], theirs[0], fields)


def _identical(one: Any, other: Any) -> bool:
    """Equality that tells True from 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_identical(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_identical, one, other))
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def meaning(obj: Object) -> Object:
    """The object without its status and what the API server keeps by itself."""
    metadata = {key: value for key, value in obj["metadata"].items() if key not in _SERVER_METADATA}
    return {**{key: value for key, value in obj.items() if key != "status"}, "metadata": metadata}


def ownership(obj: Object) -> list[Object]:
    """Who owns which fields, without the times and without the status, which its controllers write all the time."""
    entries = obj["metadata"].get("managedFields") or []
    return [
        {key: value for key, value in entry.items() if key != "time"}
        for entry in entries
        if not entry.get("subresource")
    ]


def changed_fields(before: Object, after: Object) -> list[str]:
    """Paths of what differs in meaning (``spec.replicas``, ``spec.ports[0].port``), never values."""
    paths = list(_paths(meaning(before), meaning(after), ""))
    if not paths and ownership(before) != ownership(after):
        return ["metadata.managedFields"]
    return paths


def _paths(before: Any, after: Any, at: str) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            # A key with a dot or a slash (a label's) is not a path of its own.
            path = f"{at}[{key}]" if "." in key or "/" in key else f"{at}.{key}".lstrip(".")
            if key in before and key in after:
                yield from _paths(before[key], after[key], path)
            else:
                yield path
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _paths(one, other, f"{at}[{index}]")
    elif not _identical(before, after):
        yield at


def overlaid(live: Object, desired: Object) -> Object:
    """The live object with the desired values: what an apply would store, as far as it can be told without asking."""

    def merged(below: Any, above: Any) -> Any:
        if isinstance(below, dict) and isinstance(above, dict):
            return {**below, **{key: merged(below.get(key), value) for key, value in above.items()}}
        if isinstance(below, list) and isinstance(above, list) and len(below) == len(above):
            return list(map(merged, below, above))
        return above

    return merged(live, desired)


def diff_of(name: str, before: Object | None, after: Object | None) -> dict[str, str]:
    """An entry of a task's diff; None stands for an object that does not exist."""
    shown = Redaction()
    return {
        "before_header": name,
        "after_header": name,
        "before": _text(before and shown(meaning(before))),
        "after": _text(after and shown(meaning(after))),
    }


def _text(obj: Object | None) -> str:
    if obj is None:
        return ""
    if yaml is None:
        return json.dumps(obj, indent=2, sort_keys=True) + "\n"
    return yaml.safe_dump(obj, sort_keys=True, default_flow_style=False, width=160)

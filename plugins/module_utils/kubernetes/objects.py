# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects of the Kubernetes API as plain dicts, and how they are named."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]


def ref_of(obj: Object) -> Object:
    """The reference ({apiVersion, kind, name, namespace}) of an object, or of a reference in either spelling."""
    metadata = obj.get("metadata") or {}
    return {
        "apiVersion": obj.get("apiVersion") or obj.get("api_version") or "",
        "kind": obj.get("kind") or "",
        "name": metadata.get("name") or obj.get("name") or "",
        "namespace": metadata.get("namespace") or obj.get("namespace") or "",
    }


def spoken(ref: Object) -> str:
    """How messages name an object: ``Deployment controller/controller`` (kind namespace/name)."""
    ref = ref_of(ref)
    return "%s %s" % (ref["kind"], "/".join(part for part in (ref["namespace"], ref["name"]) if part))

# Copyright: Contributors to the lambda_microservice.platform project
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets as diffs may show them: which keys there are and which values differ, never a value."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import Any

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
"""kubectl's copy of the whole object in an annotation, a Secret's data included."""


class Redaction:
    """Replaces Secrets' values by marks that are equal exactly when the values are.

    The marks are keyed with a random salt that is forgotten with this object, so they cannot be used to try values.
    Both sides of a diff need the same Redaction.
    """

    def __init__(self) -> None:
        self._salt = secrets.token_bytes(16)

    def mark(self, value: Any) -> str:
        """The mark of one value."""
        digest = hmac.new(self._salt, str(value).encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
        return "(hidden, mark %s)" % digest[:8]

    def __call__(self, obj: dict[str, Any]) -> dict[str, Any]:
        """The object if it is no Secret, otherwise a copy with marks: a value in stringData looks like the same in
        data, where the API server moves it.
        """
        if obj.get("kind") != "Secret":
            return obj
        shown = {name: item for name, item in obj.items() if name not in ("data", "stringData")}
        encoded = {name: "".join(str(value).split()) for name, value in _entries(obj.get("data"))}
        for name, value in _entries(obj.get("stringData")):
            encoded[name] = base64.b64encode(str(value).encode("utf-8", "surrogatepass")).decode()
        if encoded or "data" in obj or "stringData" in obj:
            shown["data"] = {name: self.mark(value) for name, value in encoded.items()}
        metadata = obj.get("metadata")
        if isinstance(metadata, dict) and isinstance(metadata.get("annotations"), dict):
            annotations = {name: text for name, text in metadata["annotations"].items() if name != LAST_APPLIED}
            shown["metadata"] = {**metadata, "annotations": annotations}
        return shown


def _entries(data: Any) -> list[tuple[str, Any]]:
    """The entries that the API server keeps: no nulls, and nothing of what is no map."""
    return [(name, value) for name, value in data.items() if value is not None] if isinstance(data, dict) else []

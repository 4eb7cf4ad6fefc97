"""images/controller/openapi.yaml as a judge of requests and answers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import yaml
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT: dict[str, Any] = yaml.safe_load((ROOT / "images/controller/openapi.yaml").read_text(encoding="utf-8"))
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
_URN = "urn:openapi"
_REGISTRY: Registry[Any] = Registry().with_resource(_URN, DRAFT202012.create_resource(DOCUMENT))
PROBES = {"health", "ready"}
"""Of the platform, and no caller's."""


def resolved(part: Any) -> Any:
    while isinstance(part, dict) and "$ref" in part:
        found: Any = DOCUMENT
        for step in part["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        part = found
    return part


def faults(schema: Any, value: Any) -> list[str]:
    """What of a value is not as a schema of the document says."""
    # References are within the document, so the schema is looked at as if it stood there.
    anchored = _anchored(schema)
    return [error.message for error in Draft202012Validator(anchored, registry=_REGISTRY).iter_errors(value)]


def _anchored(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: f"{_URN}{inner}" if key == "$ref" else _anchored(inner) for key, inner in schema.items()}
    return [_anchored(inner) for inner in schema] if isinstance(schema, list) else schema


class Operation:
    def __init__(self, method: str, path: str, described: dict[str, Any]) -> None:
        self.id: str = described["operationId"]
        self.method = method.upper()
        self.path = path
        # A literal part wins over a parameter, as in the controller's router: see `operation`.
        self.pattern = re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path))
        self.parameters = [resolved(one) for one in described.get("parameters", [])]
        self.body = described.get("requestBody")
        self.responses = {int(status): resolved(one) for status, one in described["responses"].items()}

    def faults(self, target: str, headers: dict[str, str], body: bytes) -> list[str]:
        parts = urlsplit(target)
        found = self.pattern.fullmatch(parts.path)
        assert found
        given: dict[tuple[str, str], str] = {
            ("path", name): unquote(value) for name, value in found.groupdict().items()
        }
        given |= {("query", name): value for name, value in parse_qsl(parts.query, keep_blank_values=True)}
        known = {
            (one["in"], one["name"].lower() if one["in"] == "header" else one["name"]): one for one in self.parameters
        }
        given |= {
            ("header", name.lower()): value for name, value in headers.items() if ("header", name.lower()) in known
        }
        said = [f"{self.id}: unknown {where} parameter {name}" for where, name in given if (where, name) not in known]
        for key, parameter in known.items():
            if key in given:
                said += [
                    f"{self.id}: {key}: {one}" for one in faults(parameter["schema"], _typed(parameter, given[key]))
                ]
            elif parameter.get("required"):
                said.append(f"{self.id}: {key} is missing")
        return said + self._body_faults(headers, body)

    def _body_faults(self, headers: dict[str, str], body: bytes) -> list[str]:
        if not self.body:
            return [f"{self.id}: a body that it does not take"] if body else []
        if headers.get("content-type") != "application/json":
            return [f"{self.id}: content type {headers.get('content-type')}"]
        schema = self.body["content"]["application/json"]["schema"]
        return [f"{self.id}: body: {one}" for one in faults(schema, json.loads(body))]

    def answer_faults(self, status: int, value: Any) -> list[str]:
        if status not in self.responses:
            return [f"{self.id} has no answer {status}"]
        schema = self.responses[status]["content"]["application/json"]["schema"]
        return [f"{self.id} {status}: {one}" for one in faults(schema, value)]


def _typed(parameter: dict[str, Any], text: str) -> Any:
    kind = resolved(parameter["schema"]).get("type")
    if kind in ("integer", "number"):
        return float(text) if kind == "number" else int(text)
    return text


OPERATIONS = [
    Operation(method, path, described)
    for path, methods in DOCUMENT["paths"].items()
    for method, described in methods.items()
    if method in ("get", "put", "post", "delete")
]


def operation(method: str, target: str) -> Operation | None:
    """The one that a request is for."""
    path = urlsplit(target).path
    fitting = [one for one in OPERATIONS if one.method == method and one.pattern.fullmatch(path)]
    # Fewest parameters first.
    return min(fitting, key=lambda one: one.path.count("{"), default=None)

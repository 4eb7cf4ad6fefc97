"""Every call of the Python client against openapi.yaml: what it asks, and what it makes of each answer."""

from __future__ import annotations

import dataclasses
import types
import typing
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from lambda_microservice_client import Client, LambdaError, Retries, UnexpectedAnswer, errors, models
from lambda_microservice_client.decode import decode

from tests.unit.clients import contract
from tests.unit.clients.edge import Edge, Reply, Request, refusal

TIME = "2026-01-02T03:04:05Z"
DIGEST = "0" * 64
FUNCTION = {
    "language_title": "python-sum",
    "owner": "alice",
    "holds_plain_name": True,
    "language": "python",
    "version": 3,
    "script_size_bytes": 7,
    "script_sha256": DIGEST,
    "created_at": TIME,
    "updated_at": TIME,
}
VERSION = {"version": 3, "script_size_bytes": 7, "script_sha256": DIGEST, "created_at": TIME}
ALIAS = {"alias": "live", "versions": {"2": 90, "3": 10}, "updated_at": TIME}
SECRET = {"name": "TOKEN", "created_at": TIME, "updated_at": TIME}
ID = str(uuid.UUID(int=7))
RAN = {"result": {"a": [1, None]}, "request_id": ID, "execution_time_ms": 1, "memory_usage_bytes": 5}
ANSWERS: dict[str, Any] = {
    "initialize": {"request_id": ID, "status": "initialized", "expires_at": TIME},
    "execute": RAN,
    "showSession": {
        "request_id": ID,
        "status": "initialized",
        "language": "python",
        "language_title": "python-sum",
        "script_size_bytes": 7,
        "created_at": TIME,
        "expires_at": TIME,
    },
    "listFunctions": {"functions": [FUNCTION], "per_page": 100, "page": 1, "total": 1},
    "showFunction": FUNCTION,
    "registerFunction": {
        **FUNCTION,
        "visibility": {"callers": ["bob"]},
        "environment": {"A": "b"},
        "timeout_seconds": 2.5,
        "memory_bytes": 1 << 27,
        "max_concurrency": 3,
        "secrets": ["TOKEN"],
    },
    "removeFunction": {"language_title": "python-sum", "status": "removed"},
    "callFunction": {**RAN, "version": 3},
    "listVersions": {"versions": [VERSION], "per_page": 100},
    "listAliases": {"aliases": [ALIAS]},
    "showAlias": ALIAS,
    "setAlias": ALIAS,
    "removeAlias": {"alias": "live", "status": "removed"},
    "listSecrets": {"secrets": [SECRET]},
    "putSecret": SECRET,
    "removeSecret": {"name": "TOKEN", "status": "removed"},
}
CALLS: dict[str, Callable[[Client, str], Any]] = {
    "initialize": lambda client, _name: client.initialize("python-sum", "result = 1", {"a": 1}),
    "execute": lambda client, _name: client.execute(ID, {"n": 1}, timeout_seconds=2.5, logs=True),
    "showSession": lambda client, _name: client.show_session(ID),
    "listFunctions": lambda client, _name: list(client.list_functions("python", "alice")),
    "showFunction": lambda client, name: client.show_function(name),
    "registerFunction": lambda client, name: client.register_function(
        name,
        "result = 1",
        visibility=models.Callers(["bob"]),
        timeout_seconds=None,
        memory_bytes=1 << 27,
        max_concurrency=None,
        environment={"A": "b"},
        secrets=("TOKEN",),
    ),
    "removeFunction": lambda client, name: client.remove_function(name),
    "callFunction": lambda client, name: client.call(
        name, {"n": 1}, context={}, version="live", timeout_seconds=2.5, logs=True
    ),
    "listVersions": lambda client, name: list(client.list_versions(name)),
    "listAliases": lambda client, name: client.list_aliases(name),
    "showAlias": lambda client, name: client.show_alias(name, "live"),
    "setAlias": lambda client, name: client.set_alias(name, "live", {2: 90, 3: 10}),
    "removeAlias": lambda client, name: client.remove_alias(name, "live"),
    "listSecrets": lambda client, _name: client.list_secrets(),
    "putSecret": lambda client, _name: client.put_secret("TOKEN", "hunter2"),
    "removeSecret": lambda client, _name: client.remove_secret("TOKEN"),
}


def plain(operation: str) -> str:
    """The same without an owner: callOwnedFunction is callFunction."""
    return operation.replace("Owned", "")


@pytest.fixture
def client(edge: Edge) -> Iterator[Client]:
    with Client(edge.url, user="me", retries=Retries(times=0)) as made:
        yield made


@pytest.mark.parametrize("operation", sorted({one.id for one in contract.OPERATIONS} - contract.PROBES))
def test_a_call_asks_as_described_and_reads_the_answer(edge: Edge, client: Client, operation: str) -> None:
    """The server judges the request, its parameters and its body by the document."""
    answer = ANSWERS[plain(operation)]
    edge.replies = [Reply(200, answer)]
    name = "al@ce%/python-sum" if "Owned" in operation else "python-sum"
    found = CALLS[plain(operation)](client, name)
    (request,) = edge.requests
    assert request.operation == operation
    assert request.headers["x-user-id"] == "me"
    wanted = answer
    for field in ("functions", "versions", "aliases", "secrets"):
        wanted = answer[field] if operation.startswith("list") and field in answer else wanted
    assert given(found) == given(wanted)


def given(value: Any) -> Any:
    """Without what was absent."""
    if isinstance(value, list):
        return [given(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return given({one.name: getattr(value, one.name) for one in dataclasses.fields(value)
                      if getattr(value, one.name) is not None})  # fmt: skip
    return {name: given(inner) for name, inner in value.items()} if isinstance(value, dict) else value


MODELS = {
    name: model
    for name, model in vars(models).items()
    if dataclasses.is_dataclass(model) and isinstance(model, type) and name != "Callers"
}


def test_every_answer_has_a_model() -> None:
    of_answers = {
        one.responses[200]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        for one in contract.OPERATIONS
        if one.id not in contract.PROBES
    }
    assert of_answers <= MODELS.keys()
    assert MODELS.keys() - of_answers == {"Version"}  # within VersionList


@pytest.mark.parametrize("name", MODELS)
def test_a_model_has_the_fields_of_its_schema(name: str) -> None:
    schema = contract.SCHEMAS[name]
    fields = {field.name: field for field in dataclasses.fields(MODELS[name])}
    assert fields.keys() == schema["properties"].keys()
    without_default = {one for one, field in fields.items() if field.default is dataclasses.MISSING}
    assert without_default == set(schema["required"])
    hints = typing.get_type_hints(MODELS[name])
    kinds = {"string": str, "integer": int, "number": float, "boolean": bool, "array": list, "object": dict}
    for one, described in schema["properties"].items():
        kind = kinds.get(contract.resolved(described).get("type", ""))
        inner = [part for part in typing.get_args(hints[one]) if part is not type(None)]
        found = inner[0] if isinstance(hints[one], types.UnionType) and len(inner) == 1 else hints[one]
        if kind:
            assert (typing.get_origin(found) or found) is kind, one


def test_every_error_of_the_document_has_a_class_and_says_whether_a_script_may_have_run() -> None:
    codes = {
        schema["allOf"][1]["properties"]["error"]["properties"]["code"]["const"]
        for schema in contract.SCHEMAS.values()
        if "allOf" in schema
    }
    assert codes | {"UNAUTHENTICATED"} == errors.BY_CODE.keys()
    may_have_run = {code for code, kind in errors.BY_CODE.items() if kind.may_have_run}
    assert may_have_run == {"RUNTIME_ERROR", "TIMEOUT", "CONFLICT", "INTERNAL_ERROR"}


@pytest.mark.parametrize(("code", "kind"), errors.BY_CODE.items())
def test_an_error_is_told_as_its_own_kind(edge: Edge, client: Client, code: str, kind: type[errors.ApiError]) -> None:
    status = 401 if code == "UNAUTHENTICATED" else next(
        status for status, one in contract.operation("POST", "/api/v1/functions/python-sum").responses.items()  # type: ignore[union-attr]
        if status >= 400 and not contract.operation("POST", "/api/v1/functions/python-sum").answer_faults(  # type: ignore[union-attr]
            status, {"error": {"code": code, "message": ""}})
    ) if code != "FORBIDDEN" else 403  # fmt: skip
    edge.replies = [refusal(status, code, "why", retry_after="7", x_request_id="r-1")]
    with pytest.raises(kind) as raised:
        client.set_alias("python-sum", "live", {1: 100}) if code == "FORBIDDEN" else client.call("python-sum", {})
    assert (raised.value.code, raised.value.status, str(raised.value)) == (code, status, "why")
    assert (raised.value.retry_after_seconds, raised.value.request_id) == (7, "r-1")


def test_a_list_is_read_page_after_page(edge: Edge, client: Client) -> None:
    pages = {None: ("a", "x"), "a": ("b", "y"), "b": (None, "z")}

    def answer(request: Request) -> Reply:
        after = request.target.partition("after=")[2] or None
        following, owner = pages[after]
        shown = {"functions": [{**FUNCTION, "owner": owner}], "per_page": 100}
        return Reply(200, {**shown, **({"next": following} if following else {})})

    edge.answer = answer
    assert [one.owner for one in client.list_functions()] == ["x", "y", "z"]


def test_null_is_a_value_and_absent_is_not_sent(edge: Edge, client: Client) -> None:
    edge.replies = [Reply(200, ANSWERS["callFunction"])] * 2
    client.call("python-sum", None)
    client.call("python-sum")
    assert [request.json() for request in edge.requests] == [{"params": None}, {}]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda answer: answer.pop("version"), "the answer has no version, which Called must have"),
        (lambda answer: answer.update(version="3"), "the answer.version is str, expected int"),
        (lambda answer: answer.update(version=True), "the answer.version is bool, expected int"),
        (lambda answer: answer.update(memory_usage_bytes=None), "the answer.memory_usage_bytes is null, expected int"),
    ],
)
def test_an_answer_that_is_not_as_described_says_where(change: Callable[[dict[str, Any]], Any], said: str) -> None:
    answer = dict(ANSWERS["callFunction"])
    change(answer)
    with pytest.raises(UnexpectedAnswer) as raised:
        decode(models.Called, answer)
    assert str(raised.value) == said


def test_a_field_that_a_newer_platform_adds_is_left_out() -> None:
    assert decode(models.Called, {**ANSWERS["callFunction"], "more": 1}).version == 3


def test_what_cannot_be_a_part_of_a_path_is_not_sent(edge: Edge, client: Client) -> None:
    for name in ("", "../python-sum", "./python-sum", "/python-sum"):
        with pytest.raises(ValueError, match="cannot be a part of a path"):
            client.show_function(name)
    assert edge.requests == []


def test_every_failure_is_a_lambda_error() -> None:
    assert all(issubclass(kind, LambdaError) for kind in errors.BY_CODE.values())

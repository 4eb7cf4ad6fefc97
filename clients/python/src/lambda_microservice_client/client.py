"""The calls of the API. A function's name is `LANGUAGE-TITLE`, or `OWNER/LANGUAGE-TITLE`."""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from lambda_microservice_client.decode import decode
from lambda_microservice_client.models import (
    Alias,
    AliasList,
    AliasRemoved,
    Called,
    Executed,
    Function,
    FunctionList,
    FunctionRemoved,
    Initialized,
    Secret,
    SecretList,
    SecretRemoved,
    Session,
    Version,
    VersionList,
    Visibility,
)
from lambda_microservice_client.transport import Answer, Retries, Transport

PAGE = 100
# A script may have all of its time, and the platform some to say so.
BEYOND_THE_SCRIPT_SECONDS = 15.0


class Absent:
    def __repr__(self) -> str:
        return "ABSENT"


ABSENT = Absent()
"""What is not sent: None would be null, which is a value."""


class Client:
    """`ca_file`: an authority of the platform's own. `user`: X-User-ID, where the edge trusts it.

    What runs a script carries an Idempotency-Key, made here unless given: the same call with the same key runs nothing
    twice. Calls raise what lambda_microservice_client.errors has; the constructor ValueError."""

    def __init__(
        self,
        url: str,
        *,
        ca_file: str | Path | None = None,
        api_key: str = "",
        token: str = "",
        user: str = "",
        timeout_seconds: float = 45.0,
        retries: Retries | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._transport = Transport(
            url,
            ca_file=ca_file,
            api_key=api_key,
            token=token,
            user=user,
            timeout_seconds=timeout_seconds,
            retries=retries,
            sleep=sleep,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._transport.close()

    # --- functions ---------------------------------------------------------------------------------------------------

    def call(
        self,
        name: str,
        params: Any = ABSENT,
        *,
        context: Any = ABSENT,
        version: str | int | None = None,
        timeout_seconds: float | None = None,
        idempotency_key: str | None = None,
        logs: bool = False,
    ) -> Called:
        """Runs a function once. `version`: its number, `latest`, or an alias. With `logs` the answer, or the error, has
        the end of what the script printed."""
        body = _given(params=params, context=context)
        query = {"version": version}
        return decode(Called, self._run(function_path(name), body, timeout_seconds, idempotency_key, logs, query).data)

    def list_functions(self, language: str | None = None, owner: str | None = None) -> Iterator[Function]:
        """All that the caller sees, by name, page after page."""
        query = {"language": language, "owner": owner, "per_page": PAGE}
        after: str | None = None
        while True:
            answer = self._transport.request("GET", "/api/v1/functions", query={**query, "after": after})
            page = decode(FunctionList, answer.data)
            yield from page.functions
            if (after := page.next) is None:
                return

    def show_function(self, name: str) -> Function:
        return decode(Function, self._transport.request("GET", function_path(name)).data)

    def register_function(
        self,
        name: str,
        script: str,
        *,
        visibility: Visibility | Absent = ABSENT,
        timeout_seconds: float | None | Absent = ABSENT,
        memory_bytes: int | None | Absent = ABSENT,
        max_concurrency: int | None | Absent = ABSENT,
        environment: Mapping[str, str] | Absent = ABSENT,
        secrets: Sequence[str] | Absent = ABSENT,
    ) -> Function:
        """A new function, or a new version where anything but the visibility is another. What is absent stays as it is;
        None takes a limit away. `secrets`: names of those that put_secret has kept."""
        body = _given(
            script_content=script,
            visibility=visibility,
            timeout_seconds=timeout_seconds,
            memory_bytes=memory_bytes,
            max_concurrency=max_concurrency,
            environment=environment,
            secrets=secrets if isinstance(secrets, Absent) else list(secrets),
        )
        return decode(Function, self._transport.request("PUT", function_path(name), body=body).data)

    def remove_function(self, name: str) -> FunctionRemoved:
        return decode(FunctionRemoved, self._transport.request("DELETE", function_path(name)).data)

    def list_versions(self, name: str) -> Iterator[Version]:
        """Those that are kept, the newest first."""
        after: str | None = None
        while True:
            query = {"per_page": PAGE, "after": after}
            answer = self._transport.request("GET", f"{function_path(name)}/versions", query=query)
            page = decode(VersionList, answer.data)
            yield from page.versions
            if (after := page.next) is None:
                return

    def list_aliases(self, name: str) -> list[Alias]:
        answer = self._transport.request("GET", f"{function_path(name)}/aliases")
        return decode(AliasList, answer.data).aliases

    def show_alias(self, name: str, alias: str) -> Alias:
        return decode(Alias, self._transport.request("GET", alias_path(name, alias)).data)

    def set_alias(self, name: str, alias: str, versions: Mapping[int, int]) -> Alias:
        """`versions`: the percentage of calls for each, 100 in all."""
        body = {"versions": {str(version): weight for version, weight in versions.items()}}
        return decode(Alias, self._transport.request("PUT", alias_path(name, alias), body=body).data)

    def remove_alias(self, name: str, alias: str) -> AliasRemoved:
        return decode(AliasRemoved, self._transport.request("DELETE", alias_path(name, alias)).data)

    # --- secrets -----------------------------------------------------------------------------------------------------

    def list_secrets(self) -> list[Secret]:
        """Those of the caller, by name. No value is ever shown."""
        return decode(SecretList, self._transport.request("GET", "/api/v1/secrets").data).secrets

    def put_secret(self, name: str, value: str) -> Secret:
        """Keeps a secret, or gives it another value, which the next call of a function that names it gets."""
        answer = self._transport.request("PUT", f"/api/v1/secrets/{_segment(name)}", body={"value": value})
        return decode(Secret, answer.data)

    def remove_secret(self, name: str) -> SecretRemoved:
        return decode(SecretRemoved, self._transport.request("DELETE", f"/api/v1/secrets/{_segment(name)}").data)

    # --- sessions ----------------------------------------------------------------------------------------------------

    def initialize(self, language_title: str, script: str | Absent = ABSENT, context: Any = ABSENT) -> Initialized:
        """Keeps a script, or the registered one of this name, with a context."""
        answer = self._transport.request(
            "POST",
            "/api/v1/initialize",
            headers={"Language-Title": language_title},
            body=_given(script_content=script, context=context),
        )
        return decode(Initialized, answer.data)

    def execute(
        self,
        request_id: str,
        params: Any = ABSENT,
        *,
        timeout_seconds: float | None = None,
        idempotency_key: str | None = None,
        logs: bool = False,
    ) -> Executed:
        """Runs the script of a session once. `logs` as with `call`."""
        path = f"/api/v1/execute/{_segment(request_id)}"
        body = _given(params=params)
        return decode(Executed, self._run(path, body, timeout_seconds, idempotency_key, logs, {}).data)

    def show_session(self, request_id: str) -> Session:
        return decode(Session, self._transport.request("GET", f"/api/v1/sessions/{_segment(request_id)}").data)

    def _run(
        self,
        path: str,
        body: Any,
        timeout_seconds: float | None,
        idempotency_key: str | None,
        logs: bool,
        query: Mapping[str, Any],
    ) -> Answer:
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        if logs:
            headers["X-Log-Type"] = "tail"
        wait = self._transport.timeout_seconds
        if timeout_seconds is not None:
            headers["X-Timeout-Seconds"] = f"{timeout_seconds:g}"
            wait = max(wait, timeout_seconds + BEYOND_THE_SCRIPT_SECONDS)
        return self._transport.request("POST", path, query=query, headers=headers, body=body, timeout_seconds=wait)


def function_path(name: str) -> str:
    owner, slash, language_title = name.rpartition("/")
    if not slash:
        return f"/api/v1/functions/{_segment(language_title)}"
    return f"/api/v1/functions/{_segment(owner)}/{_segment(language_title)}"


def alias_path(name: str, alias: str) -> str:
    return f"{function_path(name)}/aliases/{_segment(alias)}"


def _segment(text: str) -> str:
    # A proxy on the way would take these for steps up, and ask for something else.
    if text in ("", ".", ".."):
        raise ValueError(f"{text!r} cannot be a part of a path; expected a name")
    return quote(text, safe="")


def _given(**fields: Any) -> dict[str, Any]:
    return {name: _plain(value) for name, value in fields.items() if not isinstance(value, Absent)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return dict(value) if isinstance(value, Mapping) else value

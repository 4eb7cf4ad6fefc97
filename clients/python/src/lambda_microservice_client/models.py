"""What the API answers, field by field as images/controller/openapi.yaml has it; a test compares both.

Times are texts as they came (RFC 3339). What has a default is absent in some answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Initialized:
    request_id: str
    status: str
    expires_at: str


@dataclass(frozen=True)
class Executed:
    result: Any
    request_id: str
    execution_time_ms: float
    memory_usage_bytes: int
    logs: str | None = None


@dataclass(frozen=True)
class Called:
    result: Any
    request_id: str
    version: int
    execution_time_ms: float
    memory_usage_bytes: int
    logs: str | None = None


@dataclass(frozen=True)
class Session:
    request_id: str
    status: str
    language: str
    language_title: str
    script_size_bytes: int
    created_at: str
    expires_at: str


@dataclass(frozen=True)
class Callers:
    """A visibility: the owner, and these users."""

    callers: list[str]


Visibility = str | Callers
"""`private`, `shared`, or Callers."""


@dataclass(frozen=True)
class Function:
    language_title: str
    owner: str
    holds_plain_name: bool
    language: str
    version: int
    script_size_bytes: int
    script_sha256: str
    created_at: str
    updated_at: str
    timeout_seconds: float | None = None
    memory_bytes: int | None = None
    max_concurrency: int | None = None
    visibility: str | Callers | None = None
    environment: dict[str, str] | None = None
    secrets: list[str] | None = None

    @property
    def name(self) -> str:
        """By which everybody who may see it finds it."""
        return self.language_title if self.holds_plain_name else f"{self.owner}/{self.language_title}"


@dataclass(frozen=True)
class FunctionList:
    functions: list[Function]
    per_page: int
    page: int | None = None
    total: int | None = None
    next: str | None = None


@dataclass(frozen=True)
class FunctionRemoved:
    language_title: str
    status: str


@dataclass(frozen=True)
class Version:
    version: int
    script_size_bytes: int
    script_sha256: str
    created_at: str
    timeout_seconds: float | None = None
    memory_bytes: int | None = None
    max_concurrency: int | None = None


@dataclass(frozen=True)
class VersionList:
    versions: list[Version]
    per_page: int
    next: str | None = None


@dataclass(frozen=True)
class Alias:
    alias: str
    versions: dict[str, int]
    updated_at: str


@dataclass(frozen=True)
class AliasList:
    aliases: list[Alias]


@dataclass(frozen=True)
class AliasRemoved:
    alias: str
    status: str


@dataclass(frozen=True)
class Secret:
    """What is told of a secret: never its value."""

    name: str
    created_at: str
    updated_at: str


@dataclass(frozen=True)
class SecretList:
    secrets: list[Secret]


@dataclass(frozen=True)
class SecretRemoved:
    name: str
    status: str

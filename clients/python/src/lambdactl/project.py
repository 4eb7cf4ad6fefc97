"""lambda.toml: what is deployed from a folder."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lambda_microservice_client import ABSENT, Absent
from lambda_microservice_client.models import Callers

from lambdactl.failure import Failure
from lambdactl.names import language_of

FILE = "lambda.toml"
SCRIPTS = {"python": "function.py", "nodejs": "function.js", "rust": "function.rs"}
_SETTINGS = ("timeout_seconds", "memory_bytes", "max_concurrency", "visibility", "environment", "secrets")
_FIELDS = ("name", "script", *_SETTINGS)


@dataclass(frozen=True)
class Project:
    """What is ABSENT stays as the platform has it. A limit of None is none."""

    name: str
    script: str
    timeout_seconds: float | None | Absent = ABSENT
    memory_bytes: int | None | Absent = ABSENT
    max_concurrency: int | None | Absent = ABSENT
    visibility: str | Callers | Absent = ABSENT
    environment: dict[str, str] | Absent = ABSENT
    secrets: list[str] | Absent = ABSENT

    def settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _SETTINGS}


def read(folder: Path) -> Project:
    """All that is wrong with the file is told at once."""
    file = folder / FILE if folder.is_dir() else folder
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise Failure(f"{file} is not there; expected the folder of a function, as lambdactl init makes it") from None
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}") from None
    except ValueError as error:
        raise Failure(f"{file} is no TOML: {error}") from None
    faults = [f"{name} is unknown; expected {', '.join(_FIELDS)}" for name in found if name not in _FIELDS]
    faults += [f"{name} is missing" for name in ("name", "script") if name not in found]
    faults += [
        f"{name} is {found[name]!r}, expected {expected}"
        for name, (expected, fits) in _EXPECTED.items()
        if name in found and not fits(found[name])
    ]
    if faults:
        raise Failure(f"{file}: {'; '.join(faults)}")
    try:
        language_of(found["name"])
    except Failure as failure:
        raise Failure(f"{file}: name: {failure}") from None
    return Project(
        found["name"],
        script(file.parent / found["script"]),
        **{name: found[name] or None for name in _LIMITS if name in found},
        visibility=_visibility(found["visibility"]) if "visibility" in found else ABSENT,
        environment=found.get("environment", ABSENT),
        secrets=sorted(found["secrets"]) if "secrets" in found else ABSENT,
    )


_LIMITS = ("timeout_seconds", "memory_bytes", "max_concurrency")


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) and one for one in value)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


_EXPECTED: dict[str, tuple[str, Any]] = {
    "name": ("a text", lambda value: isinstance(value, str)),
    "script": ("a file's name", lambda value: isinstance(value, str) and value != ""),
    "timeout_seconds": (
        "a number of seconds, 0 for the platform's own",
        lambda value: isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf"),
    ),
    "memory_bytes": ("a whole number of bytes, 0 for the platform's own", _whole),
    "max_concurrency": ("a whole number, 0 for none", _whole),
    "visibility": (
        '"private", "shared" or a list of users',
        lambda value: value in ("private", "shared") or (_texts(value) and value != []),
    ),
    "environment": (
        "names and texts",
        lambda value: isinstance(value, dict) and all(isinstance(one, str) for one in value.values()),
    ),
    "secrets": ("a list of names", _texts),
}


def _visibility(value: str | list[str]) -> str | Callers:
    return value if isinstance(value, str) else Callers(value)


def script(file: Path) -> str:
    try:
        content = file.read_text(encoding="utf-8")
    except OSError as error:
        raise Failure(f"the script {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Failure(f"the script {file} is no text in UTF-8") from None
    if not content.strip():
        raise Failure(f"the script {file} is empty")
    return content

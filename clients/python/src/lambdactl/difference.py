"""What a deployment would change. A script itself is not shown by the platform, so it is told by its hash and size."""

from __future__ import annotations

import hashlib
from typing import Any

from lambda_microservice_client import Absent
from lambda_microservice_client.models import Callers, Function

from lambdactl.names import visibility_text
from lambdactl.project import Project

Row = tuple[str, str, str]


def changes(there: Function | None, wanted: Project) -> list[Row]:
    """(what, now, then); nothing where all is as wanted."""
    content = wanted.script.encode()
    digest = hashlib.sha256(content).hexdigest()
    rows = [
        (
            "script",
            _script(there.script_sha256, there.script_size_bytes) if there else "",
            _script(digest, len(content)) if there is None or there.script_sha256 != digest else None,
        )
    ]
    rows += [
        (name, _number(getattr(there, name, None)), _number(getattr(wanted, name)))
        for name in ("timeout_seconds", "memory_bytes", "max_concurrency")
        if not isinstance(getattr(wanted, name), Absent)
    ]
    if not isinstance(wanted.visibility, Absent):
        now = _visible(there.visibility) if there else ""
        rows.append(("visibility", now, _visible(wanted.visibility)))
    if not isinstance(wanted.environment, Absent):
        before = (there.environment if there else None) or {}
        rows += [
            (f"environment {name}", before.get(name, ""), wanted.environment.get(name, ""))
            for name in sorted(before.keys() | wanted.environment.keys())
        ]
    if not isinstance(wanted.secrets, Absent):
        rows.append(("secrets", ", ".join((there.secrets if there else None) or []), ", ".join(wanted.secrets)))
    return [(what, now, then) for what, now, then in rows if then is not None and now != then]


def _script(digest: str, size: int) -> str:
    return f"{digest[:12]} ({size} bytes)"


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.15g}"


def _visible(value: str | Callers | None) -> str:
    return visibility_text(value or "shared")

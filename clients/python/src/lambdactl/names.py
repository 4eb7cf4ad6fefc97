"""Functions' names, and words for what they have."""

from __future__ import annotations

import re

from lambda_microservice_client.models import Callers

from lambdactl.failure import Failure

_NAME = re.compile(r"(?:[!-~]+/)?(nodejs|python|rust)-[A-Za-z0-9._-]+")


def language_of(name: str) -> str:
    found = _NAME.fullmatch(name)
    if not found or len(name.rpartition("/")[2]) > 128:
        raise Failure(
            f"{name!r} is no name of a function; expected LANGUAGE-TITLE, 128 characters at most (nodejs, python or"
            " rust, a dash, then letters, digits, '.', '_' and '-'), or OWNER/LANGUAGE-TITLE"
        )
    return found[1]


def visibility_text(visibility: str | Callers) -> str:
    return visibility if isinstance(visibility, str) else "callers " + ", ".join(sorted(visibility.callers))

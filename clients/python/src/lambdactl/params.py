"""The params of a call: JSON of the command line, of a file or of stdin, or NAME=VALUE."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from lambdactl.failure import Failure

Command = TypeVar("Command", bound=Callable[..., Any])


def options(command: Command) -> Command:
    """Those of a command that takes params."""
    for option in (
        click.option(
            "-p",
            "--param",
            "words",
            multiple=True,
            metavar="NAME=VALUE",
            help="One of the params; a VALUE that is no JSON is a text.",
        ),
        click.option(
            "-f",
            "--file",
            "params_file",
            type=click.Path(path_type=Path, allow_dash=True),
            help="A file with the params as JSON; - is stdin.",
        ),
        click.option("-d", "--data", metavar="JSON", help="The params."),
    ):
        command = option(command)
    return command


def read(data: str | None, file: Path | None, words: Iterable[str]) -> Any:
    """{} where nothing is given."""
    if data is not None and file is not None:
        raise Failure("--data and --file both give params; expected one of them")
    given = {} if data is None and file is None else _whole(data, file)
    return of_words(words, given) if words else given


def _whole(data: str | None, file: Path | None) -> Any:
    if file is None:
        return _json(data or "", "--data")
    if str(file) == "-":
        return _json(sys.stdin.buffer.read(), "stdin")
    try:
        return _json(file.read_bytes(), str(file))
    except OSError as error:
        raise Failure(f"{file}: {error.strerror}") from None


def of_words(words: Iterable[str], begin: Any) -> dict[str, Any]:
    """NAME=VALUE over what was given as a whole."""
    if not isinstance(begin, dict):
        raise Failure('--param beside params that are no object; expected an object, as in {"name": "Ada"}')
    found = dict(begin)
    named: set[str] = set()
    for word in words:
        name, sign, value = word.partition("=")
        if not sign or not name:
            raise Failure(f"{word!r} is no param; expected NAME=VALUE")
        if name in named:
            raise Failure(f"param {name!r} is given twice")
        named.add(name)
        try:
            found[name] = _strict(value)
        except (ValueError, RecursionError):
            found[name] = value
    return found


def _json(text: str | bytes, where: str) -> Any:
    try:
        return _strict(text)
    except (ValueError, RecursionError) as error:
        reason = str(error) or "it is nested too deeply"
        raise Failure(f"{where} is no JSON: {reason}") from None


def _strict(text: str | bytes) -> Any:
    """Without NaN and Infinity, which are Python's alone."""

    def refused(constant: str) -> None:
        raise ValueError(f"{constant} is no number of JSON")

    return json.loads(text, parse_constant=refused)

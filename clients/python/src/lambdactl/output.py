"""What is printed: JSON as it is, or tables whose columns stand under each other at any width of characters."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

import click
from rich.cells import cell_len

from lambdactl.failure import Failure


class PipeClosed(Exception):
    """Who read the output went away."""


def as_json(value: Any) -> None:
    """Pure JSON on stdout, with a line's end."""
    # A terminal that has no Unicode gets JSON's own way to write it.
    escaped = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    _write(json.dumps(_plain(value), indent=2, ensure_ascii=escaped) + "\n")


def line(text: str) -> None:
    _write(visible(text) + "\n")


def text(whole: str) -> None:
    """As it is, e.g. a script for a shell."""
    _write(whole)


def printed(logs: str) -> None:
    """What a script printed, on stderr, where it is nobody's result."""
    for one in logs.splitlines():
        click.echo(visible(one), err=True)


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    cells = [list(heads), *([visible(_cell(value)) for value in row] for row in rows)]
    widths = [max(cell_len(row[number]) for row in cells) for number in range(len(heads))]
    for number, row in enumerate(cells):
        padded = "   ".join(
            cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        head = number == 0 and coloured(sys.stdout)
        _write((click.style(padded, bold=True) if head else padded) + "\n")


def facts(pairs: Iterable[tuple[str, Any]]) -> None:
    """Two columns: a name and its value."""
    shown = [(name, visible(_cell(value))) for name, value in pairs]
    width = max(cell_len(name) for name, _value in shown)
    for name, value in shown:
        _write(f"{name}{' ' * (width - cell_len(name))}   {value}".rstrip() + "\n")


def visible(value: str) -> str:
    """Without what a terminal would obey: some texts are others' (an owner's name, a script's error)."""
    return "".join(one if one.isprintable() else _escaped(one) for one in value)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # What an answer left out is left out here: a default of None says so. A result that is null stays.
        named = [(field, getattr(value, field.name)) for field in dataclasses.fields(value)]
        return {field.name: _plain(inner) for field, inner in named if inner is not None or field.default is not None}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def coloured(stream: TextIO) -> bool:
    """https://no-color.org: NO_COLOR, when not empty, says no."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _write(whole: str) -> None:
    content = whole.encode(
        sys.stdout.encoding, "backslashreplace"
    )  # a terminal that lacks a character shows its number
    try:
        # Without a buffer (PYTHONUNBUFFERED) a part may be written, which a text's stream would not tell.
        while content:
            content = content[sys.stdout.buffer.write(content) :]
        sys.stdout.flush()
    except BrokenPipeError as error:
        raise PipeClosed from error
    except OSError as error:
        raise Failure(f"what was to be printed could not be: {error.strerror}") from error


def complaint(message: str) -> None:
    """One line on stderr."""
    mark = "lambdactl: "
    said = " ".join(visible(part) for part in message.split("\n") if part.strip())
    try:
        sys.stderr.write(f"{mark}{said}\n")
        sys.stderr.flush()
    except OSError:
        return  # nobody hears it; the exit code says it still

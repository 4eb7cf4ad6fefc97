"""lambdactl secret"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from lambdactl import output, session
from lambdactl.failure import Failure


@click.group(cls=session.Commands, short_help="Texts for your scripts that nobody is shown.")
def secret() -> None:
    """Texts for your scripts that nobody is shown.

    A function has those that its lambda.toml names (secrets) as context.secrets."""


@secret.command("list")
@session.asks
def list_secrets(context_name: str | None, form: str) -> None:
    """The names of your secrets."""
    with session.client(context_name) as client:
        found = client.list_secrets()
    if form == "json":
        output.as_json(found)
        return
    output.table(["NAME", "CREATED", "UPDATED"], [[one.name, one.created_at, one.updated_at] for one in found])


@secret.command("set", short_help="Keep a secret, or give it another value.")
@click.argument("name")
@click.option("--file", type=click.Path(path_type=Path, allow_dash=True), help="A file with the value; - is stdin.")
@session.asks
def set_secret(name: str, file: Path | None, context_name: str | None, form: str) -> None:
    """Keep a secret, or give it another value, which the next call gets.

    The value is asked for, or comes from --file, of which a last line end is left off. It is no argument, as everybody
    on the machine sees those.

    \b
    lambdactl secret set API_TOKEN
    vault read -field=token shop | lambdactl secret set API_TOKEN --file -
    """
    value = _value(name, file)
    with session.client(context_name) as client:
        kept = client.put_secret(name, value)
    if form == "json":
        output.as_json(kept)
    else:
        output.line(f"kept {name}")


@secret.command("remove")
@click.argument("name")
@session.asks
def remove_secret(name: str, context_name: str | None, form: str) -> None:
    """Remove a secret; functions that name it are not found from then on."""
    with session.client(context_name) as client:
        removed = client.remove_secret(name)
    if form == "json":
        output.as_json(removed)
    else:
        output.line(f"removed {name}")


def _value(name: str, file: Path | None) -> str:
    if file is None:
        if not sys.stdin.isatty():
            raise Failure(f"no value of {name}: expected --file, or a terminal to ask at")
        value: str = click.prompt(name, hide_input=True, err=True)
        return value
    where = "stdin" if str(file) == "-" else str(file)
    try:
        content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        value = content.decode("utf-8")
    except OSError as error:
        raise Failure(f"the value of {name} from {where}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Failure(f"the value of {name} from {where} is no text in UTF-8") from None
    return value.removesuffix("\n").removesuffix("\r")

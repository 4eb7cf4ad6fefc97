"""lambdactl login"""

from __future__ import annotations

import contextlib
import os
import sys
import uuid
from pathlib import Path

import click
from lambda_microservice_client import NotFound

from lambdactl import contexts, output, session
from lambdactl.failure import Failure

_VARIABLES = {"api-key": "LAMBDACTL_API_KEY", "token": "LAMBDACTL_TOKEN"}
_WORDS = {"api-key": "API key", "token": "Token"}


@click.command(short_help="Keep where the platform is and who asks.")
@click.argument("url")
@click.option("--name", default="default", show_default=True, help="The context's name.")
@click.option(
    "--ca", type=click.Path(path_type=Path), help="The authority's certificate (PEM), if it is a private one."
)
@click.option("--user", default="", help="X-User-ID, where the edge trusts callers to say it.")
@click.option(
    "--auth",
    type=click.Choice(["none", "api-key", "token"]),
    help="What proves who asks. Without it: the variable that is set, else none.",
)
@click.option(
    "--secret-file", type=click.Path(path_type=Path, allow_dash=True), help="A file with the key or token; - is stdin."
)
def login(url: str, name: str, ca: Path | None, user: str, auth: str | None, secret_file: Path | None) -> None:
    """Keep where the platform is and who asks, and make that context the current one.

    The platform is asked first, so what is kept works. The key or token comes from a prompt, --secret-file, or
    LAMBDACTL_API_KEY or LAMBDACTL_TOKEN, and is kept in a file that only you can read.

    \b
    lambdactl login https://lambda.example.com --auth api-key
    lambdactl login https://localhost:8443 --ca .local/ca.crt --user me
    vault read -field=token lambda | lambdactl login https://lambda.example.com --auth token --secret-file -
    """
    before = contexts.read()  # a file that cannot be written again is told before the secret is asked for
    kind = auth or _by_environment()
    if secret_file and kind == "none":
        raise Failure("--secret-file without --auth: expected --auth api-key or --auth token beside it")
    secret = "" if kind == "none" else _secret(kind, secret_file)
    made = contexts.Context(
        url.rstrip("/"),
        str(ca.absolute()) if ca else "",
        user,
        api_key=secret if kind == "api-key" else "",
        token=secret if kind == "token" else "",
    )
    after = contexts.with_context(before, name, made)
    with session.client_of(made) as client, contextlib.suppress(NotFound):
        client.show_session(str(uuid.uuid4()))  # nobody's: it asks the store alone
    contexts.write(after)
    output.line(f"logged in: context {name}, {made.url}, {_who(made)}")


def _by_environment() -> str:
    given = [kind for kind, variable in _VARIABLES.items() if os.environ.get(variable)]
    if len(given) > 1:
        raise Failure("LAMBDACTL_API_KEY and LAMBDACTL_TOKEN are both set; say --auth api-key or --auth token")
    return given[0] if given else "none"


def _secret(kind: str, file: Path | None) -> str:
    word = _WORDS[kind]
    if file is not None and str(file) == "-":
        secret = sys.stdin.buffer.read().decode("utf-8", "replace")  # what is no text is no header either
    elif file is not None:
        try:
            secret = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise Failure(f"{word} from {file}: {reason}") from None
    elif value := os.environ.get(_VARIABLES[kind]):
        secret = value
    elif sys.stdin.isatty():
        secret = click.prompt(word, hide_input=True, err=True)
    else:
        raise Failure(f"no {word}: expected --secret-file, {_VARIABLES[kind]}, or a terminal to ask at")
    secret = secret.strip()
    if not secret:
        raise Failure(f"the {word} is empty")
    return secret


def _who(context: contexts.Context) -> str:
    proof = {"api-key": "with an API key", "token": "with a token", "none": "without a proof"}[context.proof]
    return f"{proof}, user {context.user}" if context.user else proof

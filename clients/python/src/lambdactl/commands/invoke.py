"""lambdactl invoke"""

from __future__ import annotations

import uuid
from pathlib import Path

import click
from lambda_microservice_client import ApiError, ConnectionBroken, InternalError

from lambdactl import failure, output, session
from lambdactl.params import options, read


@click.command(short_help="Call a function once, and print its result as JSON.")
@click.argument("name")
@options
@click.option("--version", metavar="VERSION", help="A version's number, latest, or an alias.")
@click.option("--logs", is_flag=True, help="Show on stderr the last 4 KiB of what the script printed.")
@click.option("--timeout", type=click.FloatRange(min=0.001), metavar="SECONDS", help="How long the script may run.")
@click.option(
    "--idempotency-key", metavar="KEY", help="That of an earlier call: it is not run twice, its answer comes again."
)
@session.asks
def invoke(
    name: str,
    data: str | None,
    params_file: Path | None,
    words: tuple[str, ...],
    version: str | None,
    logs: bool,
    timeout: float | None,
    idempotency_key: str | None,
    context_name: str | None,
    form: str,
) -> None:
    """Call a function once, and print its result as JSON (-o json: the whole answer).

    \b
    lambdactl invoke python-hello -p name=Ada -p times=3
    lambdactl invoke python-hello -d '{"name": "Ada"}' --version live
    lambdactl invoke alice/nodejs-report -f params.json
    generate | lambdactl invoke python-hello -f -
    """
    params = read(data, params_file, words)
    key = idempotency_key or str(uuid.uuid4())
    with session.client(context_name) as client:
        try:
            answer = client.call(name, params, version=version, timeout_seconds=timeout, idempotency_key=key, logs=logs)
        except ApiError as error:
            output.printed(error.logs or "")
            if isinstance(error, InternalError):
                raise may_have_run(error, key) from error
            raise
        except ConnectionBroken as error:
            raise may_have_run(error, key) from error
    output.printed(answer.logs or "")
    output.as_json(answer if form == "json" else answer.result)


def may_have_run(error: ConnectionBroken | InternalError, key: str) -> failure.Failure:
    told = failure.of_call(error)
    again = f"its answer, without a second run: the same command with --idempotency-key {key}"
    return failure.Failure(f"{told}; it may have run; {again}", told.code)

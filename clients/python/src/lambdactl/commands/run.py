"""lambdactl run"""

from __future__ import annotations

import uuid
from pathlib import Path

import click
from lambda_microservice_client import LambdaError

from lambdactl import container, failure, output
from lambdactl.params import options, read
from lambdactl.project import SCRIPTS, script

_LANGUAGES = {Path(name).suffix: language for language, name in SCRIPTS.items()}


@click.command(short_help="Run a file in the runtime's container on this machine.")
@click.argument("file", type=click.Path(path_type=Path))
@options
@click.option("--timeout", type=click.FloatRange(min=0.001), metavar="SECONDS", help="How long the script may run.")
@click.option("--image", help="The runtime's image; else the newest on this machine that is called runtime-LANGUAGE.")
def run(
    file: Path,
    data: str | None,
    params_file: Path | None,
    words: tuple[str, ...],
    timeout: float | None,
    image: str | None,
) -> None:
    """Run a script once in its runtime's own container on this machine, and print its result as JSON.

    No platform is asked. Docker has to be there, and the platform's image of the language, which the file's ending
    says (.py, .js, .rs).
    The limits are those that a platform has by default.

    \b
    lambdactl run python-hello/function.py -p name=Ada
    lambdactl run function.rs -f params.json --timeout 5
    """
    language = _LANGUAGES.get(file.suffix)
    if language is None:
        raise failure.Failure(
            f"{file} is of no language; expected a file that ends with {', '.join(sorted(_LANGUAGES))}"
        )
    body = {"request_id": str(uuid.uuid4()), "params": read(data, params_file, words), "context": {}}
    body["script_content"] = script(file)
    headers = {} if timeout is None else {"X-Timeout-Seconds": f"{timeout:g}"}
    with container.running(image or container.newest_image(language)) as runtime:
        try:
            answer = runtime.request(
                "POST", "/execute", headers=headers, body=body, timeout_seconds=(timeout or 30) + 30
            )
        except LambdaError as error:
            raise failure.of_call(error) from error
    output.as_json(answer.data.get("result"))

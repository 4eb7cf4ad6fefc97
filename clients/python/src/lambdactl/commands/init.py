"""lambdactl init"""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

import click

from lambdactl import output
from lambdactl.failure import Failure
from lambdactl.names import language_of
from lambdactl.project import FILE, SCRIPTS

_TESTS = {"python": "python3 -m unittest", "nodejs": "node --test", "rust": "cargo test"}


@click.command(short_help="Make a folder with a function, its test and configuration.")
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path), required=False)
def init(name: str, folder: Path | None) -> None:
    """Make a folder with a function, its test and its configuration.

    NAME begins with the language: nodejs-, python- or rust-. The folder is called like it unless FOLDER is given.

    \b
    lambdactl init python-hello
    lambdactl init rust-words words
    """
    language = language_of(name)
    target = folder or Path(name.rpartition("/")[2])
    try:
        target.mkdir(parents=True, exist_ok=True)
        if any(target.iterdir()):
            raise Failure(f"{target} is not empty; expected a new folder, as nothing is written over")
        for source in resources.files("lambdactl").joinpath("templates", language).iterdir():
            if source.is_file():
                with resources.as_file(source) as file:
                    shutil.copyfile(file, target / source.name)
        (target / FILE).write_text(_configuration(name, language), encoding="utf-8")
    except OSError as error:
        raise Failure(f"{error.filename or target}: {error.strerror}") from None
    output.line(f"made {target}: {', '.join(sorted(one.name for one in target.iterdir()))}")
    output.line(f"its test: cd {target} && {_TESTS[language]}")
    output.line(f"deploy it: lambdactl deploy {target}")


def _configuration(name: str, language: str) -> str:
    return f"""\
# What `lambdactl deploy` registers. A line that is taken away leaves that of the platform as it is.
name = "{name}"
script = "{SCRIPTS[language]}"
# timeout_seconds = 5              # 0: the platform's own
# visibility = "private"           # "shared", or a list of users, as in ["alice", "bob"]
# memory_bytes = 134217728         # 0: the platform's own
# max_concurrency = 10             # calls at once; 0: as many as the platform can
# secrets = ["API_TOKEN"]          # those of `lambdactl secret`, which the script sees as context.secrets
# [environment]                    # texts that the script sees as context.environment; no place for secrets
# MODE = "test"
"""

"""The commands together, and how each ends: one line on stderr and an exit code, never a traceback."""

from __future__ import annotations

import traceback
from pathlib import Path

import click
from lambda_microservice_client import __version__

from lambdactl import failure, output
from lambdactl.commands import alias, completion, context, deploy, functions, init, invoke, login, secret
from lambdactl.commands import run as run_file
from lambdactl.session import Commands

_CODES = "\n".join(f"  {code:>3}  {meaning}" for code, meaning in failure.TABLE.items())
_EPILOG = f"""\b
First steps:
  lambdactl login https://lambda.example.com --auth api-key
  lambdactl init python-hello && cd python-hello
  lambdactl deploy
  lambdactl invoke python-hello -p name=Ada

\b
Exit codes:
{_CODES}

\b
Environment:
  LAMBDACTL_URL, LAMBDACTL_CA_FILE, LAMBDACTL_USER   a platform without a context
  LAMBDACTL_API_KEY, LAMBDACTL_TOKEN                 who asks, instead of the context's
  LAMBDACTL_CONTEXT                                  a context's name
  LAMBDACTL_CONFIG                                   the file of contexts
  NO_COLOR                                           no colours
"""


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog=_EPILOG,
)
@click.version_option(__version__, prog_name="lambdactl", message="%(prog)s %(version)s")
def program() -> None:
    """Functions on a lambda platform: make, deploy, call, and undo them.

    A function's NAME is LANGUAGE-TITLE, as in python-hello (nodejs, python or rust), or OWNER/LANGUAGE-TITLE."""


for command in (
    login.login,
    context.context,
    init.init,
    deploy.deploy,
    invoke.invoke,
    functions.list_functions,
    functions.show,
    functions.versions,
    alias.alias,
    alias.rollback,
    functions.remove,
    secret.secret,
    run_file.run,
    completion.completion,
):
    program.add_command(command)


def run(arguments: list[str]) -> int:
    """The exit code; what is wrong has been said."""
    try:
        ended = program.main(arguments, prog_name="lambdactl", standalone_mode=False)
        return ended if isinstance(ended, int) else failure.OK
    except failure.Failure as error:
        output.complaint(str(error))
        return error.code
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "lambdactl"
        output.complaint(f"{error.format_message()} See: {where} --help")
        return failure.WRONG_USE
    except click.ClickException as error:
        output.complaint(error.format_message())
        return failure.WRONG_USE
    except (click.Abort, KeyboardInterrupt):
        output.complaint("interrupted")
        return failure.INTERRUPTED
    except (output.PipeClosed, BrokenPipeError):
        return failure.PIPE_CLOSED
    except Exception as error:
        output.complaint(_own_fault(error))
        return failure.OWN_FAULT


def _own_fault(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    # Not its text: it may quote what was given, a key among it.
    where = f"{Path(frame.filename).name}:{frame.lineno}"
    return f"a fault of lambdactl {__version__} itself: {type(error).__name__} at {where}; please report it"

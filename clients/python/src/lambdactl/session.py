"""What every command that asks the platform has: its options, and a client that says where it waits."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click
from lambda_microservice_client import Client, LambdaError, Retries

from lambdactl import contexts, failure, output

Command = TypeVar("Command", bound=Callable[..., Any])


def _context_names(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    try:
        return [name for name in sorted(contexts.read().named) if name.startswith(incomplete)]
    except failure.Failure:
        return []  # a completion has nowhere to complain


context_option = click.option(
    "--context",
    "context_name",
    metavar="NAME",
    shell_complete=_context_names,
    help="The platform and the caller, as `lambdactl login` kept them; else the current one.",
)
output_option = click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="json: what the platform answered, alone on stdout.",
)


class Commands(click.Group):
    """Without a command it shows its help."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args or ["--help"])


def asks(command: Command) -> Command:
    """The options of a command that asks the platform."""
    return output_option(context_option(command))


@contextmanager
def client(context_name: str | None) -> Iterator[Client]:
    with client_of(contexts.chosen(context_name, os.environ)) as made:
        yield made


@contextmanager
def client_of(context: contexts.Context) -> Iterator[Client]:
    """Its errors, and those of the calls, as Failures."""
    try:
        with Client(
            context.url,
            ca_file=context.ca_file or None,
            api_key=context.api_key,
            token=context.token,
            user=context.user,
            retries=Retries(told=_told),
        ) as made:
            yield made
    except LambdaError as error:
        raise failure.of_call(error) from error
    except ValueError as error:
        raise failure.Failure(str(error)) from error


def _told(reason: str, seconds: float) -> None:
    if sys.stderr.isatty():
        output.complaint(f"nothing ran, again in {seconds:.1f} s: {reason}")


def confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise failure.Failure(f"{question} Nobody is there to answer: expected a terminal, or --yes")
    if not click.confirm(question, err=True):
        raise failure.Failure("nothing was changed")

"""lambdactl alias, rollback"""

from __future__ import annotations

import click
from lambda_microservice_client.models import Alias

from lambdactl import output, session
from lambdactl.failure import NOT_FOUND, Failure
from lambdactl.weights import earlier, parse, text


@click.group(cls=session.Commands, short_help="Names for versions, which callers ask for.")
def alias() -> None:
    """Names for versions: what callers ask for, and what moves when you do."""


@alias.command("list")
@click.argument("name")
@session.asks
def list_aliases(name: str, context_name: str | None, form: str) -> None:
    """All aliases of a function."""
    with session.client(context_name) as client:
        found = client.list_aliases(name)
    if form == "json":
        output.as_json(found)
        return
    output.table(["ALIAS", "VERSIONS", "UPDATED"], [[one.alias, text(one.versions), one.updated_at] for one in found])


@alias.command("set", short_help="Let an alias lead to versions.")
@click.argument("name")
@click.argument("alias_name", metavar="ALIAS")
@click.argument("versions", nargs=-1, required=True)
@session.asks
def set_alias(name: str, alias_name: str, versions: tuple[str, ...], context_name: str | None, form: str) -> None:
    """Let an alias lead to a version, or share the calls out among several, in percent.

    \b
    lambdactl alias set python-hello live 7
    lambdactl alias set python-hello live 7=90 8=10
    """
    weights = parse(versions)
    with session.client(context_name) as client:
        made = client.set_alias(name, alias_name, weights)
    _shown(name, made, form)


@alias.command("remove")
@click.argument("name")
@click.argument("alias_name", metavar="ALIAS")
@session.asks
def remove_alias(name: str, alias_name: str, context_name: str | None, form: str) -> None:
    """Remove an alias; the versions stay."""
    with session.client(context_name) as client:
        removed = client.remove_alias(name, alias_name)
    if form == "json":
        output.as_json(removed)
    else:
        output.line(f"removed alias {alias_name} of {name}")


@click.command(short_help="Let an alias lead to the version before.")
@click.argument("name")
@click.argument("alias_name", metavar="ALIAS")
@click.option("--to", type=click.IntRange(min=1), metavar="VERSION", help="Instead of the one before.")
@session.asks
def rollback(name: str, alias_name: str, to: int | None, context_name: str | None, form: str) -> None:
    """Let an alias lead to the version before the newest that it leads to.

    `latest` is always the newest version, so what has to be undone at once is called by an alias.

    \b
    lambdactl rollback python-hello live
    lambdactl rollback python-hello live --to 5
    """
    with session.client(context_name) as client:
        now = client.show_alias(name, alias_name)
        if to is None:
            kept = [one.version for one in client.list_versions(name)]
            to = earlier(now.versions, kept)
            if to is None:
                raise Failure(
                    f"{name} has no version before those of {alias_name} ({text(now.versions)}); it keeps:"
                    f" {', '.join(map(str, kept))}",
                    NOT_FOUND,
                )
        made = client.set_alias(name, alias_name, {to: 100})
    _shown(name, made, form)


def _shown(name: str, made: Alias, form: str) -> None:
    if form == "json":
        output.as_json(made)
    else:
        output.line(f"{name} {made.alias}: {text(made.versions)}")

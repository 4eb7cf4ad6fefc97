"""lambdactl context"""

from __future__ import annotations

import click

from lambdactl import contexts, output
from lambdactl.session import Commands, output_option


@click.group(cls=Commands, short_help="The platforms and callers that were logged in.")
def context() -> None:
    """The platforms and callers that `lambdactl login` has kept."""


@context.command("list")
@output_option
def list_contexts(form: str) -> None:
    """All of them; keys and tokens are not shown."""
    kept = contexts.read()
    rows = [
        {
            "name": name,
            "current": name == kept.current,
            "url": one.url,
            "auth": one.proof,
            "user": one.user,
            "ca_file": one.ca_file,
        }
        for name, one in sorted(kept.named.items())
    ]
    if form == "json":
        output.as_json(rows)
        return
    heads = ["", "NAME", "URL", "AUTH", "USER", "CA"]
    shown = [
        ["*" if row["current"] else " ", *(row[key] for key in ("name", "url", "auth", "user", "ca_file"))]
        for row in rows
    ]
    output.table(heads, shown)


@context.command()
@click.argument("name")
def use(name: str) -> None:
    """Make one the current one."""
    contexts.write(contexts.use(contexts.read(), name))
    output.line(f"current context: {name}")


@context.command()
@click.argument("name")
def remove(name: str) -> None:
    """Forget one, with its key or token."""
    contexts.write(contexts.without(contexts.read(), name))
    output.line(f"removed context {name}")

"""lambdactl list, show, versions, remove"""

from __future__ import annotations

import click

from lambdactl import output, session
from lambdactl.names import visibility_text


@click.command("list")
@click.option("--language", type=click.Choice(["nodejs", "python", "rust"]), help="Those of one language.")
@click.option("--owner", help="Those of one owner.")
@session.asks
def list_functions(language: str | None, owner: str | None, context_name: str | None, form: str) -> None:
    """The functions that you may call."""
    with session.client(context_name) as client:
        found = list(client.list_functions(language, owner))
    if form == "json":
        output.as_json(found)
        return
    output.table(
        ["NAME", "OWNER", "VERSION", "SIZE", "UPDATED"],
        [[one.name, one.owner, one.version, one.script_size_bytes, one.updated_at] for one in found],
    )


@click.command()
@click.argument("name")
@session.asks
def show(name: str, context_name: str | None, form: str) -> None:
    """What a function is; its script is not shown."""
    with session.client(context_name) as client:
        found = client.show_function(name)
    if form == "json":
        output.as_json(found)
        return
    facts: list[tuple[str, object]] = [
        ("name", found.name),
        ("owner", found.owner),
        ("version", found.version),
        ("script", f"{found.script_size_bytes} bytes, sha256 {found.script_sha256}"),
        ("time limit", "the platform's" if found.timeout_seconds is None else f"{found.timeout_seconds:g} s"),
        ("memory", _or(found.memory_bytes, "bytes", "the platform's")),
        ("at once", _or(found.max_concurrency, "executions", "as the platform can")),
        ("created", found.created_at),
        ("updated", found.updated_at),
    ]
    if found.visibility is not None:
        facts.append(("visibility", visibility_text(found.visibility)))
    if found.secrets:
        facts.append(("secrets", ", ".join(found.secrets)))
    facts += [(f"environment {key}", value) for key, value in sorted((found.environment or {}).items())]
    output.facts(facts)


@click.command(short_help="The versions of a function, and what leads to each.")
@click.argument("name")
@session.asks
def versions(name: str, context_name: str | None, form: str) -> None:
    """The versions that are kept, the newest first, and which aliases lead to each."""
    with session.client(context_name) as client:
        found = list(client.list_versions(name))
        aliases = [] if form == "json" else client.list_aliases(name)
    if form == "json":
        output.as_json(found)
        return
    leading: dict[int, list[str]] = {}
    for one in aliases:
        for version, weight in one.versions.items():
            leading.setdefault(int(version), []).append(one.alias if weight == 100 else f"{one.alias} {weight}%")
    output.table(
        ["VERSION", "SIZE", "TIME LIMIT", "SHA256", "CREATED", "ALIASES"],
        [
            [
                one.version,
                one.script_size_bytes,
                None if one.timeout_seconds is None else f"{one.timeout_seconds:g} s",
                one.script_sha256[:12],
                one.created_at,
                ", ".join(leading.get(one.version, [])),
            ]
            for one in found
        ],
    )


@click.command()
@click.argument("name")
@click.option("-y", "--yes", is_flag=True, help="Without asking.")
@session.asks
def remove(name: str, yes: bool, context_name: str | None, form: str) -> None:
    """Remove a function with its versions and aliases."""
    with session.client(context_name) as client:
        if not yes:
            session.confirm(f"Remove {name} with all of its versions and aliases?")
        removed = client.remove_function(name)
    if form == "json":
        output.as_json(removed)
    else:
        output.line(f"removed {name}")


def _or(value: int | None, unit: str, otherwise: str) -> str:
    return otherwise if value is None else f"{value} {unit}"

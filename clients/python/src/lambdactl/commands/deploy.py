"""lambdactl deploy"""

from __future__ import annotations

from pathlib import Path

import click
from lambda_microservice_client import NotFound

from lambdactl import output, project, session
from lambdactl.difference import Row, changes
from lambdactl.failure import REFUSED, Failure


@click.command(short_help="Register the function of a folder, with the difference first.")
@click.argument("folder", type=click.Path(path_type=Path), default=".")
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@click.option("-y", "--yes", is_flag=True, help="Without asking.")
@session.asks
def deploy(folder: Path, dry_run: bool, yes: bool, context_name: str | None, form: str) -> None:
    """Register the function of a folder (lambda.toml); what changes is shown first.

    Anything but another visibility is a new version. With -o json stdout has the function as it is then.

    \b
    lambdactl deploy
    lambdactl deploy python-hello --dry-run
    lambdactl deploy python-hello --yes -o json
    """
    wanted = project.read(folder)
    with session.client(context_name) as client:
        try:
            there = client.show_function(wanted.name)
        except NotFound:
            there = None
        if there and there.visibility is None:  # of which the owner alone is told
            raise Failure(
                f"{wanted.name} is {there.owner}'s, who alone may replace it; expected a name of your own in"
                f' {project.FILE}, as in name = "YOU/{there.language_title}"',
                REFUSED,
            )
        rows = changes(there, wanted)
        if form == "table":
            _show(wanted.name, there.version if there else 0, rows)
        if dry_run or not rows:
            if form == "json":
                output.as_json(
                    [{"what": what, "now": now, "then": then} for what, now, then in rows] if dry_run else there
                )
            return
        if not yes:
            session.confirm(f"Deploy {wanted.name}?")
        made = client.register_function(wanted.name, wanted.script, **wanted.settings())
    if form == "json":
        output.as_json(made)
    else:
        output.line(f"deployed {made.name}, version {made.version}")


def _show(name: str, version: int, rows: list[Row]) -> None:
    if not rows:
        output.line(f"{name} is as {project.FILE} says: version {version}, nothing to deploy")
        return
    output.line(f"{name} is new" if not version else f"{name}, version {version}, would change")
    output.table(["WHAT", "NOW", "THEN"], rows)

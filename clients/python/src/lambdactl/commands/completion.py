"""lambdactl completion"""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from lambdactl import output


@click.command(short_help="Completion of commands and options, for a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """The completion of commands and options, for a shell to read.

    \b
    bash  eval "$(lambdactl completion bash)"            in ~/.bashrc
    zsh   eval "$(lambdactl completion zsh)"             in ~/.zshrc
    fish  lambdactl completion fish | source             in ~/.config/fish/config.fish
    """
    made = get_completion_class(shell)
    assert made is not None  # noqa: S101 - click's own three
    output.text(made(context.find_root().command, {}, "lambdactl", "_LAMBDACTL_COMPLETE").source() + "\n")

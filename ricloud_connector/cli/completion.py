"""`completion`: what a shell needs to complete this command's arguments. Prints."""

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script that completes commands and options in a shell.

    \b
    ricloud-connector completion bash >> ~/.bashrc
    ricloud-connector completion zsh  >> ~/.zshrc
    ricloud-connector completion fish >> ~/.config/fish/completions/ricloud-connector.fish
    """
    complete = get_completion_class(shell)
    assert complete is not None, "one of click's own"
    click.echo(complete(context.find_root().command, {}, "ricloud-connector", "_RICLOUD_CONNECTOR_COMPLETE").source())

"""Command groups: without a subcommand they show their help and succeed."""

import typer


def show_help(context: typer.Context) -> None:
    """The `callback` of a Typer with `invoke_without_command`; `no_args_is_help` would exit with a usage error."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())

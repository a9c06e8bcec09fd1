"""Commands with commands of their own: named without one, they tell which there are, and that is no error."""

import typer


def tell(context: typer.Context) -> None:
    """Give it to a Typer as `callback`, with `invoke_without_command`; `no_args_is_help` ends as after a mistake."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())

"""`fleek new-provider`: the first minute of a plug-in's author."""

from pathlib import Path
from typing import Annotated

import typer

from app.cli.console import say
from app.cli.new_provider.writing import write


def new_provider(
    name: Annotated[str, typer.Argument(help="Of the provider, such as acme; the first part of its models' names.")],
    folder: Annotated[
        Path | None, typer.Option(help="Where it is written; ./fleek-NAME if left out.", show_default=False)
    ] = None,
) -> None:
    """Write the skeleton of a provider: a package with a test of every rule, which passes as it is."""
    target = folder or Path(f"fleek-{name}")
    for file in write(name, target):
        say(str(file))
    say(f"\nRead {target / 'README.md'}: what to change, and how to test and install it.")

"""`fleek new-provider`: its options."""

from pathlib import Path
from typing import Annotated

import typer

from app.cli.console import say
from app.cli.new_provider.writing import write


def new_provider(
    name: Annotated[
        str, typer.Argument(help="Name of the provider, for example acme; the first part of its models' names.")
    ],
    folder: Annotated[
        Path | None, typer.Option(help="Folder to write to; default: ./fleek-NAME.", show_default=False)
    ] = None,
) -> None:
    """Write the skeleton of a provider plug-in, with tests of the provider contract that pass as written."""
    target = folder or Path(f"fleek-{name}")
    for file in write(name, target):
        say(str(file))
    say(f"\nNext: read {target / 'README.md'} for what to change and how to test and install it.")

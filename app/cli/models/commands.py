"""`fleek models`: the catalogue, shown and refreshed."""

from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from app.cli.console import say
from app.cli.errors import CommandError
from app.cli.group import show_help
from app.cli.models import refresh as models_refreshed
from app.cli.operator_runtime import effective_settings
from app.cli.tables import show as show_table
from app.cli.tables import show_json, table
from app.core.errors import SettingsError
from app.core.telemetry.logging import set_up_logging
from app.media_generator.loading import load_registry
from app.media_generator.registry import Offer, Registry, RouteListing, UnknownModelError
from app.runtime import provider_config_of

app = typer.Typer(
    name="models",
    help="List and explain the available models; refresh what their providers say about them.",
    callback=show_help,
    invoke_without_command=True,
)

AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_models(
    *,
    provider: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only models of this provider; `route` for routes.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Show all models and routes, including retired and hidden ones."""
    registry = _registry()
    offers: list[Offer | RouteListing] = [*registry.offers(hidden=True), *registry.routes()]
    shown = [one for one in offers if provider in {None, one.full_name.partition("/")[0]}]
    if json:
        show_json({"items": [models_refreshed.plain(one) for one in shown], "load_errors": registry.load_errors})
        return
    rows = table("MODEL", "STATUS", ">PRICE", "PER", "MAKES", "TITLE")
    for one in shown:
        card = one.card
        standing = "hidden" if isinstance(one, Offer) and one.hidden else str(card.current_status)
        price = "" if card.price is None else f"{card.price.amount} {card.price.currency}"
        per = "" if card.price is None else str(card.price.per)
        rows.add_row(one.full_name, standing, price, per, ", ".join(card.output_types), card.title)
    show_table(rows)
    for name, why in registry.load_errors.items():
        say(f"{name} is unavailable: {why}")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Model (provider/name), route or alias.")], *, json: AsJson = False
) -> None:
    """Show everything the catalogue says about one model."""
    registry = _registry()
    try:
        found = registry.route(name) or registry.find(name)
    except UnknownModelError as error:
        raise CommandError(f"there is no model {name!r}; did you mean {', '.join(error.suggestions)}?") from None
    entry: dict[str, Any] = models_refreshed.plain(found)
    if json:
        show_json(entry)
        return
    rows = table("", "")
    rows.show_header = False
    for field, value in entry.items():
        if value not in (None, "", [], {}):
            rows.add_row(field, value if isinstance(value, str) else models_refreshed.text(value))
    rows.columns[-1].overflow = "fold"
    show_table(rows)


@app.command()
def refresh(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Models to refresh; default: all.", show_default=False),
    ] = None,
    *,
    write: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the changes into this file, usually that of CATALOGUE_FILE."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Fetch current model data from the providers and show the changes; with --write, also save them.

    A model that its provider no longer has becomes `retired`. Everything else in the file is kept, comments included.
    """
    raise typer.Exit(models_refreshed.refresh(names or [], write, as_json=json))


def _registry() -> Registry:
    settings = effective_settings()
    set_up_logging(level="ERROR")
    try:
        return load_registry(provider_config_of(settings))
    except SettingsError as error:
        raise CommandError(error.detail) from None

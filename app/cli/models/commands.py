"""`fleek models`: the catalogue, as an operator looks at it and brings it up to date."""

from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from app.cli.console import say
from app.cli.errors import CommandError
from app.cli.group import tell
from app.cli.models import refresh as models_refreshed
from app.cli.operator_runtime import settings_in_force
from app.cli.tables import show as show_table
from app.cli.tables import show_json, table
from app.core.errors import SettingsError
from app.core.telemetry.logging import set_up_logging
from app.media_generator.loading import load_registry
from app.media_generator.registry import Offer, Registry, RouteListing, UnknownModelError
from app.runtime import provider_config_of

app = typer.Typer(
    name="models",
    help="List and explain the models that can be asked for; ask their providers what has changed.",
    callback=tell,
    invoke_without_command=True,
)

AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command("list")
def list_models(
    *,
    provider: Annotated[str | None, typer.Option(metavar="NAME", help="Of this provider; `route` for routes.")] = None,
    json: AsJson = False,
) -> None:
    """Show all models and routes, those that are retired or hidden too."""
    registry = _registry()
    offers: list[Offer | RouteListing] = [*registry.offers(hidden=True), *registry.routes()]
    shown = [one for one in offers if provider in {None, one.full_name.partition("/")[0]}]
    if json:
        show_json({"items": [models_refreshed.plain(one) for one in shown], "broken": registry.load_errors})
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
        say(f"{name} is left out: {why}")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A model (provider/name), a route, or an alias.")], *, json: AsJson = False
) -> None:
    """Tell everything that the catalogue has of one model."""
    registry = _registry()
    try:
        found = registry.route(name) or registry.find(name)
    except UnknownModelError as error:
        raise CommandError(f"there is no model {name!r}; near names: {', '.join(error.suggestions)}") from None
    told: dict[str, Any] = models_refreshed.plain(found)
    if json:
        show_json(told)
        return
    rows = table("", "")
    rows.show_header = False
    for field, value in told.items():
        if value not in (None, "", [], {}):
            rows.add_row(field, value if isinstance(value, str) else models_refreshed.text(value))
    rows.columns[-1].overflow = "fold"
    show_table(rows)


@app.command()
def refresh(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Models; all if left out.", show_default=False),
    ] = None,
    *,
    write: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write what has changed into this file, such as CATALOGUE_FILE."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Ask the providers what they say of their models today; without --write only show what has changed.

    A model that its provider no longer has becomes `retired`. Comments in the file, and all else in it, stay.
    """
    raise typer.Exit(models_refreshed.refresh(names or [], write, as_json=json))


def _registry() -> Registry:
    settings = settings_in_force()
    set_up_logging(level="ERROR")
    try:
        return load_registry(provider_config_of(settings))
    except SettingsError as error:
        raise CommandError(error.detail) from None

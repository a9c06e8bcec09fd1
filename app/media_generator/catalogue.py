"""The catalogue: models as data, read from files.

Each kind of provider may ship a `models.json` in its package. The operator's file (CATALOGUE_FILE, TOML) overrides
those models, adds others, and defines routes. A process does not start with an invalid file: half a catalogue would
mean wrong prices or missing models, with no visible cause.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, TypeVar

import jsonschema_rs
import msgspec
from msgspec import UNSET, UnsetType

from app.core.errors import SettingsError
from app.media_generator.model_card import Json, ModelCard, ModelStatus, Price
from app.media_generator.routes import PREFIX, Route

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]*/[\w.:/-]+")
_PLACE: Final = re.compile(r" - at `\$\.?(.*)`$")
"""How msgspec's messages name the path of the invalid value."""


Kind = TypeVar("Kind")


class _Shipped(msgspec.Struct, forbid_unknown_fields=True):
    models: list[ModelCard]


class ModelOverride(msgspec.Struct, forbid_unknown_fields=True):
    """The operator's changes to one model; fields that are left out stay as they are."""

    title: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    output_types: tuple[str, ...] | UnsetType = UNSET
    input_schema: dict[str, Json] | UnsetType = UNSET
    example: dict[str, Json] | UnsetType = UNSET
    version: str | UnsetType = UNSET
    local: bool | UnsetType = UNSET
    time_limit: float | UnsetType = UNSET
    """Seconds."""
    price: Price | UnsetType = UNSET
    status: ModelStatus | UnsetType = UNSET
    retired_at: date | UnsetType = UNSET
    successor: str | UnsetType = UNSET
    aliases: tuple[str, ...] | UnsetType = UNSET
    options: dict[str, Json] | UnsetType = UNSET
    hidden: bool = False
    """Not listed and refused in new requests; existing jobs go on."""

    def apply(self, card: ModelCard) -> ModelCard:
        """The card with these changes; of `options` only the named ones change."""
        given = {name: getattr(self, name) for name in self.__struct_fields__ if name != "hidden"}
        changes: dict[str, Any] = {name: value for name, value in given.items() if value is not UNSET}
        if "time_limit" in changes:
            changes["time_limit"] = timedelta(seconds=changes["time_limit"])
        if "options" in changes:
            changes["options"] = {**card.options, **changes["options"]}
        return replace(card, **changes)

    def card(self, name: str) -> ModelCard | None:
        """A model defined by the operator's file alone; None: the entry is too incomplete for one."""
        if self.input_schema is UNSET or self.output_types is UNSET:
            return None
        return self.apply(ModelCard(name, name, "", self.output_types, self.input_schema, {}))


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All models and routes that are defined in files."""

    entries: Mapping[str, ModelOverride] = field(default_factory=dict[str, ModelOverride])
    """By full name."""
    routes: Sequence[Route] = ()

    def models(self, kind: str, account: str) -> Sequence[ModelCard]:
        """The models of an account of this kind: the shipped ones, with the operator's changes and additions."""
        shipped = [self.with_overrides(f"{account}/{card.name}", card) for card in _shipped(kind)]
        known = {card.name for card in shipped}
        own = (
            entry.card(name.partition("/")[2])
            for name, entry in self.entries.items()
            if name.partition("/")[0] == account and name.partition("/")[2] not in known
        )
        return [*shipped, *(card for card in own if card is not None)]

    def with_overrides(self, full_name: str, card: ModelCard) -> ModelCard:
        """A card with the operator's changes; applying them twice changes nothing more."""
        entry = self.entries.get(full_name)
        return card if entry is None else entry.apply(card)

    def is_hidden(self, full_name: str) -> bool:
        """Whether the operator has hidden it from new requests."""
        entry = self.entries.get(full_name)
        return entry is not None and entry.hidden


def read_catalogue(file: Path | None) -> Catalogue:
    """The catalogue with the operator's file.

    Args:
        file: None: the operator has none.

    Raises:
        SettingsError: It cannot be read or is invalid; the message names file, entry and field.
    """
    if file is None:
        return Catalogue()
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise _error(file, error.strerror or type(error).__name__) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _error(file, f"is not valid TOML: {error}") from None
    unknown = sorted(document.keys() - {"models", "routes"})
    if unknown:
        raise _error(file, f"has an unknown table {unknown[0]!r}; known are: models, routes")
    models: Mapping[str, Any] = document.get("models", {})
    routes: Sequence[Any] = document.get("routes", [])
    if not isinstance(models, dict) or not isinstance(routes, list):  # pyright: ignore[reportUnnecessaryIsInstance] - a file may say anything
        raise _error(file, 'must be written like [models."provider/name"] and [[routes]]')
    entries = {name: _entry(file, name, entry) for name, entry in models.items()}
    made = [_route(file, index, route) for index, route in enumerate(routes, 1)]
    duplicates = {route.name for route in made if sum(other.name == route.name for other in made) > 1}
    if duplicates:
        raise _error(file, f"defines {min(duplicates)!r} more than once")
    return Catalogue(entries, made)


def _entry(file: Path, name: str, written: Any) -> ModelOverride:
    if not _NAME.fullmatch(name):
        raise _error(file, f'[models."{name}"]: the name must look like provider/name')
    entry = _convert(file, f'[models."{name}"]', written, ModelOverride)
    # Adapters create cards too, so their type does not forbid unknown fields.
    if unknown := set(written.get("price", {})) - {"amount", "per", "currency"}:
        raise _error(file, f'[models."{name}"] price: unknown field {min(unknown)!r}')
    if entry.price is not UNSET and not (entry.price.amount.is_finite() and entry.price.amount >= 0):
        raise _error(file, f'[models."{name}"] price.amount: must be 0 or more')
    if entry.time_limit is not UNSET and not 0 < entry.time_limit < timedelta(days=3650).total_seconds():
        raise _error(file, f'[models."{name}"] time_limit: must be seconds, above 0')
    if entry.input_schema is not UNSET:
        _check_schema(file, f'[models."{name}"]', entry.input_schema)
    return entry


def _route(file: Path, number: int, written: Any) -> Route:
    shown = f"number {number}"
    route = _convert(file, f"[[routes]] {shown}", written, Route)
    if not route.name.startswith(PREFIX) or not _NAME.fullmatch(route.name):
        raise _error(file, f"[[routes]] {shown} name: must look like {PREFIX}name")
    models = [target.model for target in route.targets]
    if not models:
        raise _error(file, f"[[routes]] {route.name} targets: name at least one model")
    if len(set(models)) < len(models):
        raise _error(file, f"[[routes]] {route.name} targets: each model may appear only once")
    if nested := [model for model in models if model.startswith(PREFIX)]:
        raise _error(file, f"[[routes]] {route.name} targets: {nested[0]} is a route itself")
    if route.time_limit is not None and not route.time_limit > 0:
        raise _error(file, f"[[routes]] {route.name} time_limit: must be seconds, above 0")
    if route.input_schema is not None:
        _check_schema(file, f"[[routes]] {route.name}", route.input_schema)
    return route


def _convert(file: Path, entry: str, written: Any, kind: type[Kind]) -> Kind:
    try:
        return msgspec.convert(written, kind)
    except msgspec.ValidationError as error:
        place = _PLACE.search(str(error))
        at = f" {place[1]}" if place else ""
        raise _error(file, f"{entry}{at}: {_PLACE.sub('', str(error))}") from None


def _check_schema(file: Path, entry: str, schema: Mapping[str, Json]) -> None:
    try:
        jsonschema_rs.Draft202012Validator(dict(schema))
    except (jsonschema_rs.ValidationError, ValueError) as error:
        raise _error(file, f"{entry} input_schema: is not a valid JSON Schema: {error!s:.200}") from None
    if schema.get("type") != "object":
        raise _error(file, f'{entry} input_schema: must be of type "object"')


def _error(file: Path, what: str) -> SettingsError:
    return SettingsError(f"CATALOGUE_FILE {file}: {what}")


def _shipped(kind: str) -> list[ModelCard]:
    folder = files("app.media_generator") / f"{kind.replace('-', '_')}_media_generator"
    found = folder / "models.json"
    if not found.is_file():
        return []
    return msgspec.json.decode(found.read_bytes(), type=_Shipped).models

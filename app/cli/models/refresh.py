"""`fleek models refresh`: fetches model data from the providers and writes changes into the catalogue file."""

import asyncio
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import date, timedelta
from enum import Enum
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import tomlkit
from tomlkit.exceptions import TOMLKitError

from app.cli.console import say
from app.cli.errors import FAILURE, CommandError
from app.cli.operator_runtime import with_runtime_and_providers
from app.cli.tables import show as show_table
from app.cli.tables import show_json, table
from app.core.errors import SettingsError
from app.media_generator.catalogue import read_catalogue
from app.media_generator.errors import ModelGoneError, ProviderError
from app.media_generator.model_card import ModelCard, ModelStatus
from app.media_generator.registry import Offer, RouteListing
from app.runtime import Runtime

Changes = dict[str, dict[str, Any]]
"""Changed fields by full model name, as they stand in the file."""
MOST_SHOWN: Final = 80
CONCURRENCY: Final = 8
"""How many models are fetched at the same time."""
ANSWER_SECONDS: Final = 60.0
"""Timeout for one model."""


def plain(listed: Offer | RouteListing) -> dict[str, Any]:
    """A model's catalogue entry for JSON."""
    card = {field.name: _value(getattr(listed.card, field.name)) for field in fields(ModelCard)}
    entry = {**card, "name": listed.full_name, "standing": str(listed.card.current_status)}
    if isinstance(listed, RouteListing):
        return {**entry, "targets": [offer.full_name for _, offer in listed.targets]}
    return {**entry, "hidden": listed.hidden}


def text(value: Any) -> str:
    """A value on one line."""
    return msgspec.json.encode(value).decode()


def refresh(names: Sequence[str], write: Path | None, *, as_json: bool) -> int:
    """Fetch and show changes, and write them if requested; the exit status: 1 if a model could not be fetched."""

    async def work(runtime: Runtime) -> tuple[Changes, dict[str, str]]:
        offers = {offer.full_name: offer for offer in runtime.registry.offers(hidden=True)}
        if unknown := [name for name in names if name not in offers]:
            raise CommandError(f"there is no model {unknown[0]!r}; see fleek models list")
        return await fetch_changes([offers[name] for name in names or sorted(offers)])

    changes, failed = with_runtime_and_providers(work)
    if write is not None and changes:
        write_changes(write, changes)
    if as_json:
        show_json({"changes": changes, "failed": failed, "written": str(write) if write and changes else None})
    else:
        _show(changes, failed, write)
    return FAILURE if failed else 0


async def fetch_changes(offers: Sequence[Offer]) -> tuple[Changes, dict[str, str]]:
    """Changes by model, and the reason for each model that could not be fetched."""
    changes, failed = Changes(), dict[str, str]()
    turn = asyncio.Semaphore(CONCURRENCY)

    async def fetch(offer: Offer) -> None:
        try:
            async with turn, asyncio.timeout(ANSWER_SECONDS):
                changed = _differing(offer.card, await offer.provider.refresh(offer.card))
        except ModelGoneError:
            changed = {} if offer.card.current_status is ModelStatus.RETIRED else {"status": "retired"}
        except ProviderError as error:
            failed[offer.full_name] = error.message
            return
        except Exception as error:  # noqa: BLE001 - a plug-in may fail in any way; the others are fetched all the same
            failed[offer.full_name] = repr(error)
            return
        if changed:
            changes[offer.full_name] = changed

    await asyncio.gather(*(fetch(offer) for offer in offers))
    return changes, failed


def write_changes(file: Path, changes: Changes) -> None:
    """Write changes into a catalogue file; it is replaced atomically once the new content has been validated.

    Raises:
        CommandError: The file cannot be read or written, or would be invalid.
    """
    try:
        document = tomlkit.parse(file.read_text(encoding="utf-8")) if file.exists() else tomlkit.document()
        models: Any = document.setdefault("models", tomlkit.table(is_super_table=True))
        for name, changed in changes.items():
            entry: Any = models.setdefault(name, tomlkit.table())
            entry.update({field: value for field, value in changed.items() if not _holds_null(value)})
        _replace(file, tomlkit.dumps(document))  # pyright: ignore[reportUnknownMemberType] - its mapping is untyped
    except (OSError, TOMLKitError, SettingsError) as error:
        raise CommandError(f"{file} was not changed: {getattr(error, 'detail', error)}") from None


def _replace(file: Path, content: str) -> None:
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    new = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as target:
            target.write(content)
            target.flush()
            os.fsync(target.fileno())
        read_catalogue(new)
        new.chmod(file.stat().st_mode & 0o777 if file.exists() else 0o644)
        new.replace(file)
    finally:
        new.unlink(missing_ok=True)


def _differing(before: ModelCard, after: ModelCard) -> dict[str, Any]:
    names = [field.name for field in fields(ModelCard) if field.name != "name"]
    return {
        name: _value(getattr(after, name))
        for name in names
        if getattr(before, name) != getattr(after, name) is not None
    }


def _value(value: Any) -> Any:
    """A value for TOML and JSON."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Enum):
        return str(value.value)
    if value is None or isinstance(value, date | str | int | float | bool):
        return value
    return msgspec.to_builtins(value)


def _holds_null(value: Any) -> bool:
    """Whether a value contains null, which TOML cannot represent."""
    if isinstance(value, Mapping):
        return any(_holds_null(part) for part in cast("Mapping[str, Any]", value).values())
    if isinstance(value, list | tuple):
        return any(_holds_null(part) for part in cast("Sequence[Any]", value))
    return value is None


def _show(changes: Changes, failed: Mapping[str, str], write: Path | None) -> None:
    rows = table("MODEL", "FIELD", "NEW VALUE")
    left_out = list[str]()
    for name, changed in sorted(changes.items()):
        for field, value in changed.items():
            now = text(value)
            rows.add_row(name, field, now if len(now) <= MOST_SHOWN else f"{now[:MOST_SHOWN]}…")
            if write is not None and _holds_null(value):
                left_out.append(f"{name} {field}")
    if changes:
        show_table(rows)
        say("Nothing was written; see --write." if write is None else f"Written to {write}; restart APIs and workers.")
    else:
        say("Nothing has changed.")
    for one in left_out:
        say(f"{one} was not written: it contains null, which TOML cannot represent.")
    for name, why in failed.items():
        say(f"{name} could not be refreshed: {why}")

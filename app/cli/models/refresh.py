"""`fleek models refresh`: what providers say of their models today, and how it gets into the operator's file."""

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
from app.cli.errors import FAULT, CommandError
from app.cli.operator_runtime import operate_calling
from app.cli.tables import show as show_table
from app.cli.tables import show_json, table
from app.core.errors import SettingsError
from app.media_generator.catalogue import read_catalogue
from app.media_generator.errors import ModelGoneError, ProviderError
from app.media_generator.model_card import ModelCard, ModelStatus
from app.media_generator.registry import Offer, RouteListing
from app.runtime import Runtime

Changes = dict[str, dict[str, Any]]
"""By full name: the fields that have changed, as the file has them."""
SHORT: Final = 80
AT_ONCE: Final = 8
"""Models that are asked about at the same time."""
PATIENCE: Final = 60.0
"""Seconds for one answer."""


def plain(listed: Offer | RouteListing) -> dict[str, Any]:
    """What the catalogue has of a model, as JSON has it."""
    card = {field.name: _value(getattr(listed.card, field.name)) for field in fields(ModelCard)}
    told = {**card, "name": listed.full_name, "standing": str(listed.card.current_status)}
    if isinstance(listed, RouteListing):
        return {**told, "targets": [offer.full_name for _, offer in listed.targets]}
    return {**told, "hidden": listed.hidden}


def text(value: Any) -> str:
    """A value on one line."""
    return msgspec.json.encode(value).decode()


def refresh(names: Sequence[str], write: Path | None, *, as_json: bool) -> int:
    """Ask, show, and write if that is wanted; the exit status: 1 if a provider did not say."""

    async def work(runtime: Runtime) -> tuple[Changes, dict[str, str]]:
        offers = {offer.full_name: offer for offer in runtime.registry.offers(hidden=True)}
        if unknown := [name for name in names if name not in offers]:
            raise CommandError(f"there is no model {unknown[0]!r}; see fleek models list")
        return await asked([offers[name] for name in names or sorted(offers)])

    changes, silent = operate_calling(work)
    if write is not None and changes:
        write_changes(write, changes)
    if as_json:
        show_json({"changes": changes, "silent": silent, "written": str(write) if write and changes else None})
    else:
        _show(changes, silent, write)
    return FAULT if silent else 0


async def asked(offers: Sequence[Offer]) -> tuple[Changes, dict[str, str]]:
    """What has changed by model, and which providers did not say, and why."""
    changes, silent = Changes(), dict[str, str]()
    turn = asyncio.Semaphore(AT_ONCE)

    async def ask(offer: Offer) -> None:
        try:
            async with turn, asyncio.timeout(PATIENCE):
                changed = _differing(offer.card, await offer.provider.refresh(offer.card))
        except ModelGoneError:
            changed = {} if offer.card.current_status is ModelStatus.RETIRED else {"status": "retired"}
        except ProviderError as error:
            silent[offer.full_name] = error.message
            return
        except Exception as error:  # noqa: BLE001 - a plug-in may fail in any way; the others are asked all the same
            silent[offer.full_name] = repr(error)
            return
        if changed:
            changes[offer.full_name] = changed

    await asyncio.gather(*(ask(offer) for offer in offers))
    return changes, silent


def write_changes(file: Path, changes: Changes) -> None:
    """Put changes into a catalogue file; it is replaced as a whole, once it is known to be understood.

    Raises:
        CommandError: It cannot be read or written, or would not be understood.
    """
    try:
        document = tomlkit.parse(file.read_text(encoding="utf-8")) if file.exists() else tomlkit.document()
        models: Any = document.setdefault("models", tomlkit.table(is_super_table=True))
        for name, changed in changes.items():
            entry: Any = models.setdefault(name, tomlkit.table())
            entry.update({field: value for field, value in changed.items() if not _holds_null(value)})
        _replace(file, tomlkit.dumps(document))  # pyright: ignore[reportUnknownMemberType] - its mapping is untyped
    except (OSError, TOMLKitError, SettingsError) as error:
        raise CommandError(f"{file} stays as it is: {getattr(error, 'detail', error)}") from None


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
    """As TOML and JSON have it."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Enum):
        return str(value.value)
    if value is None or isinstance(value, date | str | int | float | bool):
        return value
    return msgspec.to_builtins(value)


def _holds_null(value: Any) -> bool:
    """What TOML cannot say."""
    if isinstance(value, Mapping):
        return any(_holds_null(part) for part in cast("Mapping[str, Any]", value).values())
    if isinstance(value, list | tuple):
        return any(_holds_null(part) for part in cast("Sequence[Any]", value))
    return value is None


def _show(changes: Changes, silent: Mapping[str, str], write: Path | None) -> None:
    rows = table("MODEL", "FIELD", "IS NOW")
    left_out = list[str]()
    for name, changed in sorted(changes.items()):
        for field, value in changed.items():
            now = text(value)
            rows.add_row(name, field, now if len(now) <= SHORT else f"{now[:SHORT]}…")
            if write is not None and _holds_null(value):
                left_out.append(f"{name} {field}")
    if changes:
        show_table(rows)
        say("Nothing is written; see --write." if write is None else f"Written into {write}; restart APIs and workers.")
    else:
        say("Nothing has changed.")
    for one in left_out:
        say(f"{one} is not written: it holds null, which TOML cannot say.")
    for name, why in silent.items():
        say(f"{name}: its provider does not say: {why}")

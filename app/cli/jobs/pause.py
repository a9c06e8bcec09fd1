"""`fleek jobs pause` and `fleek jobs resume`."""

from difflib import get_close_matches
from typing import Any

from app.cli.console import say
from app.cli.errors import CommandError, WrongUsageError
from app.cli.operator_runtime import operate
from app.cli.tables import moment, progress, show_json, table
from app.cli.tables import show as show_table
from app.jobs.scheduling import model_pauses, pauses, provider_circuits
from app.jobs.states import PAUSED_BY_OPERATOR
from app.media import operator_queries
from app.runtime import Runtime


def pause(name: str, message: str | None, *, as_json: bool) -> int:
    """Pause a model or a provider; the exit status."""

    async def work(runtime: Runtime) -> int:
        await _known(runtime, name)
        waiting = await model_pauses.waiting(runtime.db, name) if pauses.is_model(name) else 0
        shelved = 0
        with progress("Set apart:", waiting) as told:

            def count(moved: int) -> None:
                nonlocal shelved
                shelved += moved
                told(moved)

            await pauses.pause(runtime.db, name, message or await _message(runtime, name), count)
        return shelved

    shelved = operate(work)
    if as_json:
        show_json({"name": name, "paused": True, "set_apart": shelved})
        return 0
    apart = f" {shelved} that waited are set apart." if shelved else ""
    say(f"{name} is paused.{apart} What is bought already goes on; fleek jobs resume {name} ends the pause.")
    return 0


def resume(name: str, *, as_json: bool) -> int:
    """Resume a model or a provider; the exit status: 1 if it was not paused."""

    async def work(runtime: Runtime) -> tuple[bool, int, list[dict[str, Any]]]:
        shelved = await model_pauses.shelved(runtime.db, name)
        with progress("Put back:", shelved) as told:
            was_paused = await pauses.resume(runtime.db, name, told)
        return was_paused, shelved, await _all(runtime)

    was_paused, back, others = operate(work)
    if as_json:
        show_json({"name": name, "paused": False, "was_paused": was_paused, "put_back": back})
    if not was_paused:
        raise CommandError(f"{name} was not paused; {_told(name, others)}")
    if not as_json:
        say(f"{name} is resumed." + (f" {back} that were set apart are back in their places." if back else ""))
    return 0


def show(*, as_json: bool) -> int:
    """Show what is paused, and which providers are closed; the exit status."""
    found = operate(_all)
    if as_json:
        show_json({"items": found})
    elif not found:
        say("Nothing is paused, and no provider is closed.")
    else:
        rows = table("NAME", "CODE", "SINCE (UTC)", ">SET APART", "MESSAGE")
        for one in found:
            apart = "" if one["set_apart"] is None else str(one["set_apart"])
            rows.add_row(one["name"], one["code"], moment(one["since"]), apart, one["message"])
        show_table(rows)
    return 0


async def _all(runtime: Runtime) -> list[dict[str, Any]]:
    providers = [
        {
            "name": row.provider,
            "code": row.code,
            "message": row.message,
            "since": row.closed_at,
            "set_apart": None,
        }
        for row in await provider_circuits.tripped(runtime.db)
    ]
    models = [
        {
            "name": row.model,
            "code": row.code,
            "message": row.message,
            "since": row.paused_at,
            "set_apart": await model_pauses.shelved(runtime.db, row.model),
        }
        for row in await model_pauses.paused(runtime.db)
    ]
    return providers + models


async def _message(runtime: Runtime, name: str) -> str:
    """What clients are told by a pause that says nothing: what the one in force tells them, if there is one."""
    ours = (one["message"] for one in await _all(runtime) if (one["name"], one["code"]) == (name, PAUSED_BY_OPERATOR))
    return next(ours, f"the operator has paused {name}")


async def _known(runtime: Runtime, name: str) -> None:
    """Refuse a name that nobody offers and nothing waits for: a pause of it would change nothing.

    Raises:
        WrongUsageError: With names that were perhaps meant.
    """
    models = [offer.full_name for offer in runtime.registry.offers()]
    providers = [*runtime.registry.providers, *runtime.registry.load_errors]
    if name in models or name in providers:
        return
    if pauses.is_model(name):
        waits = bool(await model_pauses.waiting(runtime.db, name) or await model_pauses.shelved(runtime.db, name))
    else:
        waits = await operator_queries.provider_waits(runtime.db, name)
    if not waits:
        near = get_close_matches(name, models + providers, n=3, cutoff=0.4) or sorted(models + providers)
        raise WrongUsageError(f"there is no model or provider {name!r}; near names: {', '.join(near)}")


def _told(name: str, others: list[dict[str, Any]]) -> str:
    closed = next((one for one in others if one["name"] == name), None)
    if closed is not None:
        return f"it is closed: {closed['code']}, and opens by itself once a trial goes well"
    paused = [one["name"] for one in others if one["code"] == PAUSED_BY_OPERATOR]
    return f"paused: {', '.join(paused)}" if paused else "nothing is"

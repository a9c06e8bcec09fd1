"""`fleek jobs pause` and `fleek jobs resume`."""

from difflib import get_close_matches
from typing import Any

from app.cli.console import say
from app.cli.errors import CommandError, WrongUsageError
from app.cli.operator_runtime import with_runtime
from app.cli.tables import progress, show_json, table, timestamp
from app.cli.tables import show as show_table
from app.jobs.scheduling import model_pauses, pauses, provider_circuits
from app.jobs.states import PAUSED_BY_OPERATOR
from app.media import operator_queries
from app.runtime import Runtime


def pause(name: str, message: str | None, *, as_json: bool) -> int:
    """Pause a model or a provider; the exit status."""

    async def work(runtime: Runtime) -> int:
        await _require_known(runtime, name)
        waiting = await model_pauses.waiting(runtime.db, name) if pauses.is_model(name) else 0
        on_hold = 0
        with progress("On hold:", waiting) as advance:

            def count(moved: int) -> None:
                nonlocal on_hold
                on_hold += moved
                advance(moved)

            await pauses.pause(runtime.db, name, message or await _message(runtime, name), count)
        return on_hold

    on_hold = with_runtime(work)
    if as_json:
        show_json({"name": name, "paused": True, "on_hold": on_hold})
        return 0
    waiting = f" Waiting jobs put on hold: {on_hold}." if on_hold else ""
    say(f"{name} is paused.{waiting} Jobs already submitted continue; fleek jobs resume {name} ends the pause.")
    return 0


def resume(name: str, *, as_json: bool) -> int:
    """Resume a model or a provider; the exit status: 1 if it was not paused."""

    async def work(runtime: Runtime) -> tuple[bool, int, list[dict[str, Any]]]:
        on_hold = await model_pauses.shelved(runtime.db, name)
        with progress("Returned to the queue:", on_hold) as advance:
            was_paused = await pauses.resume(runtime.db, name, advance)
        return was_paused, on_hold, await _all(runtime)

    was_paused, returned, others = with_runtime(work)
    if as_json:
        show_json({"name": name, "paused": False, "was_paused": was_paused, "returned_to_queue": returned})
    if not was_paused:
        raise CommandError(f"{name} was not paused; {_why_not_paused(name, others)}")
    if not as_json:
        say(f"{name} is resumed." + (f" Jobs returned to the queue: {returned}." if returned else ""))
    return 0


def show(*, as_json: bool) -> int:
    """Show what is paused, and which providers are suspended; the exit status."""
    found = with_runtime(_all)
    if as_json:
        show_json({"items": found})
    elif not found:
        say("Nothing is paused, and no provider is suspended.")
    else:
        rows = table("NAME", "CODE", "SINCE (UTC)", ">ON HOLD", "MESSAGE")
        for one in found:
            on_hold = "" if one["on_hold"] is None else str(one["on_hold"])
            rows.add_row(one["name"], one["code"], timestamp(one["since"]), on_hold, one["message"])
        show_table(rows)
    return 0


async def _all(runtime: Runtime) -> list[dict[str, Any]]:
    providers = [
        {
            "name": row.provider,
            "code": row.code,
            "message": row.message,
            "since": row.closed_at,
            "on_hold": None,
        }
        for row in await provider_circuits.tripped(runtime.db)
    ]
    models = [
        {
            "name": row.model,
            "code": row.code,
            "message": row.message,
            "since": row.paused_at,
            "on_hold": await model_pauses.shelved(runtime.db, row.model),
        }
        for row in await model_pauses.paused(runtime.db)
    ]
    return providers + models


async def _message(runtime: Runtime, name: str) -> str:
    """The message of a pause without --message: that of the current pause, or a default."""
    ours = (one["message"] for one in await _all(runtime) if (one["name"], one["code"]) == (name, PAUSED_BY_OPERATOR))
    return next(ours, f"the operator has paused {name}")


async def _require_known(runtime: Runtime, name: str) -> None:
    """Refuse an unknown name for which no job waits: pausing it would have no effect.

    Raises:
        WrongUsageError: With similar names.
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
        raise WrongUsageError(f"there is no model or provider {name!r}; did you mean {', '.join(near)}?")


def _why_not_paused(name: str, others: list[dict[str, Any]]) -> str:
    circuit = next((one for one in others if one["name"] == name), None)
    if circuit is not None:
        return f"it is suspended ({circuit['code']}) and becomes available by itself after a successful trial"
    paused = [one["name"] for one in others if one["code"] == PAUSED_BY_OPERATOR]
    return f"paused: {', '.join(paused)}" if paused else "nothing is paused"

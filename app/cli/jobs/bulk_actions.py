"""`fleek jobs retry` and `fleek jobs cancel`: first the jobs are looked up, then one is asked, then they are moved."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import asyncpg
import typer

from app.cli.console import complain, say
from app.cli.errors import FAULT, CommandError, WrongUsageError
from app.cli.operator_runtime import SilentBell, operate
from app.cli.tables import progress, show, show_json, table
from app.core.errors import FleekError
from app.jobs.states import CancelAnswer, MediaStatus, MoneySpent
from app.media import operator_queries, service
from app.media.context import MediaServices
from app.media.operator_queries import Filter
from app.runtime import Runtime

NAMES_ASKED: Final = 5
"""How many models a question names."""


@dataclass(frozen=True, slots=True)
class Move:
    """What is done to jobs."""

    verb: str
    done: str
    possible: frozenset[MediaStatus]
    """The states in which it can be done."""
    usual: tuple[MediaStatus, ...]
    """The states that are meant where none is named."""

    @property
    def buys(self) -> bool:
        """Whether it may cost money."""
        return self.verb == "retry"


def move(move: Move, ids: Sequence[UUID], wanted: Filter, limit: int, *, yes: bool, as_json: bool) -> int:
    """Do it to the jobs of `ids`, or else to the oldest that are wanted; the exit status: 1 if any was refused.

    Raises:
        CommandError: Nothing was done, or not everything, and why.
    """
    chosen = operate(lambda runtime: _choose(runtime, move, ids, wanted, limit))
    if not chosen:
        if not as_json:
            say("No such jobs.")
        return 0
    if not yes and not _agreed(move, chosen, named=bool(ids), more=not ids and len(chosen) == limit):
        complain("nothing was done")
        return FAULT
    results = list[dict[str, Any]]()
    try:
        operate(lambda runtime: _do(runtime, move, chosen, results))
    finally:
        # Also of a run that broke off in the middle.
        _report(move, results, as_json=as_json)
    return FAULT if any(result["result"] == "refused" for result in results) else 0


async def _choose(
    runtime: Runtime, move: Move, ids: Sequence[UUID], wanted: Filter, limit: int
) -> Sequence[asyncpg.Record]:
    if ids:
        if not wanted.everything:
            raise WrongUsageError("give ids or options that describe jobs, not both")
        return await _by_id(runtime, ids)
    if wanted.everything:
        raise WrongUsageError(f"say which jobs to {move.verb}: ids, or options such as --status or --model")
    if impossible := set(wanted.statuses) - move.possible:
        raise WrongUsageError(
            f"--status {min(impossible)}: only {' and '.join(sorted(move.possible))} can be {move.done}"
        )
    return await operator_queries.jobs(
        runtime.db,
        Filter(
            wanted.statuses or move.usual,
            wanted.models,
            wanted.providers,
            wanted.error,
            wanted.older_than,
            wanted.newer_than,
        ),
        limit=limit,
        oldest_first=True,
    )


async def _by_id(runtime: Runtime, ids: Sequence[UUID]) -> Sequence[asyncpg.Record]:
    found = await operator_queries.jobs_by_id(runtime.db, ids)
    known = {row["job_id"] for row in found} | {row["media_id"] for row in found}
    missing = [str(one) for one in ids if one not in known]
    if missing:
        raise CommandError(f"there is no job or media {', '.join(missing)}; nothing was done")
    return found


def _agreed(move: Move, chosen: Sequence[asyncpg.Record], *, named: bool, more: bool) -> bool:
    """Ask, unless it is harmless: ids were named, and nothing is paid twice."""
    risky = _risks(chosen) if move.buys else ""
    if named and not risky:
        return True
    models = sorted({row["model"] for row in chosen})
    which = ", ".join(models[:NAMES_ASKED]) + (" and others" if len(models) > NAMES_ASKED else "")
    limited = ", the oldest; there are more" if more else ""
    complain(f"{_jobs(len(chosen))} of {which}{limited}")
    if risky:
        complain(risky)
    if not sys.stdin.isatty():
        raise WrongUsageError("nobody can be asked here; add --yes")
    return typer.confirm(f"{move.verb.capitalize()} {_jobs(len(chosen))}?", err=True)


def _risks(chosen: Sequence[asyncpg.Record]) -> str:
    unknown = sum(row["retry_pays_again"] == MoneySpent.MAYBE for row in chosen)
    paid = sum(row["retry_pays_again"] == MoneySpent.YES for row in chosen)
    said = [f"{unknown} may have been paid already (nobody knows)"] if unknown else []
    said += [f"{paid} had been paid without a result that could be kept"] if paid else []
    return f"{' and '.join(said)}: another try may be paid a second time" if said else ""


async def _do(runtime: Runtime, move: Move, chosen: Sequence[asyncpg.Record], results: list[dict[str, Any]]) -> None:
    services = runtime.media_services(SilentBell())
    with progress(f"{move.verb.capitalize()}:", len(chosen)) as told:
        for row in chosen:
            try:
                came = await (_retry if move.buys else _cancel)(services, row)
            except FleekError as error:
                came = {"status": error.members.get("media_status"), "result": "refused", "detail": error.detail}
            results.append({"job_id": row["job_id"], "media_id": row["media_id"], "model": row["model"], **came})
            told(1)


async def _retry(services: MediaServices, row: asyncpg.Record) -> dict[str, Any]:
    after = await service.retry_media(services, row["owner_id"], row["media_id"])
    return {"status": after.status, "result": "retried", "detail": ""}


async def _cancel(services: MediaServices, row: asyncpg.Record) -> dict[str, Any]:
    said = await service.cancel_media(services, row["owner_id"], row["media_id"])
    asked = said.answer is CancelAnswer.REQUESTED
    detail = f"money spent: {said.money_spent}"
    if asked:
        detail = f"its provider is asked; {detail} so far"
    return {"status": said.media.status, "result": "asked" if asked else "canceled", "detail": detail}


def _report(move: Move, results: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        for result in results:
            show_json(result)
        return
    if not results:
        return
    rows = table("JOB", "RESULT", "DETAIL")
    for result in results:
        rows.add_row(str(result["job_id"]), result["result"], result["detail"])
    show(rows)
    counts = [(name, sum(result["result"] == name for result in results)) for name in (move.done, "asked", "refused")]
    say(", ".join(f"{count} {name}" for name, count in counts if count) + ".")


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"

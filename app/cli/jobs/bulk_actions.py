"""`fleek jobs retry` and `fleek jobs cancel`: select the jobs, confirm, apply."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import typer

from app.cli.console import complain, say
from app.cli.errors import FAILURE, CommandError, WrongUsageError
from app.cli.operator_runtime import NullBell, with_runtime
from app.cli.tables import progress, show, show_json, table
from app.core.errors import FleekError
from app.jobs.states import CancelAnswer, MediaStatus, MoneySpent
from app.media import operator_queries, service
from app.media.context import MediaServices
from app.media.operator_queries import Filter, OperatorJob
from app.runtime import Runtime

MOST_NAMES: Final = 5
"""How many models a confirmation names."""
CANCEL_REQUESTED: Final = "cancel_requested"
"""The result for a running job: its provider decides."""


@dataclass(frozen=True, slots=True)
class BulkAction:
    """An action on several jobs."""

    verb: str
    done: str
    possible: frozenset[MediaStatus]
    """The states in which it is possible."""
    default: tuple[MediaStatus, ...]
    """The states selected if --status is not given."""

    @property
    def may_cost_money(self) -> bool:
        """Whether it may cost money."""
        return self.verb == "retry"


def run(action: BulkAction, ids: Sequence[UUID], wanted: Filter, limit: int, *, yes: bool, as_json: bool) -> int:
    """Apply an action to the jobs of `ids`, or else to the oldest that match; the exit status: 1 if any was refused.

    Raises:
        CommandError: Nothing was done, or only a part; the message says why.
    """
    chosen = with_runtime(lambda runtime: _select(runtime, action, ids, wanted, limit))
    if not chosen:
        if not as_json:
            say("No jobs match.")
        return 0
    if not yes and not _confirmed(action, chosen, named=bool(ids), more=not ids and len(chosen) == limit):
        complain("nothing was done")
        return FAILURE
    results = list[dict[str, Any]]()
    try:
        with_runtime(lambda runtime: _apply(runtime, action, chosen, results))
    finally:
        # also after an error in the middle
        _report(action, results, as_json=as_json)
    return FAILURE if any(result["result"] == "refused" for result in results) else 0


async def _select(
    runtime: Runtime, action: BulkAction, ids: Sequence[UUID], wanted: Filter, limit: int
) -> Sequence[OperatorJob]:
    if ids:
        if not wanted.everything:
            raise WrongUsageError("give either ids or filter options, not both")
        return await _by_id(runtime, ids)
    if wanted.everything:
        raise WrongUsageError(
            f"say which jobs to {action.verb}: give ids, or filter options such as --status or --model"
        )
    if impossible := set(wanted.statuses) - action.possible:
        raise WrongUsageError(
            f"--status {min(impossible)}: only {' and '.join(sorted(action.possible))} can be {action.done}"
        )
    return await operator_queries.jobs(
        runtime.db,
        Filter(
            wanted.statuses or action.default,
            wanted.models,
            wanted.providers,
            wanted.error,
            wanted.older_than,
            wanted.newer_than,
        ),
        limit=limit,
        oldest_first=True,
    )


async def _by_id(runtime: Runtime, ids: Sequence[UUID]) -> Sequence[OperatorJob]:
    found = await operator_queries.jobs_by_id(runtime.db, ids)
    known = {row.job_id for row in found} | {row.media_id for row in found}
    missing = [str(one) for one in ids if one not in known]
    if missing:
        raise CommandError(f"no job or media has the id {', '.join(missing)}; nothing was done")
    return found


def _confirmed(action: BulkAction, chosen: Sequence[OperatorJob], *, named: bool, more: bool) -> bool:
    """Ask for confirmation, unless ids were given and nothing can be charged twice."""
    warning = _cost_warning(chosen) if action.may_cost_money else ""
    if named and not warning:
        return True
    models = sorted({row.model for row in chosen})
    which = ", ".join(models[:MOST_NAMES]) + (" and others" if len(models) > MOST_NAMES else "")
    limited = ", the oldest ones; there may be more" if more else ""
    complain(f"{_jobs(len(chosen))} of {which}{limited}")
    if warning:
        complain(warning)
    if not sys.stdin.isatty():
        raise WrongUsageError("confirmation needs a terminal; add --yes to proceed without it")
    return typer.confirm(f"{action.verb.capitalize()} {_jobs(len(chosen))}?", err=True)


def _cost_warning(chosen: Sequence[OperatorJob]) -> str:
    unknown = sum(row.retry_pays_again == MoneySpent.MAYBE for row in chosen)
    paid = sum(row.retry_pays_again == MoneySpent.YES for row in chosen)
    parts = [f"{unknown} may have been charged already (payment status unknown)"] if unknown else []
    parts += [f"{paid} had been charged without a usable result"] if paid else []
    return f"{' and '.join(parts)}: another attempt may be charged again" if parts else ""


async def _apply(
    runtime: Runtime, action: BulkAction, chosen: Sequence[OperatorJob], results: list[dict[str, Any]]
) -> None:
    services = runtime.media_services(NullBell())
    with progress(f"{action.verb.capitalize()}:", len(chosen)) as advance:
        for row in chosen:
            try:
                outcome = await (_retry if action.may_cost_money else _cancel)(services, row)
            except FleekError as error:
                outcome = {"status": error.members.get("media_status"), "result": "refused", "detail": error.detail}
            results.append({"job_id": row.job_id, "media_id": row.media_id, "model": row.model, **outcome})
            advance(1)


async def _retry(services: MediaServices, row: OperatorJob) -> dict[str, Any]:
    after = await service.retry_media(services, row.owner_id, row.media_id)
    return {"status": after.status, "result": "retried", "detail": ""}


async def _cancel(services: MediaServices, row: OperatorJob) -> dict[str, Any]:
    canceled = await service.cancel_media(services, row.owner_id, row.media_id)
    requested = canceled.answer is CancelAnswer.REQUESTED
    detail = f"money spent: {canceled.money_spent}"
    if requested:
        detail = f"cancel request sent to the provider; {detail} so far"
    return {
        "status": canceled.media.status,
        "result": CANCEL_REQUESTED if requested else "canceled",
        "detail": detail,
    }


def _report(action: BulkAction, results: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        for result in results:
            show_json(result)
        return
    if not results:
        return
    rows = table("JOB", "RESULT", "DETAIL")
    for result in results:
        rows.add_row(str(result["job_id"]), result["result"].replace("_", " "), result["detail"])
    show(rows)
    names = (action.done, CANCEL_REQUESTED, "refused")
    counts = [(name, sum(result["result"] == name for result in results)) for name in names]
    say(", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts if count) + ".")


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count} jobs"

"""A worker's writes: many jobs share one statement, and a write waits for a database that is away."""

import asyncio
from typing import Final, TypeVar

import asyncpg
import structlog

from app.core.database.group_commit import GroupCommit
from app.core.database.pool import UNAVAILABLE, DatabasePool
from app.jobs.job_errors import DEADLINE_EXCEEDED
from app.jobs.transitions import late_attempts, transitions
from app.jobs.transitions.commands import (
    AttemptOutcome,
    CancelOutcome,
    Completion,
    Failure,
    Intent,
    Lease,
    Progress,
    Purchase,
    Reroute,
)

log = structlog.get_logger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

TRY_LATER: Final = (*UNAVAILABLE, asyncpg.TransactionRollbackError, asyncpg.LockNotAvailableError)
"""Errors of the database after which the same statement may succeed."""
SHORTEST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 5.0


class LeaseLostError(Exception):
    """Another worker has the media, or it is over: nothing more may be written for it."""


class BoughtAlreadyError(Exception):
    """A purchase of an older try has turned up since the claim: it goes on, nothing is bought anew."""


class Writes:
    """The statements that move jobs, each safe to repeat when its answer was lost."""

    def __init__(self, db: DatabasePool) -> None:
        self._intend = GroupCommit[Intent, int | None](lambda items: transitions.intend(db, items), shared=TRY_LATER)
        self._purchase = GroupCommit[Purchase, bool](
            lambda items: transitions.record_purchases(db, items), shared=TRY_LATER
        )
        self._complete = GroupCommit[Completion, bool](lambda items: transitions.complete(db, items), shared=TRY_LATER)
        self._retry = GroupCommit[Failure, bool](
            lambda items: transitions.schedule_retries(db, items), shared=TRY_LATER
        )
        self._fail = GroupCommit[Failure, bool](lambda items: transitions.fail(db, items), shared=TRY_LATER)
        self._expire = GroupCommit[Lease, bool](
            lambda items: transitions.expire(db, items, DEADLINE_EXCEEDED.as_json), shared=TRY_LATER
        )
        self._cancel = GroupCommit[CancelOutcome, bool](lambda items: transitions.cancel(db, items), shared=TRY_LATER)
        self._refuse_cancel = GroupCommit[CancelOutcome, bool](
            lambda items: transitions.refuse_cancel(db, items), shared=TRY_LATER
        )
        self._reroute = GroupCommit[Reroute, bool](lambda items: transitions.reroute(db, items), shared=TRY_LATER)
        self._close = GroupCommit[AttemptOutcome, bool](lambda items: late_attempts.close(db, items), shared=TRY_LATER)
        self._progress = GroupCommit[Progress, bool](lambda items: transitions.progress(db, items), shared=TRY_LATER)

    async def intend(self, intent: Intent) -> int:
        """Commit what is about to be bought; the attempt's number.

        Raises:
            LeaseLostError: It must not be bought by this worker.
            BoughtAlreadyError: It must not be bought at all.
        """
        try:
            number = await _persist(self._intend, intent)
        except asyncpg.UniqueViolationError as error:
            # A media has one open attempt at most.
            raise BoughtAlreadyError from error
        if number is None:
            raise LeaseLostError
        return number

    async def purchase(self, purchase: Purchase) -> None:
        """Record what was bought, whoever holds the lease now."""
        try:
            await _persist(self._purchase, purchase)
        except asyncpg.UniqueViolationError:
            # Another try was begun in this very moment; the second time it is seen.
            await _persist(self._purchase, purchase)

    async def close(self, closing: AttemptOutcome) -> None:
        """Record how an attempt ended, whoever holds the lease now."""
        await _persist(self._close, closing)

    async def complete(self, completion: Completion) -> None:
        """Commit files and COMPLETED.

        Raises:
            LeaseLostError: It was not this worker's any more.
        """
        if not await _persist(self._complete, completion):
            raise LeaseLostError

    async def end(self, failure: Failure) -> None:
        """Commit how an attempt failed, and whether the media is tried again.

        Raises:
            LeaseLostError: It was not this worker's any more.
        """
        if not await _persist(self._fail if failure.retry_after is None else self._retry, failure):
            raise LeaseLostError

    async def reroute(self, move: Reroute) -> bool:
        """Commit how an attempt failed, and that the media goes on to another model; False: it may not."""
        return await _persist(self._reroute, move)

    async def expire(self, held: Lease) -> None:
        """End a media whose deadline has passed.

        Raises:
            LeaseLostError: It was not this worker's any more.
        """
        if not await _persist(self._expire, held):
            raise LeaseLostError

    async def cancel(self, report: CancelOutcome) -> None:
        """Commit that a media was stopped in time.

        Raises:
            LeaseLostError: It was not this worker's any more.
        """
        if not await _persist(self._cancel, report):
            raise LeaseLostError

    async def refuse_cancel(self, report: CancelOutcome) -> None:
        """Let its owner know that it goes on."""
        await _persist(self._refuse_cancel, report)

    async def progress(self, progress: Progress) -> None:
        """Show how far it is; lost without harm while the database is away."""
        try:
            await self._progress(progress)
        except TRY_LATER:
            return


async def _persist(batch: GroupCommit[Item, Result], item: Item) -> Result:
    """Write until the database has answered; every statement here may be repeated."""
    pause = SHORTEST_PAUSE
    while True:
        try:
            return await batch(item)
        except TRY_LATER as error:
            log.warning("write_delayed", error=type(error).__name__)
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)

"""A worker's writes: many jobs share one statement, and a write waits for a database that is away."""

import asyncio
from typing import Final, TypeVar

import asyncpg
import structlog

from app.core.batch import Batch
from app.core.connections import UNAVAILABLE, Connections
from app.media import transitions
from app.media.commands import Completion, Failure, Intent, Progress, Purchase

log = structlog.get_logger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

TRY_LATER: Final = (*UNAVAILABLE, asyncpg.TransactionRollbackError)
"""Errors of the database after which the same statement may succeed."""
SHORTEST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 5.0


class LeaseLostError(Exception):
    """Another worker has the media, or it is over: nothing more may be written for it."""


class Writes:
    """The statements that move jobs, each safe to repeat when its answer was lost."""

    def __init__(self, hot: Connections) -> None:
        self._intend = Batch[Intent, int | None](lambda items: transitions.intend(hot, items), shared=TRY_LATER)
        self._purchase = Batch[Purchase, bool](lambda items: transitions.record_purchases(hot, items), shared=TRY_LATER)
        self._complete = Batch[Completion, bool](lambda items: transitions.complete(hot, items), shared=TRY_LATER)
        self._retry = Batch[Failure, bool](lambda items: transitions.schedule_retries(hot, items), shared=TRY_LATER)
        self._fail = Batch[Failure, bool](lambda items: transitions.fail(hot, items), shared=TRY_LATER)
        self._progress = Batch[Progress, bool](lambda items: transitions.progress(hot, items), shared=TRY_LATER)

    async def intend(self, intent: Intent) -> int:
        """Commit what is about to be bought; the attempt's number.

        Raises:
            LeaseLostError: It must not be bought by this worker.
        """
        number = await _persist(self._intend, intent)
        if number is None:
            raise LeaseLostError
        return number

    async def purchase(self, purchase: Purchase) -> None:
        """Record what was bought, whoever holds the lease now."""
        await _persist(self._purchase, purchase)

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

    async def progress(self, progress: Progress) -> None:
        """Show how far it is; lost without harm while the database is away."""
        try:
            await self._progress(progress)
        except TRY_LATER:
            return


async def _persist(batch: Batch[Item, Result], item: Item) -> Result:
    """Write until the database has answered; every statement here may be repeated."""
    pause = SHORTEST_PAUSE
    while True:
        try:
            return await batch(item)
        except TRY_LATER as error:
            log.warning("write_delayed", error=type(error).__name__)
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)

"""What every transition shares: the lease, the rows it returns, the announcement after the commit, group commit.

Transitions are the only writers of the tables `media` and `attempts`: one function for each event, one statement for
each function. The expected state stands in the WHERE, so check and change are one; a worker's write also names the
fencing token of its lease. What a statement returns is what really changed: a missing id was refused. Every change of a
status leaves its history row, and its webhook deliveries, in the same statement.

A worker's writes are group commits: many jobs share one statement, and a write waits for a database that is down.
`@grouped`, `@fenced` and `@best_effort` turn a transition of many items into one of a single item: `await
complete(db, completion)` returns once it is committed. Items that arrive while a statement runs share the next one;
`complete.many(db, completions)` runs the statement at once. Every such statement is safe to repeat when its answer was
lost.
"""

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar
from uuid import UUID

import asyncpg

from app.core.database.pool import RETRYABLE, Change, DatabasePool
from app.core.database.rows import Row

MOST_DEADLOCKS: Final = 3
"""Times that a statement is repeated after a deadlock, or because an attempt was opened meanwhile; nothing was done."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's claim on a media item; every write of the worker names the fencing token."""

    media_id: UUID
    fencing_token: int
    """The column `fence`: it rises with each claim."""


class Changed(Row, frozen=True):
    """A media item that a statement has changed."""

    id: UUID
    owner_id: UUID
    posted: bool
    """Whether webhook deliveries were written."""


class Requeued(Changed, frozen=True):
    """A media item that is back in its queue."""

    queue: str


ChangedRow = TypeVar("ChangedRow", bound=Changed)
AnyRow = TypeVar("AnyRow", bound=Row)
Item = TypeVar("Item")
Result = TypeVar("Result")


async def run(db: DatabasePool, row_type: type[ChangedRow], statement: str, *values: object) -> list[ChangedRow]:
    """Run a statement that changes media, and announce what it changed."""
    return announce(db, await retried(db, row_type, statement, *values))


async def retried(db: DatabasePool, row_type: type[AnyRow], statement: str, *values: object) -> list[AnyRow]:
    """Run a statement, and repeat it after a deadlock, or if an attempt was opened meanwhile; nothing is announced."""
    for _ in range(MOST_DEADLOCKS):
        with contextlib.suppress(asyncpg.TransactionRollbackError, asyncpg.UniqueViolationError):
            return await db.fetch_as(row_type, statement, *values)
    return await db.fetch_as(row_type, statement, *values)


def announce(db: DatabasePool, rows: list[ChangedRow]) -> list[ChangedRow]:
    """Notify those who wait for these media, and the webhook delivery.

    A lost notification costs seconds, see `media/events/subscriptions.py` and `webhooks/delivery.py`.
    """
    if rows:
        changes = [Change(row.id, row.owner_id) for row in rows]
        db.on_change(changes, deliveries_due=any(row.posted for row in rows))
    return rows


def applied(rows: Sequence[Changed], leases: Sequence[Lease]) -> list[bool]:
    """For each lease whether its media was changed."""
    ids = {row.id for row in rows}
    return [lease.media_id in ids for lease in leases]


class LeaseLostError(Exception):
    """Another worker has the media, or it has ended: nothing more may be written for it."""


class _Transition(Generic[Item, Result]):
    """A transition of many items, to be made one of a single item."""

    def __init__(self, many: Callable[[DatabasePool, Sequence[Item]], Awaitable[Sequence[Result]]]) -> None:
        self.many = many
        """The statement itself: one result for each item, in order."""
        self.__doc__ = many.__doc__


class GroupedTransition(_Transition[Item, Result]):
    """A transition of one item that shares its statement with others."""

    async def __call__(self, db: DatabasePool, item: Item) -> Result:
        """Write until the database has answered."""
        return await db.group_commit(self.many, persist=True)(item)


class FencedTransition(_Transition[Item, Result | None]):
    """A grouped transition that only the holder of the lease may make."""

    async def __call__(self, db: DatabasePool, item: Item) -> Result:
        """Write until the database has answered.

        Raises:
            LeaseLostError: The lease is lost; nothing was written.
        """
        result = await db.group_commit(self.many, persist=True)(item)
        if result is None or result is False:
            raise LeaseLostError
        return result


class BestEffortTransition(_Transition[Item, Result]):
    """A grouped transition that is dropped while the database is down."""

    async def __call__(self, db: DatabasePool, item: Item) -> None:
        """Write, or do not."""
        with contextlib.suppress(*RETRYABLE):
            await db.group_commit(self.many)(item)


def grouped(
    many: Callable[[DatabasePool, Sequence[Item]], Awaitable[Sequence[Result]]],
) -> GroupedTransition[Item, Result]:
    """Make a transition of many items one of a single item."""
    return GroupedTransition(many)


def fenced(
    many: Callable[[DatabasePool, Sequence[Item]], Awaitable[Sequence[Result | None]]],
) -> FencedTransition[Item, Result]:
    """The same for a transition that returns None or False where the lease is lost."""
    return FencedTransition(many)


def best_effort(
    many: Callable[[DatabasePool, Sequence[Item]], Awaitable[Sequence[Result]]],
) -> BestEffortTransition[Item, Result]:
    """The same for a transition that may be lost."""
    return BestEffortTransition(many)

"""What every transition shares: the lease, the rows it returns, and the announcement after the commit.

Transitions are the only writers of the tables `media` and `attempts`: one function for each event, one statement for
each function. The expected state stands in the WHERE, so check and change are one; a worker's write also names the
fencing token of its lease. What a statement returns is what really changed: a missing id was refused. Every change of a
status leaves its history row, and its webhook deliveries, in the same statement.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar
from uuid import UUID

import asyncpg

from app.core.database.pool import Change, DatabasePool
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


async def run(db: DatabasePool, row_type: type[ChangedRow], statement: str, *values: object) -> list[ChangedRow]:
    """Run a statement that changes media, and announce what it changed."""
    return announce(db, await retried(db, row_type, statement, *values))


async def retried(db: DatabasePool, row_type: type[ChangedRow], statement: str, *values: object) -> list[ChangedRow]:
    """Run a statement, and repeat it after a deadlock; nothing is announced."""
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

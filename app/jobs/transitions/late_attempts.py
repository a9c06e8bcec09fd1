"""Attempts whose media is over: who looks after them, and how they end. No status of a media moves here.

Nothing is fenced: an attempt that is no longer open, or that its owner's retry has taken back, refuses the write.
"""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import asyncpg

from app.core.database.pool import DatabasePool
from app.jobs.billing import columns
from app.jobs.transitions import late_statements as statements
from app.jobs.transitions.base import told
from app.jobs.transitions.commands import AttemptOutcome, LateResult


async def take(db: DatabasePool, *, limit: int, pause: timedelta, in_hand: Sequence[UUID] = ()) -> list[asyncpg.Record]:
    """Up to `limit` attempts that are to be looked after now, but not those in hand.

    Nobody gets them again for `pause`, and for longer each time that a look does not come to its end.
    """
    return await db.fetch(statements.TAKE_LATE, limit, pause, in_hand)


async def looked(db: DatabasePool, attempt_id: UUID) -> None:
    """A look came to its end: it did not kill anybody."""
    await db.execute(statements.LOOKED, attempt_id)


async def adopt(db: DatabasePool) -> int:
    """Look after open attempts that were overlooked when their media ended; how many."""
    return len(await db.fetch(statements.ADOPT))


async def close(db: DatabasePool, closings: Sequence[AttemptOutcome]) -> list[bool]:
    """Write down how attempts ended; False where that is known already."""
    rows = await db.fetch(
        statements.CLOSE,
        [c.attempt_id for c in closings],
        [c.status for c in closings],
        [c.sent for c in closings],
        [c.error for c in closings],
        *columns(c.bill for c in closings),
    )
    closed: set[UUID] = {row["id"] for row in rows}
    return [c.attempt_id in closed for c in closings]


async def told_to_stop(db: DatabasePool, attempt_id: UUID) -> None:
    """The provider has been asked to stop it; once is enough."""
    await db.execute(statements.TOLD_TO_STOP, attempt_id)


async def forsake(db: DatabasePool, attempt_id: UUID, *, bought: bool) -> None:
    """Nobody looks after it any more; what is known of it stays.

    Args:
        db: The database.
        attempt_id: Of which attempt.
        bought: Whether a purchase is known; if that has changed meanwhile, it is looked after all the same.
    """
    await db.execute(statements.FORSAKE, attempt_id, bought)


async def store(db: DatabasePool, late: LateResult) -> bool:
    """Keep the files of a media that is over; False: its owner has taken it up again."""
    row = await db.fetchrow(
        statements.STORE_LATE,
        late.attempt_id,
        late.media_id,
        *(late.bill.cost, late.bill.currency, late.bill.basis, late.bill.units),
        [f.id for f in late.files],
        [f.index for f in late.files],
        [f.key for f in late.files],
        [f.media_type for f in late.files],
        [f.bytes for f in late.files],
        [f.width for f in late.files],
        [f.height for f in late.files],
        [f.sha256 for f in late.files],
        [f.seconds for f in late.files],
        [f.poster_key for f in late.files],
    )
    return row is not None and bool(told(db, [row]))

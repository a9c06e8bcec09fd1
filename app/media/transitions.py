"""The only writer of `status`: one function for each event, one statement for each function.

The expected state stands in the WHERE, so the check and the move are one; a worker's write also names
the fencing number of its claim. What comes back is what really moved: an id that is missing was refused.
Every move leaves its history row in the same statement. The SQL is in `statements.py`.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from app.core.connections import Connections
from app.media import statements
from app.media.commands import Completion, Failure, Held, Intent, NewMedia, Progress, Purchase


async def request(hot: Connections, new: NewMedia) -> datetime | None:
    """Write a request down; once this returns it will be generated.

    Returns:
        When it was created; None: its idempotency key was used before, and nothing was written.
    """
    values = (new.id, new.job_id, new.owner_id, new.prompt, new.model, new.input, new.metadata, new.queue)
    if new.once is None:
        row = await hot.fetchrow(statements.REQUEST, *values)
    else:
        once = new.once
        row = await hot.fetchrow(statements.REQUEST_ONCE, *values, once.key.name, once.key.fingerprint, once.lifetime)
    if row is None:
        return None
    created_at: datetime = row["created_at"]
    return created_at


async def claim(hot: Connections, queue: str, *, worker_id: UUID, limit: int) -> list[asyncpg.Record]:
    """Take up to `limit` due media of `queue` for one worker; of many workers each row goes to one.

    A row holds the media and its open attempt, if a worker before left one. A worker whose row is gone gets none.
    """
    return await hot.fetch(statements.CLAIM, queue, worker_id, limit)


async def intend(hot: Connections, intents: Sequence[Intent]) -> list[int | None]:
    """Commit what is about to be bought: the attempt's number for each, or None where the lease is lost.

    Asked again with the same attempt id, as after a lost answer, it changes nothing and answers alike.
    """
    rows = await hot.fetch(
        statements.INTEND,
        [i.held.media_id for i in intents],
        [i.held.fence for i in intents],
        [i.attempt_id for i in intents],
        [i.model for i in intents],
        [i.model_version for i in intents],
        [i.input_hash for i in intents],
    )
    numbers: dict[UUID, int] = {row["id"]: row["number"] for row in rows}
    return [numbers.get(i.attempt_id) for i in intents]


async def record_purchases(hot: Connections, purchases: Sequence[Purchase]) -> list[bool]:
    """Record what was bought. A fact, so it is not fenced: a worker that lost its lease may write it too."""
    columns = zip(*((p.attempt_id, p.external_id, p.reference) for p in purchases), strict=True)
    rows = await hot.fetch(statements.PURCHASE, *(list(column) for column in columns))
    recorded: set[UUID] = {row["id"] for row in rows}
    return [p.attempt_id in recorded for p in purchases]


async def complete(hot: Connections, completions: Sequence[Completion]) -> list[bool]:
    """Make media COMPLETED together with their files; False where the lease is lost."""
    files = [(f, c.held.media_id) for c in completions for f in c.files]
    rows = await hot.fetch(
        statements.COMPLETE,
        [c.held.media_id for c in completions],
        [c.held.fence for c in completions],
        [c.attempt_id for c in completions],
        [c.cost for c in completions],
        [f.id for f, _ in files],
        [media_id for _, media_id in files],
        [f.index for f, _ in files],
        [f.key for f, _ in files],
        [f.media_type for f, _ in files],
        [f.bytes for f, _ in files],
        [f.width for f, _ in files],
        [f.height for f, _ in files],
        [f.sha256 for f, _ in files],
    )
    return _moved(rows, [c.held for c in completions])


async def progress(hot: Connections, steps: Sequence[Progress]) -> list[bool]:
    """Show how far media are; no event of its own."""
    rows = await hot.fetch(
        statements.PROGRESS,
        [p.held.media_id for p in steps],
        [p.held.fence for p in steps],
        [p.fraction for p in steps],
    )
    return _moved(rows, [p.held for p in steps])


async def schedule_retries(hot: Connections, failures: Sequence[Failure]) -> list[bool]:
    """Put media back into the queue for another try at `now + retry_after`; False where the lease is lost."""
    return await _end_attempts(hot, statements.RETRY, failures)


async def fail(hot: Connections, failures: Sequence[Failure]) -> list[bool]:
    """End media with ERROR; False where the lease is lost."""
    return await _end_attempts(hot, statements.FAIL, failures)


async def ask_retry(hot: Connections, media_id: UUID, owner_id: UUID) -> str | None:
    """Put a media that failed or was canceled back into its queue; which one, or None if it is in no such state."""
    row = await hot.fetchrow(statements.RETRY_ASKED, media_id, owner_id)
    return None if row is None else str(row["queue"])


async def hand_back(hot: Connections, held: Sequence[Held], *, reason: str, delay: timedelta) -> list[bool]:
    """Give media back untried: the open attempt goes on with the next worker, after `delay`."""
    rows = await hot.fetch(statements.RETURN_HELD, reason, [h.media_id for h in held], [h.fence for h in held], delay)
    return _moved(rows, held)


async def return_forgotten(hot: Connections, worker_id: UUID, in_hand: Sequence[UUID]) -> set[str]:
    """Return media that carry the worker's name but are not in its hands; the queues they went to.

    So it is when the database crashed between committing a claim and answering it.
    """
    return {
        row["queue"] for row in await hot.fetch(statements.RETURN_FORGOTTEN, "claim_answer_lost", worker_id, in_hand)
    }


async def return_orphans(hot: Connections) -> list[asyncpg.Record]:
    """Return media whose worker is gone; `id` and `queue` of each."""
    return await hot.fetch(statements.RETURN_ORPHANS, "worker_gone")


async def _end_attempts(hot: Connections, statement: str, failures: Sequence[Failure]) -> list[bool]:
    rows = await hot.fetch(
        statement,
        [f.held.media_id for f in failures],
        [f.held.fence for f in failures],
        [f.attempt_id for f in failures],
        [f.attempt_status for f in failures],
        [f.sent for f in failures],
        [f.error for f in failures],
        [f.retry_after for f in failures],
    )
    return _moved(rows, [f.held for f in failures])


def _moved(rows: Sequence[asyncpg.Record], held: Sequence[Held]) -> list[bool]:
    ids: set[UUID] = {row["id"] for row in rows}
    return [h.media_id in ids for h in held]

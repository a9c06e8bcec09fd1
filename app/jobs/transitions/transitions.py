"""The only writer of `status`: one function for each event, one statement for each function.

The expected state stands in the WHERE, so the check and the move are one; a worker's write also names
the fencing number of its claim. What comes back is what really moved: an id that is missing was refused.
Every move leaves its history row in the same statement. The SQL is in `statements.py`.
"""

import contextlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

import asyncpg

from app.core.database.pool import Change, DatabasePool
from app.jobs.billing import columns
from app.jobs.transitions import claim as claiming
from app.jobs.transitions import route_statements, shelf_statements, statements, stop_statements
from app.jobs.transitions.base import told
from app.jobs.transitions.commands import (
    CancelOutcome,
    ClaimTerms,
    Completion,
    Failure,
    Intent,
    Lease,
    NewMedia,
    Progress,
    Purchase,
    Reroute,
)

MOST_DEADLOCKS: Final = 3
"""Times that a statement is repeated because another one was in its way, or has opened an attempt; nothing was done."""
_CLAIMS_IN_TURN: Final = 0x666C65656B
"""The advisory lock of claims that have to count what others have in flight."""


async def request(db: DatabasePool, new: NewMedia) -> asyncpg.Record | None:
    """Write a request down; once this returns it will be generated.

    Returns:
        `created_at` and `deadline`; None: its idempotency key was used before, and nothing was written.
    """
    terms = new.terms
    values = (
        *(new.id, new.job_id, new.owner_id, new.prompt, new.model, new.input, new.metadata, new.queue, new.provider),
        *(terms.priority, terms.on_unknown, terms.time_limit),
        *(new.telling.webhook, new.telling.tags, new.telling.trace),
        *((None, 0, None) if new.route is None else (new.route.name, new.route.step, new.route.input)),
    )
    if new.once is None:
        made = await db.fetchrow(statements.REQUEST, *values)
    else:
        key = new.once.key
        made = await db.fetchrow(statements.REQUEST_ONCE, *values, key.name, key.fingerprint, new.once.lifetime)
    if made is not None:
        db.announce((Change(new.id, new.owner_id),), posted=made["posted"])
    return made


async def claim(db: DatabasePool, queue: str, standing: ClaimTerms, *, limit: int) -> Sequence[asyncpg.Record]:
    """Take up to `limit` due media of `queue` for one worker; of many workers each row goes to one.

    A row holds the media and its open attempt, if a worker before left one; where there is nothing to take, one
    row comes without an `id`. Each says whether `more` can be taken now, and at which owner a look along the
    queue that was not finished goes on (`next_owner`). A worker whose row is gone gets none.
    """
    values = (
        *(queue, standing.worker_id, limit, standing.after, standing.served, standing.ageing.total_seconds()),
        *(list(standing.limits), list(standing.limits.values()), standing.trial_pause),
    )
    if standing.limits:
        return told(db, await db.fetch_in_turn(_CLAIMS_IN_TURN, claiming.CLAIM, *values))
    return await _move(db, claiming.CLAIM, *values)


async def claim_suspects(
    db: DatabasePool, queue: str, *, worker_id: UUID, limit: int, below: int
) -> list[asyncpg.Record]:
    """Take up to `limit` media that outlived their workers, with fewer takeovers than `below`."""
    return await _move(db, claiming.CLAIM_SUSPECTS, queue, worker_id, limit, below)


async def intend(db: DatabasePool, intents: Sequence[Intent]) -> list[int | None]:
    """Commit what is about to be bought: the attempt's number for each, or None where the lease is lost.

    Asked again with the same attempt id, as after a lost answer, it changes nothing and answers alike.
    """
    rows = await db.fetch(
        statements.INTEND,
        [i.held.media_id for i in intents],
        [i.held.fence for i in intents],
        [i.attempt_id for i in intents],
        [i.model for i in intents],
        [i.model_version for i in intents],
        [i.input_hash for i in intents],
        [i.estimate for i in intents],
        [i.currency for i in intents],
    )
    numbers: dict[UUID, int] = {row["id"]: row["number"] for row in rows}
    return [numbers.get(i.attempt_id) for i in intents]


async def record_purchases(db: DatabasePool, purchases: Sequence[Purchase]) -> list[bool]:
    """Record what was bought. A fact, so it is not fenced: a worker that lost its lease may write it too."""
    values = zip(*((p.attempt_id, p.external_id, p.reference) for p in purchases), strict=True)
    rows = await db.fetch(statements.PURCHASE, *(list(column) for column in values))
    recorded: set[UUID] = {row["id"] for row in rows}
    return [p.attempt_id in recorded for p in purchases]


async def complete(db: DatabasePool, completions: Sequence[Completion]) -> list[bool]:
    """Make media COMPLETED together with their files; False where the lease is lost."""
    files = [(f, c.held.media_id) for c in completions for f in c.files]
    rows = await _move(
        db,
        statements.COMPLETE,
        [c.held.media_id for c in completions],
        [c.held.fence for c in completions],
        [c.attempt_id for c in completions],
        *columns(c.bill for c in completions),
        [f.id for f, _ in files],
        [media_id for _, media_id in files],
        [f.index for f, _ in files],
        [f.key for f, _ in files],
        [f.media_type for f, _ in files],
        [f.bytes for f, _ in files],
        [f.width for f, _ in files],
        [f.height for f, _ in files],
        [f.sha256 for f, _ in files],
        [f.seconds for f, _ in files],
        [f.poster_key for f, _ in files],
    )
    return _moved(rows, [c.held for c in completions])


async def progress(db: DatabasePool, steps: Sequence[Progress]) -> list[bool]:
    """Show how far media are; no event of its own."""
    rows = await _move(
        db,
        statements.PROGRESS,
        [p.held.media_id for p in steps],
        [p.held.fence for p in steps],
        [p.fraction for p in steps],
    )
    return _moved(rows, [p.held for p in steps])


async def schedule_retries(db: DatabasePool, failures: Sequence[Failure]) -> list[bool]:
    """Put media back into the queue for another try at `now + retry_after`; False where the lease is lost."""
    return await _end_attempts(db, statements.RETRY, failures)


async def fail(db: DatabasePool, failures: Sequence[Failure]) -> list[bool]:
    """End media with ERROR; False where the lease is lost."""
    return await _end_attempts(db, statements.FAIL, failures)


async def reroute(db: DatabasePool, moves: Sequence[Reroute]) -> list[bool]:
    """Send media in a worker's hands to the next target; False: the lease is lost, or they may have cost something."""
    return await _reroute(db, route_statements.REROUTE_HELD, moves)


async def reroute_waiting(db: DatabasePool, moves: Sequence[Reroute]) -> list[bool]:
    """Send media that wait to another target; False where they do so no more, or may have cost something."""
    return await _reroute(db, route_statements.REROUTE_WAITING, moves)


async def cancel_waiting(db: DatabasePool, media_id: UUID, owner_id: UUID) -> bool:
    """Cancel a media of which nothing is at a provider; False: it is not waiting like that."""
    return bool(await _move(db, stop_statements.CANCEL_WAITING, media_id, owner_id))


async def cancel_all_waiting(db: DatabasePool) -> int:
    """Cancel what was asked to be cancelled while a worker had it, and came back to the queue; how many."""
    return len(await _move(db, stop_statements.CANCEL_ALL_WAITING))


async def ask_cancel(db: DatabasePool, media_id: UUID, owner_id: UUID) -> bool:
    """Leave the wish to cancel for the worker that has it, or will; False: it is over, or that was asked before."""
    return bool(await _move(db, stop_statements.ASK_CANCEL, media_id, owner_id))


async def cancel(db: DatabasePool, reports: Sequence[CancelOutcome]) -> list[bool]:
    """Make media CANCELED that the provider has stopped, or never got; False where the lease is lost."""
    return await _report(db, stop_statements.CANCEL_HELD, reports)


async def refuse_cancel(db: DatabasePool, reports: Sequence[CancelOutcome]) -> list[bool]:
    """Say that it is too late to cancel; the media goes on."""
    return await _report(db, stop_statements.CANCEL_REFUSED, reports)


async def expire_waiting(db: DatabasePool, error: str) -> int:
    """End media in the queue whose deadline has passed, up to 1,000; how many. `error` is a JSON text."""
    return len(await _move(db, stop_statements.EXPIRE_WAITING, error))


async def expire(db: DatabasePool, held: Sequence[Lease], error: str) -> list[bool]:
    """End media in a worker's hands whose deadline has passed; False where the lease is lost."""
    ids, fences = [h.media_id for h in held], [h.fence for h in held]
    return _moved(await _move(db, stop_statements.EXPIRE_HELD, error, ids, fences), held)


async def ask_retry(db: DatabasePool, media_id: UUID, owner_id: UUID) -> str | None:
    """Put a media that failed or was canceled back into its queue; which one, or None if it is in no such state."""
    rows = await _move(db, statements.RETRY_ASKED, media_id, owner_id)
    return str(rows[0]["queue"]) if rows else None


async def hand_back(db: DatabasePool, held: Sequence[Lease], *, reason: str, delay: timedelta) -> list[bool]:
    """Give media back untried: the open attempt goes on with the next worker, after `delay`."""
    rows = await _move(db, statements.RETURN_HELD, reason, [h.media_id for h in held], [h.fence for h in held], delay)
    return _moved(rows, held)


async def return_broken(db: DatabasePool, held: Lease, error: str) -> bool:
    """Give a media back at which this worker failed, and count it; False where the lease is lost."""
    return bool(await _move(db, statements.RETURN_BROKEN, held.media_id, held.fence, error))


async def return_forgotten(db: DatabasePool, worker_id: UUID, in_hand: Sequence[UUID]) -> list[asyncpg.Record]:
    """Return media that carry the worker's name but are not in its hands; `id` and `queue` of each.

    So it is when the database crashed between committing a claim and answering it.
    """
    return await _move(db, statements.RETURN_FORGOTTEN, "claim_answer_lost", worker_id, in_hand)


async def return_orphans(db: DatabasePool) -> list[asyncpg.Record]:
    """Return media whose worker is gone, and count it against them; `id` and `queue` of each."""
    return await _move(db, statements.RETURN_ORPHANS, "worker_gone")


async def give_up(db: DatabasePool, *, takeovers: int, error: str) -> list[UUID]:
    """End media that so many workers have died with; their ids. `error` is a JSON text."""
    return [row["id"] for row in await _move(db, stop_statements.GIVE_UP, takeovers, error)]


async def shelve(db: DatabasePool, *, limit: int) -> int:
    """Set apart up to `limit` media that wait for paused models, so that no claim reads through them; how many."""
    return len(await db.fetch(shelf_statements.SHELVE, limit))


async def unshelve(db: DatabasePool, *, limit: int) -> int:
    """Put back up to `limit` media that are shelved and whose model is not paused; how many."""
    return len(await db.fetch(shelf_statements.UNSHELVE, limit))


async def unshelve_bought(db: DatabasePool) -> int:
    """Put back what turned out to be bought after it was shelved; how many."""
    return len(await db.fetch(shelf_statements.UNSHELVE_BOUGHT))


async def _end_attempts(db: DatabasePool, statement: str, failures: Sequence[Failure]) -> list[bool]:
    rows = await _move(
        db,
        statement,
        [f.held.media_id for f in failures],
        [f.held.fence for f in failures],
        [f.attempt_id for f in failures],
        [f.attempt_status for f in failures],
        [f.sent for f in failures],
        [f.error for f in failures],
        [f.retry_after for f in failures],
        [f.look_after for f in failures],
    )
    return _moved(rows, [f.held for f in failures])


async def _reroute(db: DatabasePool, statement: str, moves: Sequence[Reroute]) -> list[bool]:
    values = zip(*(move.row for move in moves), strict=True)
    return _moved(await _move(db, statement, *(list(column) for column in values)), [m.held for m in moves])


async def _report(db: DatabasePool, statement: str, reports: Sequence[CancelOutcome]) -> list[bool]:
    rows = await _move(
        db,
        statement,
        [r.held.media_id for r in reports],
        [r.held.fence for r in reports],
        [r.attempt_id for r in reports],
        [r.money_spent for r in reports],
        *columns(r.bill for r in reports),
    )
    return _moved(rows, [r.held for r in reports])


async def _move(db: DatabasePool, statement: str, *values: object) -> list[asyncpg.Record]:
    for _ in range(MOST_DEADLOCKS):
        with contextlib.suppress(asyncpg.TransactionRollbackError, asyncpg.UniqueViolationError):
            return told(db, await db.fetch(statement, *values))
    return told(db, await db.fetch(statement, *values))


def _moved(rows: Sequence[asyncpg.Record], held: Sequence[Lease]) -> list[bool]:
    ids: set[UUID] = {row["id"] for row in rows}
    return [h.media_id in ids for h in held]

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

from app.core.database.pool import Change, Connections
from app.jobs.billing import columns
from app.jobs.transitions import claim as claiming
from app.jobs.transitions import route_statements, shelf_statements, statements, stop_statements
from app.jobs.transitions.base import told
from app.jobs.transitions.commands import (
    CancelReport,
    Completion,
    Failure,
    Held,
    Intent,
    NewMedia,
    Progress,
    Purchase,
    Rerouting,
    Standing,
)

MOST_DEADLOCKS: Final = 3
"""Times that a statement is repeated because another one was in its way, or has opened an attempt; nothing was done."""
_CLAIMS_IN_TURN: Final = 0x666C65656B
"""The advisory lock of claims that have to count what others have in flight."""


async def request(hot: Connections, new: NewMedia) -> asyncpg.Record | None:
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
        made = await hot.fetchrow(statements.REQUEST, *values)
    else:
        key = new.once.key
        made = await hot.fetchrow(statements.REQUEST_ONCE, *values, key.name, key.fingerprint, new.once.lifetime)
    if made is not None:
        hot.announce((Change(new.id, new.owner_id),), posted=made["posted"])
    return made


async def claim(hot: Connections, queue: str, standing: Standing, *, limit: int) -> Sequence[asyncpg.Record]:
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
        return told(hot, await hot.fetch_in_turn(_CLAIMS_IN_TURN, claiming.CLAIM, *values))
    return await _move(hot, claiming.CLAIM, *values)


async def claim_suspects(
    hot: Connections, queue: str, *, worker_id: UUID, limit: int, below: int
) -> list[asyncpg.Record]:
    """Take up to `limit` media that outlived their workers, with fewer takeovers than `below`."""
    return await _move(hot, claiming.CLAIM_SUSPECTS, queue, worker_id, limit, below)


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
        [i.estimate for i in intents],
        [i.currency for i in intents],
    )
    numbers: dict[UUID, int] = {row["id"]: row["number"] for row in rows}
    return [numbers.get(i.attempt_id) for i in intents]


async def record_purchases(hot: Connections, purchases: Sequence[Purchase]) -> list[bool]:
    """Record what was bought. A fact, so it is not fenced: a worker that lost its lease may write it too."""
    values = zip(*((p.attempt_id, p.external_id, p.reference) for p in purchases), strict=True)
    rows = await hot.fetch(statements.PURCHASE, *(list(column) for column in values))
    recorded: set[UUID] = {row["id"] for row in rows}
    return [p.attempt_id in recorded for p in purchases]


async def complete(hot: Connections, completions: Sequence[Completion]) -> list[bool]:
    """Make media COMPLETED together with their files; False where the lease is lost."""
    files = [(f, c.held.media_id) for c in completions for f in c.files]
    rows = await _move(
        hot,
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


async def progress(hot: Connections, steps: Sequence[Progress]) -> list[bool]:
    """Show how far media are; no event of its own."""
    rows = await _move(
        hot,
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


async def reroute(hot: Connections, moves: Sequence[Rerouting]) -> list[bool]:
    """Send media in a worker's hands to the next target; False: the lease is lost, or they may have cost something."""
    return await _reroute(hot, route_statements.REROUTE_HELD, moves)


async def reroute_waiting(hot: Connections, moves: Sequence[Rerouting]) -> list[bool]:
    """Send media that wait to another target; False where they do so no more, or may have cost something."""
    return await _reroute(hot, route_statements.REROUTE_WAITING, moves)


async def cancel_waiting(hot: Connections, media_id: UUID, owner_id: UUID) -> bool:
    """Cancel a media of which nothing is at a provider; False: it is not waiting like that."""
    return bool(await _move(hot, stop_statements.CANCEL_WAITING, media_id, owner_id))


async def cancel_all_waiting(hot: Connections) -> int:
    """Cancel what was asked to be cancelled while a worker had it, and came back to the queue; how many."""
    return len(await _move(hot, stop_statements.CANCEL_ALL_WAITING))


async def ask_cancel(hot: Connections, media_id: UUID, owner_id: UUID) -> bool:
    """Leave the wish to cancel for the worker that has it, or will; False: it is over, or that was asked before."""
    return bool(await _move(hot, stop_statements.ASK_CANCEL, media_id, owner_id))


async def cancel(hot: Connections, reports: Sequence[CancelReport]) -> list[bool]:
    """Make media CANCELED that the provider has stopped, or never got; False where the lease is lost."""
    return await _report(hot, stop_statements.CANCEL_HELD, reports)


async def refuse_cancel(hot: Connections, reports: Sequence[CancelReport]) -> list[bool]:
    """Say that it is too late to cancel; the media goes on."""
    return await _report(hot, stop_statements.CANCEL_REFUSED, reports)


async def expire_waiting(hot: Connections, error: str) -> int:
    """End media in the queue whose deadline has passed, up to 1,000; how many. `error` is a JSON text."""
    return len(await _move(hot, stop_statements.EXPIRE_WAITING, error))


async def expire(hot: Connections, held: Sequence[Held], error: str) -> list[bool]:
    """End media in a worker's hands whose deadline has passed; False where the lease is lost."""
    ids, fences = [h.media_id for h in held], [h.fence for h in held]
    return _moved(await _move(hot, stop_statements.EXPIRE_HELD, error, ids, fences), held)


async def ask_retry(hot: Connections, media_id: UUID, owner_id: UUID) -> str | None:
    """Put a media that failed or was canceled back into its queue; which one, or None if it is in no such state."""
    rows = await _move(hot, statements.RETRY_ASKED, media_id, owner_id)
    return str(rows[0]["queue"]) if rows else None


async def hand_back(hot: Connections, held: Sequence[Held], *, reason: str, delay: timedelta) -> list[bool]:
    """Give media back untried: the open attempt goes on with the next worker, after `delay`."""
    rows = await _move(hot, statements.RETURN_HELD, reason, [h.media_id for h in held], [h.fence for h in held], delay)
    return _moved(rows, held)


async def return_broken(hot: Connections, held: Held, error: str) -> bool:
    """Give a media back at which this worker failed, and count it; False where the lease is lost."""
    return bool(await _move(hot, statements.RETURN_BROKEN, held.media_id, held.fence, error))


async def return_forgotten(hot: Connections, worker_id: UUID, in_hand: Sequence[UUID]) -> list[asyncpg.Record]:
    """Return media that carry the worker's name but are not in its hands; `id` and `queue` of each.

    So it is when the database crashed between committing a claim and answering it.
    """
    return await _move(hot, statements.RETURN_FORGOTTEN, "claim_answer_lost", worker_id, in_hand)


async def return_orphans(hot: Connections) -> list[asyncpg.Record]:
    """Return media whose worker is gone, and count it against them; `id` and `queue` of each."""
    return await _move(hot, statements.RETURN_ORPHANS, "worker_gone")


async def give_up(hot: Connections, *, takeovers: int, error: str) -> list[UUID]:
    """End media that so many workers have died with; their ids. `error` is a JSON text."""
    return [row["id"] for row in await _move(hot, stop_statements.GIVE_UP, takeovers, error)]


async def shelve(hot: Connections, *, limit: int) -> int:
    """Set apart up to `limit` media that wait for paused models, so that no claim reads through them; how many."""
    return len(await hot.fetch(shelf_statements.SHELVE, limit))


async def unshelve(hot: Connections, *, limit: int) -> int:
    """Put back up to `limit` media that are shelved and whose model is not paused; how many."""
    return len(await hot.fetch(shelf_statements.UNSHELVE, limit))


async def unshelve_bought(hot: Connections) -> int:
    """Put back what turned out to be bought after it was shelved; how many."""
    return len(await hot.fetch(shelf_statements.UNSHELVE_BOUGHT))


async def _end_attempts(hot: Connections, statement: str, failures: Sequence[Failure]) -> list[bool]:
    rows = await _move(
        hot,
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


async def _reroute(hot: Connections, statement: str, moves: Sequence[Rerouting]) -> list[bool]:
    values = zip(*(move.row for move in moves), strict=True)
    return _moved(await _move(hot, statement, *(list(column) for column in values)), [m.held for m in moves])


async def _report(hot: Connections, statement: str, reports: Sequence[CancelReport]) -> list[bool]:
    rows = await _move(
        hot,
        statement,
        [r.held.media_id for r in reports],
        [r.held.fence for r in reports],
        [r.attempt_id for r in reports],
        [r.money_spent for r in reports],
        *columns(r.bill for r in reports),
    )
    return _moved(rows, [r.held for r in reports])


async def _move(hot: Connections, statement: str, *values: object) -> list[asyncpg.Record]:
    for _ in range(MOST_DEADLOCKS):
        with contextlib.suppress(asyncpg.TransactionRollbackError, asyncpg.UniqueViolationError):
            return told(hot, await hot.fetch(statement, *values))
    return told(hot, await hot.fetch(statement, *values))


def _moved(rows: Sequence[asyncpg.Record], held: Sequence[Held]) -> list[bool]:
    ids: set[UUID] = {row["id"] for row in rows}
    return [h.media_id in ids for h in held]

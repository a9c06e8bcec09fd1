"""Parts of SQL that every statement which moves a media is put together from, out of the table of states."""

from typing import Any, Final

from app.jobs.public_events import EVENT_TYPES
from app.jobs.states import (
    FINAL,
    HIGHEST_PRIORITY,
    OPEN_ATTEMPT,
    RESUMED,
    SUSPECT,
    TRANSITIONS,
    AttemptStatus,
    CancelAnswer,
    MediaEvent,
    MediaStatus,
    MoneySpent,
)
from app.media_generator.errors import Sent, VoidError
from app.webhooks.outbox import posting

# ruff: noqa: S608 - the statements are put together from constants of `states.py`; values are always arguments

OVER: Final = FINAL - {MediaStatus.COMPLETED}
"""Over without a result."""

# Conditions of partial indexes: a statement uses the index only if it says the same.
SUSPECTED: Final = f"status = '{MediaStatus.IN_QUEUE}' AND rank = {SUSPECT}"
AT_PROVIDER: Final = f"status = '{MediaStatus.PROCESSING}' OR (status = '{MediaStatus.IN_QUEUE}' AND rank >= {RESUMED})"
"""What counts against a provider's limit: in a worker's hands, or bought and waiting for one."""
MAY_EXPIRE: Final = f"status = '{MediaStatus.IN_QUEUE}' AND deadline IS NOT NULL"

ROUTED: Final = f"status = '{MediaStatus.IN_QUEUE}' AND route IS NOT NULL"
"""What waits at a target of a route."""

SPENT_SO_FAR: Final = f"""(SELECT CASE
    WHEN bool_or(a.status IN ('{AttemptStatus.SUBMITTED}', '{AttemptStatus.SUCCEEDED}') OR a.sent = 'YES')
        THEN '{MoneySpent.YES}'
    WHEN bool_or(a.status IN ('{AttemptStatus.INTENDED}', '{AttemptStatus.UNKNOWN}')) THEN '{MoneySpent.MAYBE}'
    ELSE '{MoneySpent.NO}' END FROM attempts a WHERE a.media_id = m.id)"""
"""Whether the media `m` has cost money, as its attempts say."""


def names(statuses: frozenset[Any]) -> str:
    """States as SQL literals, for IN."""
    return ", ".join(f"'{status}'" for status in sorted(statuses))


def may(event: MediaEvent) -> str:
    """The condition under which an event can happen to the media `m`."""
    return f"m.status IN ({names(TRANSITIONS[event].sources)})"


def move(event: MediaEvent, *changes: str) -> str:
    """The SET of an UPDATE that lets it happen."""
    target = TRANSITIONS[event].target
    over = ("completed_at = now()", "cancel_asked = false") if target in FINAL else ()
    letting_go = () if target is MediaStatus.PROCESSING else ("worker_id = NULL",)
    return ", ".join((f"status = '{target}'", "updated_at = now()", *over, *letting_go, *changes))


MOVED: Final = "RETURNING m.id, m.owner_id, m.webhook"
"""What the CTE `moved` of every statement answers at least."""
TOLD: Final = "SELECT id, owner_id, EXISTS (SELECT FROM posted) AS posted"
"""What the statement itself answers: who is to hear of it, and whether deliveries wait."""


def note(event: MediaEvent, worker: str = "NULL::uuid", detail: str = "NULL::jsonb") -> str:
    """The CTEs `noted` and `posted`: for each row of `moved` its row of the history, and its deliveries."""
    values = f"SELECT id, owner_id, '{event}', '{TRANSITIONS[event].target}', {worker}, {detail} FROM moved"
    return f"""noted AS (
    INSERT INTO media_history (media_id, owner_id, event, status, worker_id, detail) {values} RETURNING id, media_id, at
), {posting(EVENT_TYPES[event], "moved")}"""


def cancel_answer(answer: CancelAnswer, money_spent: str) -> str:
    """What came of a wish to cancel, as it is stored; `money_spent` is SQL."""
    return f"jsonb_build_object('answer', '{answer}', 'money_spent', {money_spent})"


OPEN: Final = names(OPEN_ATTEMPT)
HAS_OPEN: Final = f"EXISTS (SELECT FROM attempts a WHERE a.media_id = m.id AND a.status IN ({OPEN}))"
WAITING_RANK: Final = f"CASE WHEN {HAS_OPEN} THEN {RESUMED} ELSE m.priority END"
"""The rank with which the media `m` joins its queue."""
# IN, because the planner takes a sub-select for neither all nor nothing: an array would spoil the claim's plan.
PAUSED: Final = f"m.rank BETWEEN 0 AND {HIGHEST_PRIORITY} AND m.model IN (SELECT p.model FROM paused_models p)"
"""Whether the media `m` would be bought anew and may not: its model is paused, and it is not shelved yet."""
HELD: Final = f"m.fence = asked.fence AND m.status = '{MediaStatus.PROCESSING}'"
"""Whether the media `m` is in the hands of the worker that asks."""
BILL: Final = "cost, currency, cost_basis, units"
"""The columns of `asked` that tell what a try has cost, in the order of `bills.columns`."""
BILLED: Final = ", ".join(f"asked.{column}" for column in BILL.split(", "))


def billed(source: str) -> str:
    """The SET that writes a bill down; an expectation in another currency would be taken for one in this."""
    return f"""cost = {source}.cost, cost_basis = {source}.cost_basis, units = {source}.units::jsonb,
        currency = coalesce({source}.currency, a.currency),
        estimate = CASE WHEN coalesce({source}.currency, a.currency) = a.currency THEN a.estimate END"""


SAME_PROVIDER: Final = "split_part(a.model, '/', 1) = m.provider"
"""Whether the attempt `a` was made where the media `m` waits now: a route may have led it on since."""
UNSETTLED: Final = f"""(a.status IN ({names(OPEN_ATTEMPT | {AttemptStatus.UNKNOWN})})
    OR (a.status = '{AttemptStatus.FAILED}' AND a.sent = '{Sent.NO}' AND a.reference IS NULL))"""
"""Whether a purchase is news to the attempt `a`: that it was not sent was a verdict without knowledge of one."""


CANCEL_IN_VAIN: Final = (
    f"cancel = CASE WHEN m.cancel_asked THEN {cancel_answer(CancelAnswer.TOO_LATE, SPENT_SO_FAR)} ELSE m.cancel END"
)


def may_be_closed(sent: str, error: str) -> str:
    """Whether a verdict on an attempt `a` holds; two expressions, `error` is a JSON text.

    That it was not sent, or that nobody knows, is said without knowledge of a purchase: where one has been written down
    meanwhile the verdict is refused, unless it is about this very purchase.
    """
    return f"({sent} = 'YES' OR a.reference IS NULL OR {error}::jsonb->>'code' = '{VoidError.code}')"


MOST_STREAMS: Final = 1000
"""Heads that one look along a queue sees."""
_HEAD: Final = f"""SELECT m.owner_id, m.provider, m.rank, m.next_run
    FROM media m WHERE m.status = '{MediaStatus.IN_QUEUE}' AND m.queue = $1 AND NOT ({PAUSED})"""
_BY_STREAM: Final = "ORDER BY m.owner_id, m.provider, m.rank, m.next_run, m.id LIMIT 1"
SAME_STREAM: Final = "m.owner_id = c.owner_id AND m.provider = c.provider AND m.rank = c.rank"
"""Whether the media `m` is of the stream `c`."""


def streams(first: str) -> str:
    """The CTE `stream`, for WITH RECURSIVE: the head of each stream of the queue $1, from where `first` says."""
    return f"""stream AS (
    ({_HEAD.replace("m.next_run", "m.next_run, 1 AS number", 1)} {first} {_BY_STREAM})
    UNION ALL
    SELECT head.*, s.number + 1 FROM stream s CROSS JOIN LATERAL (
        {_HEAD} AND (m.owner_id, m.provider, m.rank) > (s.owner_id, s.provider, s.rank) {_BY_STREAM}
    ) head WHERE s.number < {MOST_STREAMS}
)"""


LINE: Final = f"""
WITH RECURSIVE {streams("")}
SELECT c.owner_id, c.provider, c.rank, (SELECT count(*) FROM (
    SELECT FROM media m WHERE m.status = '{MediaStatus.IN_QUEUE}' AND m.queue = $1 AND {SAME_STREAM}
        AND m.next_run <= now() LIMIT $2
) due) AS waiting
FROM stream c WHERE c.next_run <= now() AND c.rank BETWEEN 0 AND {RESUMED}"""
"""Who waits in the queue $1: how many are due in each stream, up to $2."""

"""SQL fragments that the statements of the engine are put together from, derived from the table of states."""

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

ENDED_WITHOUT_RESULT: Final = FINAL - {MediaStatus.COMPLETED}
"""Final states without a result."""

# Conditions of partial indexes: a statement uses the index only if its condition is the same.
IS_SUSPECT: Final = f"status = '{MediaStatus.IN_QUEUE}' AND rank = {SUSPECT}"
AT_PROVIDER: Final = f"status = '{MediaStatus.PROCESSING}' OR (status = '{MediaStatus.IN_QUEUE}' AND rank >= {RESUMED})"
"""What counts against a provider's limit: held by a worker, or purchased and waiting for a worker."""
MAY_EXPIRE: Final = f"status = '{MediaStatus.IN_QUEUE}' AND deadline IS NOT NULL"

ROUTED: Final = f"status = '{MediaStatus.IN_QUEUE}' AND route IS NOT NULL"
"""Media that wait for a target of a route."""

MONEY_SPENT: Final = f"""(SELECT CASE
    WHEN bool_or(a.status IN ('{AttemptStatus.SUBMITTED}', '{AttemptStatus.SUCCEEDED}') OR a.sent = 'YES')
        THEN '{MoneySpent.YES}'
    WHEN bool_or(a.status IN ('{AttemptStatus.INTENDED}', '{AttemptStatus.UNKNOWN}')) THEN '{MoneySpent.MAYBE}'
    ELSE '{MoneySpent.NO}' END FROM attempts a WHERE a.media_id = m.id)"""
"""Whether the media `m` has cost money, as its attempts say."""


def literals(statuses: frozenset[Any]) -> str:
    """States as SQL literals, for IN."""
    return ", ".join(f"'{status}'" for status in sorted(statuses))


def may_happen(event: MediaEvent) -> str:
    """The condition under which an event can happen to the media `m`."""
    return f"m.status IN ({literals(TRANSITIONS[event].sources)})"


def set_status(event: MediaEvent, *changes: str) -> str:
    """The SET of an UPDATE that makes it happen."""
    target = TRANSITIONS[event].target
    ending = ("completed_at = now()", "cancel_asked = false") if target in FINAL else ()
    release = () if target is MediaStatus.PROCESSING else ("worker_id = NULL",)
    delay = () if any(change.startswith("waits_for") for change in changes) else ("waits_for = NULL",)
    return ", ".join((f"status = '{target}'", "updated_at = now()", *delay, *ending, *release, *changes))


RETURNING_MOVED: Final = "RETURNING m.id, m.owner_id, m.webhook"
"""What the CTE `moved` of every statement returns at least."""
SELECT_CHANGED: Final = "SELECT id, owner_id, EXISTS (SELECT FROM posted) AS posted"
"""What the statement itself returns, the columns of `Changed`: the media, and whether deliveries were written."""


def record_event(event: MediaEvent, worker: str = "NULL::uuid", detail: str = "NULL::jsonb") -> str:
    """The CTEs `noted` and `posted`: for each row of `moved` its history row and its webhook deliveries."""
    values = f"SELECT id, owner_id, '{event}', '{TRANSITIONS[event].target}', {worker}, {detail} FROM moved"
    return f"""noted AS (
    INSERT INTO media_history (media_id, owner_id, event, status, worker_id, detail) {values} RETURNING id, media_id, at
), {posting(EVENT_TYPES[event], "moved")}"""


def cancel_answer(answer: CancelAnswer, money_spent: str) -> str:
    """The result of a cancel request as it is stored; `money_spent` is SQL."""
    return f"jsonb_build_object('answer', '{answer}', 'money_spent', {money_spent})"


OPEN_STATUSES: Final = literals(OPEN_ATTEMPT)
HAS_OPEN_ATTEMPT: Final = f"EXISTS (SELECT FROM attempts a WHERE a.media_id = m.id AND a.status IN ({OPEN_STATUSES}))"
WAITING_RANK: Final = f"CASE WHEN {HAS_OPEN_ATTEMPT} THEN {RESUMED} ELSE m.priority END"
"""The rank with which the media `m` joins its queue."""
# IN, because the planner takes a sub-select for neither all nor nothing: an array would spoil the claim's plan.
MODEL_IS_PAUSED: Final = f"m.rank BETWEEN 0 AND {HIGHEST_PRIORITY} AND m.model IN (SELECT p.model FROM paused_models p)"
"""Whether a first submission for the media `m` has to wait: its model is paused, and it is not shelved yet."""
HOLDS_LEASE: Final = f"m.fence = item.fence AND m.status = '{MediaStatus.PROCESSING}'"
"""Whether the lease in `item` on the media `m` is still valid."""
COST_COLUMNS: Final = "cost, currency, cost_basis, units"
"""The columns of `item` that say what an attempt cost, in the order of `billing.cost_columns`."""
FILE_COLUMNS: Final = """id, media_id, index, key, media_type, bytes, width, height, sha256, seconds, poster_key,
        source_sha256, provenance, warnings"""
"""The columns of `files` in the order of `completion.file_arrays`, after `id` and `media_id`."""
FILE_VALUES: Final = """f.id, f.media_id, f.index, f.key, f.media_type, f.bytes, f.width, f.height, f.sha256, f.seconds,
        f.poster_key, f.source_sha256, f.provenance::jsonb, f.warnings::jsonb"""
"""The same of `f`, whose columns are those of `file_arrays`: JSON comes as text."""
ITEM_COST: Final = ", ".join(f"item.{column}" for column in COST_COLUMNS.split(", "))


def set_cost(source: str) -> str:
    """The SET that records a cost; an estimate in another currency is dropped, as it would be read in this one."""
    return f"""cost = {source}.cost, cost_basis = {source}.cost_basis, units = {source}.units::jsonb,
        currency = coalesce({source}.currency, a.currency),
        estimate = CASE WHEN coalesce({source}.currency, a.currency) = a.currency THEN a.estimate END"""


PROVIDER_OF: Final = "split_part({0}.model, '/', 1)"
"""The account at which an attempt, to be filled in, was made; as in the index `uq_attempts_purchase`."""
SAME_PROVIDER: Final = f"{PROVIDER_OF.format('a')} = m.provider"
"""Whether the attempt `a` was made at the provider where the media `m` waits now: a route may have moved it."""
UNSETTLED: Final = f"""(a.status IN ({literals(OPEN_ATTEMPT | {AttemptStatus.UNKNOWN})})
    OR (a.status = '{AttemptStatus.FAILED}' AND a.sent = '{Sent.NO}' AND a.reference IS NULL))"""
"""Whether a purchase may still be recorded for the attempt `a`: it is open or unknown, or was judged "not sent"."""


CANCEL_TOO_LATE: Final = (
    f"cancel = CASE WHEN m.cancel_asked THEN {cancel_answer(CancelAnswer.TOO_LATE, MONEY_SPENT)} ELSE m.cancel END"
)


def verdict_holds(sent: str, error: str) -> str:
    """Whether a verdict on the attempt `a` may be recorded; both are SQL expressions, `error` is JSON text.

    "Not sent" and "unknown" are verdicts without knowledge of a purchase: where one has been recorded meanwhile the
    verdict is refused, unless it is about this very purchase.
    """
    return f"({sent} = 'YES' OR a.reference IS NULL OR {error}::jsonb->>'code' = '{VoidError.code}')"


MOST_STREAMS: Final = 1000
"""Stream heads that one claim reads."""
_STREAM_HEAD: Final = f"""SELECT m.owner_id, m.provider, m.rank, m.next_run
    FROM media m WHERE m.status = '{MediaStatus.IN_QUEUE}' AND m.queue = $1 AND NOT ({MODEL_IS_PAUSED})"""
_FIRST_BY_STREAM: Final = "ORDER BY m.owner_id, m.provider, m.rank, m.next_run, m.id LIMIT 1"
SAME_STREAM: Final = "m.owner_id = c.owner_id AND m.provider = c.provider AND m.rank = c.rank"
"""Whether the media `m` is of the stream `c`."""


def owner_streams(first: str) -> str:
    """The CTE `stream`, for WITH RECURSIVE: the head of each stream of the queue $1; `first` is where to begin."""
    return f"""stream AS (
    ({_STREAM_HEAD.replace("m.next_run", "m.next_run, 1 AS number", 1)} {first} {_FIRST_BY_STREAM})
    UNION ALL
    SELECT head.*, s.number + 1 FROM stream s CROSS JOIN LATERAL (
        {_STREAM_HEAD} AND (m.owner_id, m.provider, m.rank) > (s.owner_id, s.provider, s.rank) {_FIRST_BY_STREAM}
    ) head WHERE s.number < {MOST_STREAMS}
)"""


STREAM_LENGTHS: Final = f"""
WITH RECURSIVE {owner_streams("")}
SELECT c.owner_id, c.provider, c.rank, (SELECT count(*) FROM (
    SELECT FROM media m WHERE m.status = '{MediaStatus.IN_QUEUE}' AND m.queue = $1 AND {SAME_STREAM}
        AND m.next_run <= now() LIMIT $2
) due) AS waiting
FROM stream c WHERE c.next_run <= now() AND c.rank BETWEEN 0 AND {RESUMED}"""
"""How many media are due in each stream of the queue $1, up to $2."""

"""Parts of SQL that every statement which moves a media is put together from, out of the table of states."""

from typing import Any, Final

from app.media.states import (
    FINAL,
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

# ruff: noqa: S608 - the statements are put together from constants of `states.py`; values are always arguments

OVER: Final = FINAL - {MediaStatus.COMPLETED}
"""Over without a result."""

# Conditions of partial indexes: a statement uses the index only if it says the same.
SUSPECTED: Final = f"status = '{MediaStatus.IN_QUEUE}' AND rank = {SUSPECT}"
AT_PROVIDER: Final = f"status = '{MediaStatus.PROCESSING}' OR (status = '{MediaStatus.IN_QUEUE}' AND rank >= {RESUMED})"
"""What counts against a provider's limit: in a worker's hands, or bought and waiting for one."""
MAY_EXPIRE: Final = f"status = '{MediaStatus.IN_QUEUE}' AND deadline IS NOT NULL"

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


def note(event: MediaEvent, moved: str, worker: str = "NULL::uuid", detail: str = "NULL::jsonb") -> str:
    """The row of the history, for each row of the CTE `moved`."""
    values = f"SELECT id, '{event}', '{TRANSITIONS[event].target}', {worker}, {detail} FROM {moved}"
    return f"INSERT INTO media_history (media_id, event, status, worker_id, detail) {values}"


def cancel_answer(answer: CancelAnswer, money_spent: str) -> str:
    """What came of a wish to cancel, as it is stored; `money_spent` is SQL."""
    return f"jsonb_build_object('answer', '{answer}', 'money_spent', {money_spent})"


OPEN: Final = names(OPEN_ATTEMPT)
HAS_OPEN: Final = f"EXISTS (SELECT FROM attempts a WHERE a.media_id = m.id AND a.status IN ({OPEN}))"
HELD: Final = f"m.fence = asked.fence AND m.status = '{MediaStatus.PROCESSING}'"
"""Whether the media `m` is in the hands of the worker that asks."""
CANCEL_IN_VAIN: Final = (
    f"cancel = CASE WHEN m.cancel_asked THEN {cancel_answer(CancelAnswer.TOO_LATE, SPENT_SO_FAR)} ELSE m.cancel END"
)

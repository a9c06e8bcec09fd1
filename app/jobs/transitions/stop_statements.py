"""The SQL that stops media before they are done: given up, past their deadline, cancelled. Run by `transitions.py`."""

from typing import Final

from app.jobs.job_errors import JOB_BROKEN
from app.jobs.sql import (
    BILL,
    BILLED,
    CANCEL_IN_VAIN,
    HAS_OPEN,
    HELD,
    MAY_EXPIRE,
    MOVED,
    OPEN,
    SPENT_SO_FAR,
    TOLD,
    billed,
    cancel_answer,
    may,
    move,
    note,
)
from app.jobs.states import SUSPECT, AttemptStatus, CancelAnswer, MediaEvent, MediaStatus

# ruff: noqa: S608 - the statements are put together from constants of `states.py`; values are always arguments

_WHY: Final = f"error = CASE WHEN m.error->>'code' = '{JOB_BROKEN.code}' THEN m.error ELSE $2::jsonb END"
GIVE_UP: Final = f"""
WITH moved AS (
    UPDATE media m SET {move(MediaEvent.GIVEN_UP, _WHY, CANCEL_IN_VAIN)}
    WHERE {may(MediaEvent.GIVEN_UP)} AND m.rank = {SUSPECT} AND m.takeovers >= $1
    {MOVED}, m.error
), {note(MediaEvent.GIVEN_UP, detail="moved.error")}
{TOLD} FROM moved"""

_EXPIRED: Final = f"""{MOVED}
), attempted AS (
    UPDATE attempts a SET look_at = now(), stop = true FROM moved WHERE a.media_id = moved.id AND a.status IN ({OPEN})
), """

EXPIRE_WAITING: Final = f"""
WITH over AS (
    SELECT m.id FROM media m WHERE {MAY_EXPIRE} AND m.deadline <= now()
    ORDER BY m.deadline LIMIT 1000 FOR UPDATE SKIP LOCKED
), moved AS (
    UPDATE media m SET {move(MediaEvent.EXPIRED, "error = $1::jsonb", CANCEL_IN_VAIN)} FROM over WHERE m.id = over.id
    {_EXPIRED}{note(MediaEvent.EXPIRED)}
{TOLD} FROM moved"""

EXPIRE_HELD: Final = f"""
WITH moved AS (
    UPDATE media m SET {move(MediaEvent.EXPIRED, "error = $1::jsonb", CANCEL_IN_VAIN)}
    FROM unnest($2::uuid[], $3::bigint[]) AS asked (media_id, fence) WHERE m.id = asked.media_id AND {HELD}
    {_EXPIRED}{note(MediaEvent.EXPIRED)}
{TOLD} FROM moved"""

# Nothing of it is at a provider, so nobody has to be asked.
_CANCEL_WAITING: Final = f"""
    UPDATE media m SET {move(MediaEvent.CANCELED, "error = NULL")},
        cancel = {cancel_answer(CancelAnswer.CANCELED, SPENT_SO_FAR)}
    WHERE m.status = '{MediaStatus.IN_QUEUE}' AND NOT {HAS_OPEN}"""
_CANCELED: Final = f"""{MOVED}
), {note(MediaEvent.CANCELED, detail=cancel_answer(CancelAnswer.CANCELED, "NULL::text"))}
{TOLD} FROM moved"""

CANCEL_WAITING: Final = f"WITH moved AS ({_CANCEL_WAITING} AND m.id = $1 AND m.owner_id = $2 {_CANCELED}"
CANCEL_ALL_WAITING: Final = f"WITH moved AS ({_CANCEL_WAITING} AND m.cancel_asked {_CANCELED}"

ASK_CANCEL: Final = f"""
WITH asked AS (
    UPDATE media m SET cancel_asked = true, updated_at = now(),
        cancel = {cancel_answer(CancelAnswer.REQUESTED, SPENT_SO_FAR)}
    WHERE m.id = $1 AND m.owner_id = $2 AND {may(MediaEvent.CANCELED)} AND m.cancel IS NULL
    RETURNING m.id, m.owner_id, m.status
)
INSERT INTO media_history (media_id, owner_id, event, status)
SELECT id, owner_id, '{MediaEvent.CANCEL_ASKED}', status FROM asked
RETURNING media_id AS id, owner_id, false AS posted"""

_REPORTED: Final = f"""unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::numeric[], $6::text[],
        $7::text[], $8::text[]) AS asked (media_id, fence, attempt_id, money_spent, {BILL})"""

_STOPPED: Final = cancel_answer(CancelAnswer.CANCELED, f"coalesce(asked.money_spent, {SPENT_SO_FAR})")
CANCEL_HELD: Final = f"""
WITH moved AS (
    UPDATE media m SET {move(MediaEvent.CANCELED, "error = NULL")}, cancel = {_STOPPED}
    FROM {_REPORTED} WHERE m.id = asked.media_id AND {HELD} AND m.cancel_asked
    {MOVED}, asked.attempt_id, {BILLED}, m.cancel
), attempted AS (
    UPDATE attempts a SET status = '{AttemptStatus.CANCELED}', finished_at = now(), {billed("moved")}
    FROM moved WHERE a.id = moved.attempt_id
), {note(MediaEvent.CANCELED, detail="moved.cancel")}
{TOLD} FROM moved"""

CANCEL_REFUSED: Final = f"""
UPDATE media m SET cancel_asked = false, updated_at = now(),
    cancel = {cancel_answer(CancelAnswer.TOO_LATE, "asked.money_spent")}
FROM {_REPORTED} WHERE m.id = asked.media_id AND {HELD} AND m.cancel_asked
RETURNING m.id, m.owner_id, false AS posted"""

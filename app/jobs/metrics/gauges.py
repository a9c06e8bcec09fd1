"""Numbers for operators about what can go wrong, read from the tables on request."""

from dataclasses import dataclass
from typing import Final

from app.core.database.pool import DatabasePool
from app.core.database.rows import Row
from app.jobs.metrics import counters
from app.jobs.scheduling.availability import unavailable_now
from app.jobs.states import PAUSED_BY_OPERATOR, AttemptStatus, MediaStatus

# ruff: noqa: S608 - the statements are put together from constants of `states.py`

# Each half has its own partial index; one condition over both statuses would read every media there ever was.
_BY_MODEL: Final = f"""
SELECT model, sum(waiting)::bigint AS waiting, greatest(extract(epoch FROM max(oldest)), 0)::float8 AS oldest_seconds,
    sum(running)::bigint AS running
FROM (
    SELECT model, count(*) AS waiting, max(now() - next_run) FILTER (WHERE rank >= 0 AND provider NOT IN (
        SELECT provider FROM provider_gates WHERE code = '{PAUSED_BY_OPERATOR}')) AS oldest, 0 AS running
    FROM media WHERE status = '{MediaStatus.IN_QUEUE}' GROUP BY model
    UNION ALL
    SELECT model, 0, NULL, count(*) FROM media WHERE status = '{MediaStatus.PROCESSING}' GROUP BY model
) parts GROUP BY model ORDER BY model"""

_TOTALS: Final = f"""
SELECT (SELECT count(*) FROM attempts a JOIN media m ON m.id = a.media_id
        WHERE a.status = '{AttemptStatus.UNKNOWN}' AND m.status = '{MediaStatus.ERROR}') AS attempts_unknown,
    (SELECT count(*) FROM attempts WHERE look_at IS NOT NULL) AS attempts_late,
    (SELECT count(*) FROM workers) AS workers"""


class ModelGauges(Row, frozen=True):
    """One model's jobs."""

    model: str
    waiting: int
    oldest_seconds: float
    """For how long the oldest that is due has waited."""
    running: int


class _Totals(Row, frozen=True):
    attempts_unknown: int
    attempts_late: int
    workers: int


@dataclass(frozen=True, slots=True)
class Gauges:
    """All numbers of one moment."""

    models: dict[str, ModelGauges]
    """Models that have jobs waiting or running."""
    attempts_unknown: int
    """Attempts that may have been paid, held until their owners decide."""
    attempts_late: int
    """Purchases that are followed up although their media has ended."""
    workers: int
    unavailable: dict[str, str]
    """Providers to which nothing is submitted now, with the error code; `paused`: by the operator."""
    paused: dict[str, str]
    """Models to which nothing is submitted now, with the code: `paused` by the operator, or `model_gone`."""
    counters: dict[str, int]
    """See `counters.py`, and the metrics of processes."""


class _Workers(Row, frozen=True):
    workers: int


async def workers(db: DatabasePool) -> int:
    """How many workers are reporting."""
    (row,) = await db.fetch_as(_Workers, "SELECT count(*) AS workers FROM workers")
    return row.workers


async def read(db: DatabasePool) -> Gauges:
    """Read all numbers."""
    (totals,) = await db.fetch_as(_Totals, _TOTALS)
    models = await db.fetch_as(ModelGauges, _BY_MODEL)
    unavailable = await unavailable_now(db)
    return Gauges(
        models={row.model: row for row in models},
        attempts_unknown=totals.attempts_unknown,
        attempts_late=totals.attempts_late,
        workers=totals.workers,
        unavailable={provider: reason["code"] for provider, reason in unavailable.providers.items()},
        paused={model: reason["code"] for model, reason in unavailable.models.items()},
        counters=await counters.read(db),
    )

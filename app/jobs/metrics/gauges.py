"""What can go wrong, in numbers, read from the tables when somebody asks."""

from dataclasses import dataclass
from typing import Final

from app.core.database.pool import DatabasePool
from app.jobs.metrics import counters
from app.jobs.scheduling import model_pauses, provider_circuits
from app.jobs.states import PAUSED_BY_OPERATOR, AttemptStatus, MediaStatus

# ruff: noqa: S608 - the statements are put together from constants of `states.py`

# Each half has its own partial index; one condition over both statuses would read every media there ever was.
_BY_MODEL: Final = f"""
SELECT model, sum(waiting)::bigint AS waiting, greatest(extract(epoch FROM max(oldest)), 0)::float8 AS oldest,
    sum(running)::bigint AS running
FROM (
    SELECT model, count(*) AS waiting, max(now() - next_run) FILTER (WHERE rank >= 0 AND provider NOT IN (
        SELECT provider FROM provider_gates WHERE code = '{PAUSED_BY_OPERATOR}')) AS oldest, 0 AS running
    FROM media WHERE status = '{MediaStatus.IN_QUEUE}' GROUP BY model
    UNION ALL
    SELECT model, 0, NULL, count(*) FROM media WHERE status = '{MediaStatus.PROCESSING}' GROUP BY model
) parts GROUP BY model ORDER BY model"""

_REST: Final = f"""
SELECT (SELECT count(*) FROM attempts a JOIN media m ON m.id = a.media_id
        WHERE a.status = '{AttemptStatus.UNKNOWN}' AND m.status = '{MediaStatus.ERROR}') AS unknown,
    (SELECT count(*) FROM attempts WHERE look_at IS NOT NULL) AS late,
    (SELECT count(*) FROM workers) AS workers"""


@dataclass(frozen=True, slots=True)
class ModelGauges:
    """One model's jobs."""

    waiting: int
    oldest_seconds: float
    """For how long the oldest that is due has waited."""
    running: int


@dataclass(frozen=True, slots=True)
class Gauges:
    """All numbers of one moment."""

    models: dict[str, ModelGauges]
    """Models that have jobs waiting or running."""
    attempts_unknown: int
    """Tries that may have been paid, held until their owners decide."""
    attempts_late: int
    """Purchases that are looked after although their media is over."""
    workers: int
    closed: dict[str, str]
    """Providers from which nothing is bought now, with the error code; `paused`: by the operator."""
    paused: dict[str, str]
    """Models from which nothing is bought now, with the code: `paused` by the operator, or `model_gone`."""
    tallies: dict[str, int]
    """See `tallies.py` and `measures.py`."""


async def read(db: DatabasePool) -> Gauges:
    """Read all numbers."""
    rest = await db.fetchrow(_REST)
    return Gauges(
        models={
            row["model"]: ModelGauges(row["waiting"], row["oldest"], row["running"])
            for row in await db.fetch(_BY_MODEL)
        },
        attempts_unknown=rest["unknown"] if rest else 0,
        attempts_late=rest["late"] if rest else 0,
        workers=rest["workers"] if rest else 0,
        closed={row["provider"]: row["code"] for row in await provider_circuits.closed(db)},
        paused={row["model"]: row["code"] for row in await model_pauses.paused(db)},
        tallies=await counters.read(db),
    )

"""Compares this machine's time of day with the database's."""

from datetime import datetime

import structlog

from app.core import clock
from app.core.database.pool import DatabasePool
from app.core.database.rows import Row

log = structlog.get_logger(__name__)


class _Time(Row, frozen=True):
    now: datetime


async def compare_clocks(db: DatabasePool) -> float:
    """Let `clock.now` follow the database if this machine's clock is off, and say so; seconds by which it is ahead."""
    before, started = clock.ahead(), clock.seconds()
    row = await db.fetchrow_as(_Time, "SELECT clock_timestamp() AS now")
    if row is None:
        return 0.0
    difference = clock.compare(row.now, clock.seconds() - started)
    if abs(clock.ahead() - before) > clock.OFF_SECONDS:
        if clock.ahead():
            log.error("clock_off", ahead_seconds=round(clock.ahead(), 1))
        else:
            log.info("clock_right")
    return difference

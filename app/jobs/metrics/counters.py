"""Counters in the database: how often something worth watching has happened, over all processes."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from app.core.database.pool import DatabasePool
from app.core.database.rows import Row

MOST: Final = 20_000
"""Counters that are read."""


class _CounterRow(Row, frozen=True):
    name: str
    count: int


_READ: Final = f"SELECT name, count FROM tallies LIMIT {MOST:d}"  # noqa: S608 - a number of ours
_ADD_ALL: Final = """INSERT INTO tallies AS t (name, count) SELECT * FROM unnest($1::text[], $2::bigint[])
ON CONFLICT (name) DO UPDATE SET count = t.count + excluded.count"""

_ADD: Final = """INSERT INTO tallies AS t (name, count) VALUES ($1, $2)
ON CONFLICT (name) DO UPDATE SET count = t.count + excluded.count"""


class PersistedCounter(StrEnum):
    """Events of the engine that are counted."""

    LEASES_EXPIRED = "leases_expired"  # workers that stopped sending heartbeats
    TAKEN_OVER = "taken_over"  # media whose worker had died
    CLAIM_ANSWERS_LOST = "claim_answers_lost"  # media that carried a worker's id and were not among those it held
    JOBS_BROKEN = "jobs_broken"  # unexpected errors of a worker at a media item
    GIVEN_UP = "given_up"  # media that too many workers died with
    EXPIRED = "expired"  # media whose deadline passed
    CANCELED_LATER = "canceled_later"  # media canceled after their worker had returned them
    LATE_STORED = "late_stored"  # results that came after their media had ended


async def add(db: DatabasePool, counter: PersistedCounter, number: int) -> None:
    """Count; nothing is written for 0."""
    if number:
        await db.execute(_ADD, counter, number)


async def add_all(db: DatabasePool, counts: Mapping[str, int]) -> None:
    """Add to many counters at once."""
    # Every process locks the rows in the same order, so that no two deadlock.
    names = sorted(name for name, number in counts.items() if number)
    if names:
        await db.execute(_ADD_ALL, names, [counts[name] for name in names])


async def read(db: DatabasePool) -> dict[str, int]:
    """Every counter by its name, up to MOST."""
    return {row.name: row.count for row in await db.fetch_as(_CounterRow, _READ)}

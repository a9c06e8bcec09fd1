"""Tallies: how often something worth watching has happened, counted in the database over all processes."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from app.core.database.pool import DatabasePool

MOST: Final = 20_000
"""Tallies that are read."""
_READ: Final = f"SELECT name, count FROM tallies LIMIT {MOST:d}"  # noqa: S608 - a number of ours
_ADD_ALL: Final = """INSERT INTO tallies AS t (name, count) SELECT * FROM unnest($1::text[], $2::bigint[])
ON CONFLICT (name) DO UPDATE SET count = t.count + excluded.count"""

_ADD: Final = """INSERT INTO tallies AS t (name, count) VALUES ($1, $2)
ON CONFLICT (name) DO UPDATE SET count = t.count + excluded.count"""


class PersistedCounter(StrEnum):
    """What is counted."""

    LEASES_EXPIRED = "leases_expired"  # workers that fell silent
    TAKEN_OVER = "taken_over"  # media whose worker was gone
    CLAIM_ANSWERS_LOST = "claim_answers_lost"  # media that carried a worker's name and were not in its hands
    JOBS_BROKEN = "jobs_broken"  # media at which a worker failed in a way that nobody foresaw
    GIVEN_UP = "given_up"  # media that too many workers died with
    EXPIRED = "expired"  # media whose deadline passed
    CANCELED_LATER = "canceled_later"  # media cancelled after their worker gave them back
    LATE_STORED = "late_stored"  # results that came after their media was over


async def add(db: DatabasePool, counted: PersistedCounter, number: int) -> None:
    """Count; nothing is written for 0."""
    if number:
        await db.execute(_ADD, counted, number)


async def add_all(db: DatabasePool, counts: Mapping[str, int]) -> None:
    """Add to many tallies at once."""
    # In one order for everybody, so that no two processes wait for each other in a circle.
    names = sorted(name for name, number in counts.items() if number)
    if names:
        await db.execute(_ADD_ALL, names, [counts[name] for name in names])


async def read(db: DatabasePool) -> dict[str, int]:
    """Every tally by its name, up to MOST."""
    return {row["name"]: row["count"] for row in await db.fetch(_READ)}

"""Tallies: how often something worth watching has happened, counted in the database over all processes."""

from enum import StrEnum
from typing import Final

from app.core.connections import Connections

_ADD: Final = """INSERT INTO tallies AS t (name, count) VALUES ($1, $2)
ON CONFLICT (name) DO UPDATE SET count = t.count + excluded.count"""


class Counted(StrEnum):
    """What is counted."""

    LEASES_EXPIRED = "leases_expired"  # workers that fell silent
    TAKEN_OVER = "taken_over"  # media whose worker was gone
    CLAIM_ANSWERS_LOST = "claim_answers_lost"  # media that carried a worker's name and were not in its hands
    JOBS_BROKEN = "jobs_broken"  # media at which a worker failed in a way that nobody foresaw
    GIVEN_UP = "given_up"  # media that too many workers died with
    EXPIRED = "expired"  # media whose deadline passed
    CANCELED_LATER = "canceled_later"  # media cancelled after their worker gave them back
    LATE_STORED = "late_stored"  # results that came after their media was over


async def add(hot: Connections, counted: Counted, number: int) -> None:
    """Count; nothing is written for 0."""
    if number:
        await hot.execute(_ADD, counted, number)


async def all_counts(hot: Connections) -> dict[Counted, int]:
    """Every count, zeros included."""
    rows = {row["name"]: row["count"] for row in await hot.fetch("SELECT name, count FROM tallies")}
    return {counted: rows.get(counted, 0) for counted in Counted}

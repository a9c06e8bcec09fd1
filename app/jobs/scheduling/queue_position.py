"""How far a media is from its turn: who waits before it, and whether anything is bought for it at all.

The line as a whole is read from the database at most once a second for each process, whoever asks; only a
media's place among its owner's own comes with its row.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import asyncpg

from app.core.database.pool import DatabasePool
from app.jobs import queries
from app.jobs.scheduling import model_pauses, provider_circuits
from app.jobs.states import SHELVED, SUSPECT, MediaStatus

FRESH_SECONDS: Final = 1.0
MOST_AHEAD: Final = queries.MOST_AHEAD


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a media in the queue waits for."""

    position: int | None
    """How many come before it, MOST_AHEAD: so many or more; None: it is not due yet, or set apart."""
    reason: Mapping[str, str] | None
    """`code` and `message` of what keeps its model paused or its provider closed; None: nothing."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """A queue at one moment."""

    at: float
    streams: tuple[tuple[UUID, str, int, int], ...]
    """Owner, provider, rank, how many are due."""
    closed: Mapping[str, Mapping[str, str]]
    """Why, by provider."""
    paused: Mapping[str, Mapping[str, str]]
    """Why, by model."""


class QueuePositions:
    """The queues of this service, as one process remembers them for a second."""

    def __init__(self, db: DatabasePool) -> None:
        self._db = db
        self._seen: dict[str, _Seen] = {}
        self._looking = asyncio.Lock()

    async def waiting(self, row: asyncpg.Record | Mapping[str, Any]) -> Waiting | None:
        """What a media waits for; None: it does not wait.

        Args:
            row: With the columns of `queries.job` or `queries.media_by_id`.
        """
        if row["status"] != MediaStatus.IN_QUEUE:
            return None
        seen = await self._look(row["queue"])
        own: int | None = row["ahead"]
        position = None
        paused = seen.paused.get(row["model"])
        if own is not None and paused is None and row["rank"] not in {SUSPECT, SHELVED}:
            position = min(own + _others_before(seen, row, own), MOST_AHEAD)
        return Waiting(position, paused or seen.closed.get(row["provider"]))

    async def _look(self, queue: str) -> _Seen:
        async with self._looking:
            seen = self._seen.get(queue)
            if seen is None or time.monotonic() - seen.at > FRESH_SECONDS:
                streams = await queries.line(self._db, queue)
                closed = await provider_circuits.closed(self._db)
                paused = await model_pauses.paused(self._db)
                seen = self._seen[queue] = _Seen(
                    time.monotonic(),
                    tuple((row["owner_id"], row["provider"], row["rank"], row["waiting"]) for row in streams),
                    {gate["provider"]: {"code": gate["code"], "message": gate["message"]} for gate in closed},
                    {row["model"]: {"code": row["code"], "message": row["message"]} for row in paused},
                )
        return seen


def _others_before(seen: _Seen, row: asyncpg.Record | Mapping[str, Any], own: int) -> int:
    """Higher ranks come first; inside a rank each other owner gets one turn more than this one's have before it."""
    higher, beside = 0, Counter[UUID]()
    for owner_id, provider, rank, due in seen.streams:
        if provider in seen.closed or (owner_id, rank) == (row["owner_id"], row["rank"]):
            continue  # of its owner's own it is known exactly
        if rank > row["rank"]:
            higher += due
        elif rank == row["rank"]:
            beside[owner_id] += due
    return higher + sum(min(due, own + 1) for due in beside.values())

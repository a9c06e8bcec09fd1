"""How far a media item is from its turn: how many come before it, and whether its model accepts anything at all.

A queue as a whole is read from the database at most once a second for each process, however many clients ask; only a
media's place among its owner's own comes with its row.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID

from app.core.database.pool import DatabasePool
from app.jobs import queries
from app.jobs.queries import MOST_AHEAD, StreamLength
from app.jobs.scheduling.availability import Reason, unavailable_now
from app.jobs.states import SHELVED, SUSPECT, MediaStatus

FRESH_SECONDS: Final = 1.0


class InQueue(Protocol):
    """A media item as its place in the queue depends on it."""

    @property
    def status(self) -> str:
        """A MediaStatus."""
        ...

    @property
    def owner_id(self) -> UUID:
        """Whose it is."""
        ...

    @property
    def queue(self) -> str:
        """In which it waits."""
        ...

    @property
    def provider(self) -> str:
        """The first part of its model's name."""
        ...

    @property
    def model(self) -> str:
        """`provider/name`."""
        ...

    @property
    def rank(self) -> int:
        """Its priority, RESUMED, SUSPECT or SHELVED."""
        ...

    @property
    def ahead(self) -> int | None:
        """How many of its owner's own come before it, up to MOST_AHEAD; None: it is not due yet."""
        ...


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a media item in the queue waits for."""

    position: int | None
    """How many come before it, MOST_AHEAD: so many or more; None: it is not due yet, or on hold."""
    reason: Mapping[str, str] | None
    """`code` and `message`: why its model is paused or its provider unavailable; None: neither."""


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """A queue at one moment."""

    at: float
    streams: tuple[StreamLength, ...]
    tripped: Mapping[str, Reason]
    """Unavailable providers."""
    paused: Mapping[str, Reason]
    """Paused models."""


class QueuePositions:
    """The queues of this service, cached in the process for a second."""

    def __init__(self, db: DatabasePool) -> None:
        self._db = db
        self._snapshots: dict[str, _Snapshot] = {}
        self._reading = asyncio.Lock()

    async def waiting(self, media: InQueue) -> Waiting | None:
        """What a media item waits for; None: it does not wait."""
        if media.status != MediaStatus.IN_QUEUE:
            return None
        snapshot = await self._read(media.queue)
        position = None
        paused = snapshot.paused.get(media.model)
        if media.ahead is not None and paused is None and media.rank not in {SUSPECT, SHELVED}:
            position = min(media.ahead + _others_before(snapshot, media, media.ahead), MOST_AHEAD)
        return Waiting(position, paused or snapshot.tripped.get(media.provider))

    async def _read(self, queue: str) -> _Snapshot:
        async with self._reading:
            snapshot = self._snapshots.get(queue)
            if snapshot is None or time.monotonic() - snapshot.at > FRESH_SECONDS:
                streams = await queries.stream_lengths(self._db, queue)
                unavailable = await unavailable_now(self._db)
                snapshot = self._snapshots[queue] = _Snapshot(
                    time.monotonic(), tuple(streams), unavailable.providers, unavailable.models
                )
        return snapshot


def _others_before(snapshot: _Snapshot, media: InQueue, own: int) -> int:
    """Higher ranks come first; inside a rank each other owner gets one turn more than this one's have before it."""
    higher, same_rank = 0, Counter[UUID]()
    for stream in snapshot.streams:
        if stream.provider in snapshot.tripped or (stream.owner_id, stream.rank) == (media.owner_id, media.rank):
            continue  # the owner's own are counted exactly
        if stream.rank > media.rank:
            higher += stream.waiting
        elif stream.rank == media.rank:
            same_rank[stream.owner_id] += stream.waiting
    return higher + sum(min(due, own + 1) for due in same_rank.values())

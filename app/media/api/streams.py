"""Event streams: what happens to one media, or to all of an owner's, as server-sent events.

States are told at once, every one of them, from the history; progress and log lines at most every THROTTLE_SECONDS.
Each event's id says where a stream goes on, so nothing is missed and nothing told twice after a break.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from uuid import UUID

import msgspec
from fastapi.sse import format_sse_event

from app.core.connections import UNAVAILABLE
from app.core.event_stream import PING, PING_SECONDS, RECONNECT_MILLISECONDS, write_id
from app.media.api.desk import Desk
from app.media.event_queries import (
    AT_ONCE,
    Happened,
    Logged,
    MediaLook,
    MediaSeen,
    OwnerLook,
    OwnerSeen,
    ProgressLook,
    Step,
)
from app.media.event_types import EVENT_TYPES
from app.media.payloads import Event
from app.media.resource import utc
from app.media.states import FINAL, MediaEvent, MediaStatus
from app.media.watching import Watcher

THROTTLE_SECONDS: Final = 0.5
_LOOK_AGAIN_SECONDS: Final = (0.02, 0.1, 0.5, 1.0)
"""How long to wait for transactions in whose shadow something lies."""
_OUTAGE_SECONDS: Final = 1.0

Item = TypeVar("Item")
Result = TypeVar("Result")

_encode = msgspec.json.Encoder().encode


class Clock:
    """When a stream tells what: pings, and what is throttled."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.ping_at = self._loop.time() + PING_SECONDS
        self.details_at = 0.0
        """From when progress and log lines may be told again."""

    def may_tell(self) -> bool:
        """Whether details may be told now."""
        return self._loop.time() >= self.details_at

    def told(self) -> None:
        """Details were told."""
        self.details_at = self._loop.time() + THROTTLE_SECONDS

    def ping_due(self) -> bool:
        """Whether it has been silent for long; asked once for each silence."""
        if self._loop.time() < self.ping_at:
            return False
        self.ping_at = self._loop.time() + PING_SECONDS
        return True

    def after(self, seconds: float) -> float:
        """A moment from now."""
        return self._loop.time() + seconds


class _Stream:
    """What both kinds of streams are made of."""

    def __init__(self, desk: Desk, of: UUID) -> None:
        self._desk = desk
        self._of = of
        self._watcher = Watcher(None)
        self._clock = Clock()

    def leave(self) -> None:
        """See `Events.leave`."""
        self._watcher.leave()

    async def _ask(self, batch: Callable[[Item], Awaitable[Result]], item: Item) -> Result | None:
        """Read; while the database is away, wait for it. None: the stream is to end."""
        while not self._watcher.left:
            try:
                return await batch(item)
            except UNAVAILABLE:
                await self._watcher.changed(self._clock.after(_OUTAGE_SECONDS))
        return None

    async def _state(self, row: Happened, event_id: str) -> bytes | None:
        """A move of a media, with its payload; None: the stream is to end."""
        kind = EVENT_TYPES[MediaEvent(row.event)]
        told = Event(kind, row.at, row.id, row.media_id)
        payload = await self._ask(self._desk.feed.payload, told)
        if payload is None:
            return None
        return format_sse_event(event=kind.partition(".")[2], data_str=payload.decode(), id=event_id)


class MediaEvents(_Stream):
    """Everything that happens to one media, until it is over."""

    def __init__(self, desk: Desk, media_id: UUID, cursor: Sequence[int], first: MediaSeen) -> None:
        """Go on at `cursor`, from which `first` was seen."""
        super().__init__(desk, media_id)
        self._after, self._log_txid, self._log_id = cursor
        self._first = first
        self._progress: float | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield format_sse_event(retry=RECONNECT_MILLISECONDS)
        with self._desk.watch.on(self._of, self._watcher):
            seen: MediaSeen | None = self._first
            while seen is not None:
                async for event in self._tell(seen):
                    yield event
                whole = len(seen.history) < AT_ONCE
                if self._watcher.left or (whole and seen.status in FINAL):
                    return
                if whole and not await self._watcher.changed(self._until(seen)) and self._clock.ping_due():
                    yield PING
                seen = await self._ask(self._desk.feed.media, self.look)

    @property
    def look(self) -> MediaLook:
        """What it has not told yet."""
        return MediaLook(self._of, self._after, self._log_txid, self._log_id)

    @property
    def _id(self) -> str:
        return write_id(self._after, self._log_txid, self._log_id)

    def _until(self, seen: MediaSeen) -> float:
        """When to look again, even if nobody wakes us: something was held back."""
        held_back = (seen.logs and seen.logs[-1].id != self._log_id) or seen.progress not in {None, self._progress}
        return self._clock.details_at if held_back else self._clock.ping_at

    async def _tell(self, seen: MediaSeen) -> AsyncIterator[bytes]:
        details = seen.status in FINAL or self._clock.may_tell()
        last = seen.history[-1] if seen.status in FINAL and seen.history else None
        # As it happened; but the end comes last, whatever the clocks of those say who wrote the log.
        rows = sorted([*seen.history, *(seen.logs if details else ())], key=lambda row: (row is last, row.at))
        for row in rows:
            if (event := await self._event(row)) is None:
                return
            yield event
        moved = seen.status == MediaStatus.PROCESSING and seen.progress not in {None, self._progress}
        if details and moved:
            self._progress = seen.progress
            yield _progress(self._of, seen.status, seen.progress, self._id)
        if details and (moved or seen.logs):
            self._clock.told()

    async def _event(self, row: Happened | Logged) -> bytes | None:
        if isinstance(row, Logged):
            self._log_txid, self._log_id = row.txid, row.id
            return format_sse_event(event="log", data_str=_log(self._of, row), id=self._id)
        self._after = row.id
        if row.event in EVENT_TYPES:
            return await self._state(row, self._id)
        return format_sse_event(event="log", data_str=_noted(row), id=self._id)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which media of an owner a stream tells of; None: all."""

    status: MediaStatus | None = None
    """Only events that lead to it."""
    model: str | None = None
    tag: str | None = None

    def has(self, row: Happened | Step) -> bool:
        """Whether it is to be told."""
        return (
            (self.status is None or self.status == row.status)
            and (self.model is None or self.model == row.model)
            and (self.tag is None or self.tag in row.tags)
        )


class OwnerEvents(_Stream):
    """What happens to all media of an owner; without end, and without log lines."""

    def __init__(self, desk: Desk, owner_id: UUID, cursor: Sequence[int], wanted: Wanted) -> None:
        super().__init__(desk, owner_id)
        self._txid, self._after = cursor
        self._wanted = wanted
        self._changed = set[UUID]()
        self._progress = dict[UUID, float]()
        """As last told, of media that are worked on."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        # With an id, so that a client that is cut off before the first event goes on from here.
        yield format_sse_event(retry=RECONNECT_MILLISECONDS, id=self._id)
        hidden = 0
        with self._desk.watch.on(self._of, self._watcher):
            while (seen := await self._ask(self._desk.feed.owner, self.look)) is not None:
                async for event in self._tell(seen):
                    yield event
                if self._watcher.left:
                    return
                if len(seen.history) == AT_ONCE:
                    continue
                hidden = hidden + 1 if seen.hidden else 0
                if not await self._watcher.changed(self._until(hidden)) and self._clock.ping_due():
                    yield format_sse_event(comment="ping", id=self._id)

    @property
    def look(self) -> OwnerLook:
        """What it has not told yet."""
        return OwnerLook(self._of, self._txid, self._after)

    @property
    def _id(self) -> str:
        return write_id(self._txid, self._after)

    def _until(self, hidden: int) -> float:
        until = self._clock.ping_at
        if self._changed:
            until = min(until, self._clock.details_at)
        if hidden:
            pause = _LOOK_AGAIN_SECONDS[min(hidden, len(_LOOK_AGAIN_SECONDS)) - 1]
            until = min(until, self._clock.after(pause))
        return until

    async def _tell(self, seen: OwnerSeen) -> AsyncIterator[bytes]:
        for row in seen.history:
            self._txid, self._after = row.txid, row.id
            if row.status != MediaStatus.PROCESSING:
                self._progress.pop(row.media_id, None)
            if row.event in EVENT_TYPES and self._wanted.has(row):
                if (state := await self._state(row, self._id)) is None:
                    return
                yield state
        self._changed |= self._watcher.changes
        self._watcher.changes.clear()
        if self._changed and self._clock.may_tell():
            asked, self._changed = ProgressLook(self._of, tuple(self._changed)), set[UUID]()
            for step in await self._ask(self._desk.feed.progress, asked) or ():
                if self._wanted.has(step) and self._progress.get(step.media_id) != step.progress:
                    self._progress[step.media_id] = step.progress
                    yield _progress(step.media_id, step.status, step.progress, self._id)
            self._clock.told()


def _progress(media_id: UUID, status: str, fraction: float | None, event_id: str) -> bytes:
    data: dict[str, Any] = {"media_id": media_id, "status": status, "progress": fraction}
    return format_sse_event(event="progress", data_str=_encode(data).decode(), id=event_id)


def _log(media_id: UUID, line: Logged) -> str:
    data: dict[str, Any] = {
        "media_id": media_id,
        "at": utc(line.at),
        "level": line.level,
        "event": line.event,
        "attempt": line.attempt,
        "fields": line.fields,
    }
    return _encode(data).decode()


def _noted(row: Happened) -> str:
    return _log(row.media_id, Logged(row.id, row.txid, row.at, "info", row.event, None, row.detail or {}))

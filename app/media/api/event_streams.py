"""Event streams: what happens to one media, or to all of an owner's, as server-sent events.

States are told at once, every one of them, from the history; progress and log lines at most twice a second.
Each event's id says where a stream goes on, so nothing is missed and nothing told twice after a break.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import msgspec
from fastapi.sse import format_sse_event

from app.core.database.pool import UNAVAILABLE
from app.core.http_server.sse import PING, RECONNECT_MILLISECONDS, write_id
from app.jobs.public_events import EVENT_TYPES
from app.jobs.states import FINAL, MediaEvent, MediaStatus
from app.media.api.dependencies import MediaDependencies
from app.media.api.stream_clock import Clock
from app.media.events.history import (
    AT_ONCE,
    HistoryEntry,
    LogEntry,
    MediaLook,
    MediaSeen,
    OwnerLook,
    OwnerSeen,
    ProgressEntry,
    ProgressLook,
)
from app.media.events.payloads import Event
from app.media.events.subscriptions import Subscriber
from app.media.resource import utc

_LOOK_AGAIN_SECONDS: Final = (0.02, 0.1, 0.5, 1.0)
"""How long to wait for transactions in whose shadow something lies."""
_OUTAGE_SECONDS: Final = 1.0

_encode = msgspec.json.Encoder().encode


class _Stream(ABC):
    """What both kinds of streams are made of."""

    def __init__(self, desk: MediaDependencies, of: UUID) -> None:
        self._desk = desk
        self._of = of
        self._watcher = Subscriber(None)
        self._clock = Clock()

    def leave(self) -> None:
        """See `Events.leave`."""
        self._watcher.leave()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._greeting()
        with self._desk.subscriptions.on(self._of, self._watcher):
            while not self._watcher.left:
                try:
                    async for event in self._round():
                        yield event
                except UNAVAILABLE:
                    # Wait for it. What was told is remembered event by event, so nothing is told twice.
                    await self._watcher.changed(self._clock.after(_OUTAGE_SECONDS))
                except EOFError:
                    return
                if self._clock.ping_due():
                    yield self._ping()

    async def _payload(self, row: HistoryEntry) -> bytes | None:
        """The payload of a move; None: the event is a note."""
        if row.event not in EVENT_TYPES:
            return None
        return await self._desk.reads.payload(Event(EVENT_TYPES[MediaEvent(row.event)], row.at, row.id, row.media_id))

    @abstractmethod
    def _greeting(self) -> bytes:
        """What comes first."""

    @abstractmethod
    def _ping(self) -> bytes:
        """What breaks a silence."""

    @abstractmethod
    def _round(self) -> AsyncIterator[bytes]:
        """Look, tell, and wait for more; EOFError: that was all."""


class MediaEvents(_Stream):
    """Everything that happens to one media, until it is over."""

    def __init__(self, desk: MediaDependencies, media_id: UUID, cursor: Sequence[int], first: MediaSeen) -> None:
        """Go on at `cursor`, from which `first` was seen."""
        super().__init__(desk, media_id)
        self._after, self._log_txid, self._log_id = cursor
        self._first: MediaSeen | None = first
        self._progress: float | None = None

    def _greeting(self) -> bytes:
        return format_sse_event(retry=RECONNECT_MILLISECONDS)

    def _ping(self) -> bytes:
        return PING

    async def _round(self) -> AsyncIterator[bytes]:
        seen, self._first = self._first or await self._desk.reads.media(self.look), None
        if seen is None:
            raise EOFError
        async for event in self._tell(seen):
            yield event
        whole = len(seen.history) < AT_ONCE
        if whole and seen.status in FINAL:
            raise EOFError
        if whole:
            await self._watcher.changed(self._until(seen))

    @property
    def look(self) -> MediaLook:
        """What it has not told yet."""
        return MediaLook(self._of, self._after, self._log_txid, self._log_id)

    @property
    def _id(self) -> str:
        return write_id(self._after, self._log_txid, self._log_id)

    def _until(self, seen: MediaSeen) -> float:
        """When to look again, even if nobody wakes us: something was held back."""
        held_back = self._has_moved(seen) or (seen.logs and seen.logs[-1].id != self._log_id)
        return self._clock.details_at if held_back else self._clock.ping_at

    def _has_moved(self, seen: MediaSeen) -> bool:
        return seen.status == MediaStatus.PROCESSING and seen.progress not in {None, self._progress}

    async def _tell(self, seen: MediaSeen) -> AsyncIterator[bytes]:
        details = seen.status in FINAL or self._clock.may_tell()
        for row in _in_order(seen.history, seen.logs if details else (), over=seen.status in FINAL):
            yield await self._event(row)
        moved = self._has_moved(seen)
        if details and moved:
            self._progress = seen.progress
            yield _progress(self._of, seen.status, seen.progress, self._id)
        if details and (moved or seen.logs):
            self._clock.told()

    async def _event(self, row: HistoryEntry | LogEntry) -> bytes:
        if isinstance(row, LogEntry):
            self._log_txid, self._log_id = row.txid, row.id
            return format_sse_event(event="log", data_str=_log(self._of, row), id=self._id)
        payload = await self._payload(row)
        self._after = row.id
        if payload is None:
            return format_sse_event(event="log", data_str=_noted(row), id=self._id)
        return _state(row, payload, self._id)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which media of an owner a stream tells of; None: all."""

    status: MediaStatus | None = None
    """Only events that lead to it."""
    model: str | None = None
    tag: str | None = None

    def has(self, row: HistoryEntry | ProgressEntry) -> bool:
        """Whether it is to be told."""
        return (
            (self.status is None or self.status == row.status)
            and (self.model is None or self.model == row.model)
            and (self.tag is None or self.tag in row.tags)
        )


class OwnerEvents(_Stream):
    """What happens to all media of an owner; without end, and without log lines."""

    def __init__(self, desk: MediaDependencies, owner_id: UUID, cursor: Sequence[int], wanted: Wanted) -> None:
        super().__init__(desk, owner_id)
        self._txid, self._after = cursor
        self._wanted = wanted
        self._hidden = 0
        """Looks in a row that have seen something in the shadow of a transaction."""
        self._changed = set[UUID]()
        self._progress = dict[UUID, float]()
        """As last told, of media that are worked on."""

    def _greeting(self) -> bytes:
        # With an id, so that a client that is cut off before the first event goes on from here.
        return format_sse_event(retry=RECONNECT_MILLISECONDS, id=self._id)

    def _ping(self) -> bytes:
        return format_sse_event(comment="ping", id=self._id)

    async def _round(self) -> AsyncIterator[bytes]:
        seen = await self._desk.reads.owner(self.look)
        async for event in self._tell(seen):
            yield event
        if len(seen.history) < AT_ONCE:
            self._hidden = self._hidden + 1 if seen.hidden else 0
            await self._watcher.changed(self._until(self._hidden))

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
            payload = await self._payload(row) if self._wanted.has(row) else None
            self._txid, self._after = row.txid, row.id
            if row.status != MediaStatus.PROCESSING:
                self._progress.pop(row.media_id, None)
            if payload is not None:
                yield _state(row, payload, self._id)
        self._changed |= self._watcher.changes
        self._watcher.changes.clear()
        if self._changed and self._clock.may_tell():
            asked, self._changed = ProgressLook(self._of, tuple(self._changed)), set[UUID]()
            for step in await self._desk.reads.progress(asked):
                if self._wanted.has(step) and self._progress.get(step.media_id) != step.progress:
                    self._progress[step.media_id] = step.progress
                    yield _progress(step.media_id, step.status, step.progress, self._id)
            self._clock.told()


def _in_order(
    history: Sequence[HistoryEntry], logs: Sequence[LogEntry], *, over: bool
) -> Iterator[HistoryEntry | LogEntry]:
    """Log lines between the states by time. Each kind keeps its own order, which its cursor needs; the end is last."""
    waiting = deque(logs)
    for number, row in enumerate(history, 1):
        while waiting and (waiting[0].at <= row.at or (over and number == len(history))):
            yield waiting.popleft()
        yield row
    yield from waiting


def _state(row: HistoryEntry, payload: bytes, event_id: str) -> bytes:
    name = EVENT_TYPES[MediaEvent(row.event)].partition(".")[2]
    return format_sse_event(event=name, data_str=payload.decode(), id=event_id)


def _progress(media_id: UUID, status: str, fraction: float | None, event_id: str) -> bytes:
    data: dict[str, Any] = {"media_id": media_id, "status": status, "progress": fraction}
    return format_sse_event(event="progress", data_str=_encode(data).decode(), id=event_id)


def _log(media_id: UUID, line: LogEntry) -> str:
    data: dict[str, Any] = {
        "media_id": media_id,
        "at": utc(line.at),
        "level": line.level,
        "event": line.event,
        "attempt": line.attempt,
        "fields": line.fields,
    }
    return _encode(data).decode()


def _noted(row: HistoryEntry) -> str:
    return _log(row.media_id, LogEntry(row.id, row.txid, row.at, "info", row.event, None, row.detail or {}))

"""Event streams: what happens to one media, or to all of an owner's, as server-sent events.

State changes are sent at once, every one of them, from the history; progress and log lines at most twice a second.
Each event's id is the position to resume from, so nothing is missed or repeated across a reconnect.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import msgspec
from fastapi.sse import format_sse_event

from app.core.database.pool import UNAVAILABLE
from app.core.http_server.sse import PING, PING_SECONDS, RECONNECT_MILLISECONDS, write_id
from app.jobs.public_events import EVENT_TYPES
from app.jobs.states import FINAL, MediaEvent, MediaStatus
from app.media.api.dependencies import MediaDependencies
from app.media.events.history_reads import (
    BATCH_ROWS,
    HistoryEntry,
    LogEntry,
    MediaPosition,
    MediaUpdate,
    OwnerPosition,
    OwnerUpdate,
    ProgressEntry,
    ProgressQuery,
)
from app.media.events.payloads import Event
from app.media.events.subscriptions import Subscriber
from app.media.resource import utc

_DETAILS_SECONDS: Final = 0.5
"""Between two times that progress and log lines are sent."""
_HELD_BACK_SECONDS: Final = (0.02, 0.1, 0.5, 1.0)
"""Pauses before reading again while rows are held back by a running transaction."""
_OUTAGE_SECONDS: Final = 1.0

_encode = msgspec.json.Encoder().encode


class _Timer:
    """When a stream sends pings and details (progress and log lines), by the event loop's clock."""

    def __init__(self) -> None:
        self._now = asyncio.get_running_loop().time
        self.ping_at = self._now() + PING_SECONDS
        self.details_at = 0.0

    def details_due(self) -> bool:
        return self._now() >= self.details_at

    def details_sent(self) -> None:
        self.details_at = self._now() + _DETAILS_SECONDS

    def ping_due(self) -> bool:
        """Whether a ping is due; if so, the next one is scheduled."""
        if self._now() < self.ping_at:
            return False
        self.ping_at = self._now() + PING_SECONDS
        return True

    def after(self, seconds: float) -> float:
        return self._now() + seconds


class _Stream(ABC):
    """What both kinds of streams share."""

    def __init__(self, dependencies: MediaDependencies, key: UUID) -> None:
        self._reads = dependencies.reads
        self._subscriptions = dependencies.subscriptions
        self._key = key
        """The id of the media or of the owner."""
        self._subscriber = Subscriber(None)
        self._timer = _Timer()

    def leave(self) -> None:
        """See `Events.leave`."""
        self._subscriber.leave()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._opening()
        with self._subscriptions.subscribed(self._key, self._subscriber):
            while not self._subscriber.left:
                try:
                    async for event in self._next_events():
                        yield event
                except UNAVAILABLE:
                    # The position advances with every event sent, so nothing is repeated after the outage.
                    await self._subscriber.changed(self._timer.after(_OUTAGE_SECONDS))
                except EOFError:
                    return
                if self._timer.ping_due():
                    yield self._ping()

    async def _payload(self, row: HistoryEntry) -> bytes | None:
        """The webhook payload of a state change; None: the row is a note."""
        if row.event not in EVENT_TYPES:
            return None
        return await self._reads.payload(Event(EVENT_TYPES[MediaEvent(row.event)], row.at, row.id, row.media_id))

    @abstractmethod
    def _opening(self) -> bytes:
        """What is sent first."""

    @abstractmethod
    def _ping(self) -> bytes:
        """What is sent after a silence."""

    @abstractmethod
    def _next_events(self) -> AsyncIterator[bytes]:
        """Read and send what is new, then wait for more.

        Raises:
            EOFError: The stream is complete.
        """


class MediaEvents(_Stream):
    """Everything that happens to one media, until it is final."""

    def __init__(
        self, dependencies: MediaDependencies, media_id: UUID, cursor: Sequence[int], first: MediaUpdate
    ) -> None:
        """Start after `cursor`; `first` is what was read there."""
        super().__init__(dependencies, media_id)
        self._history_id, self._log_txid, self._log_id = cursor
        self._first: MediaUpdate | None = first
        self._progress: float | None = None

    def _opening(self) -> bytes:
        return format_sse_event(retry=RECONNECT_MILLISECONDS)

    def _ping(self) -> bytes:
        return PING

    async def _next_events(self) -> AsyncIterator[bytes]:
        position = MediaPosition(self._key, self._history_id, self._log_txid, self._log_id)
        update, self._first = self._first or await self._reads.media(position), None
        if update is None:
            raise EOFError
        async for event in self._events_of(update):
            yield event
        if len(update.history) == BATCH_ROWS:
            return
        if update.status in FINAL:
            raise EOFError
        await self._subscriber.changed(self._wake_at(update))

    @property
    def _id(self) -> str:
        return write_id(self._history_id, self._log_txid, self._log_id)

    def _wake_at(self, update: MediaUpdate) -> float:
        """When to read again even if nothing wakes the stream."""
        throttled = self._has_progressed(update) or (update.logs and update.logs[-1].id != self._log_id)
        return self._timer.details_at if throttled else self._timer.ping_at

    def _has_progressed(self, update: MediaUpdate) -> bool:
        return update.status == MediaStatus.PROCESSING and update.progress not in {None, self._progress}

    async def _events_of(self, update: MediaUpdate) -> AsyncIterator[bytes]:
        final = update.status in FINAL
        details = final or self._timer.details_due()
        for row in _in_order(update.history, update.logs if details else (), final=final):
            yield await self._event(row)
        progressed = self._has_progressed(update)
        if details and progressed:
            self._progress = update.progress
            yield _progress(self._key, update.status, update.progress, self._id)
        if details and (progressed or update.logs):
            self._timer.details_sent()

    async def _event(self, row: HistoryEntry | LogEntry) -> bytes:
        if isinstance(row, LogEntry):
            self._log_txid, self._log_id = row.txid, row.id
            return format_sse_event(event="log", data_str=_log(self._key, row), id=self._id)
        payload = await self._payload(row)
        self._history_id = row.id
        if payload is None:
            note = LogEntry(row.id, row.txid, row.at, "info", row.event, None, row.detail or {})
            return format_sse_event(event="log", data_str=_log(row.media_id, note), id=self._id)
        return _state(row, payload, self._id)


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which of an owner's media a stream shows; None: all."""

    statuses: Collection[MediaStatus] = ()
    """Only events that lead to one of them; empty: all."""
    model: str | None = None
    tag: str | None = None

    def matches(self, row: HistoryEntry | ProgressEntry) -> bool:
        """Whether the stream shows it."""
        return (
            (not self.statuses or row.status in self.statuses)
            and (self.model is None or self.model == row.model)
            and (self.tag is None or self.tag in row.tags)
        )


class OwnerEvents(_Stream):
    """What happens to all media of an owner; endless, and without log lines."""

    def __init__(
        self, dependencies: MediaDependencies, owner_id: UUID, cursor: Sequence[int], only: EventFilter
    ) -> None:
        super().__init__(dependencies, owner_id)
        self._txid, self._history_id = cursor
        self._only = only
        self._held_back = 0
        """Reads in a row that found rows held back."""
        self._changed = set[UUID]()
        self._progress = dict[UUID, float]()
        """As last sent, of media in progress."""

    def _opening(self) -> bytes:
        # With an id, so that a client that is disconnected before the first event resumes from here.
        return format_sse_event(retry=RECONNECT_MILLISECONDS, id=self._id)

    def _ping(self) -> bytes:
        return format_sse_event(comment="ping", id=self._id)

    async def _next_events(self) -> AsyncIterator[bytes]:
        update = await self._reads.owner(OwnerPosition(self._key, self._txid, self._history_id))
        async for event in self._events_of(update):
            yield event
        if len(update.history) < BATCH_ROWS:
            self._held_back = self._held_back + 1 if update.held_back else 0
            await self._subscriber.changed(self._wake_at())

    @property
    def _id(self) -> str:
        return write_id(self._txid, self._history_id)

    def _wake_at(self) -> float:
        at = self._timer.ping_at
        if self._changed:
            at = min(at, self._timer.details_at)
        if self._held_back:
            pause = _HELD_BACK_SECONDS[min(self._held_back, len(_HELD_BACK_SECONDS)) - 1]
            at = min(at, self._timer.after(pause))
        return at

    async def _events_of(self, update: OwnerUpdate) -> AsyncIterator[bytes]:
        for row in update.history:
            payload = await self._payload(row) if self._only.matches(row) else None
            self._txid, self._history_id = row.txid, row.id
            if row.status != MediaStatus.PROCESSING:
                self._progress.pop(row.media_id, None)
            if payload is not None:
                yield _state(row, payload, self._id)
        self._changed |= self._subscriber.changes
        self._subscriber.changes.clear()
        if self._changed and self._timer.details_due():
            query, self._changed = ProgressQuery(self._key, tuple(self._changed)), set[UUID]()
            for entry in await self._reads.progress(query):
                if self._only.matches(entry) and self._progress.get(entry.media_id) != entry.progress:
                    self._progress[entry.media_id] = entry.progress
                    yield _progress(entry.media_id, entry.status, entry.progress, self._id)
            self._timer.details_sent()


def _in_order(
    history: Sequence[HistoryEntry], logs: Sequence[LogEntry], *, final: bool
) -> Iterator[HistoryEntry | LogEntry]:
    """States and log lines by time, a final state last. Each kind keeps its own order, which its position needs."""
    waiting = deque(logs)
    for number, row in enumerate(history, 1):
        while waiting and (waiting[0].at <= row.at or (final and number == len(history))):
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

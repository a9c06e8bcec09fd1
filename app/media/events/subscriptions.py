"""Waiting for media to change: thousands of requests at once, without a connection or a thread for any of them.

Changes from other processes wake whoever waits for the media, or for all of an owner's. Notifications may be lost, so
one statement compares all that is waited for with the database: every few seconds, and every second while the change
channel is down.
"""

import asyncio
import contextlib
from collections.abc import Collection, Generator
from datetime import datetime
from typing import Final
from uuid import UUID

import structlog

from app.core.change_channel import ChangeChannel
from app.core.database.pool import UNAVAILABLE, Change, DatabasePool
from app.core.task_cancellation import cancel_and_wait
from app.media import queries

log = structlog.get_logger(__name__)

MAX_CHANGES: Final = 10_000
"""Changed media that a slow subscriber remembers; beyond it, progress events are skipped."""
CHECK_SECONDS: Final = 5.0
CHECK_SECONDS_WITHOUT_CHANNEL: Final = 1.0


class Subscriber:
    """A request or stream that waits."""

    def __init__(self, known: datetime | None) -> None:
        self.known = known
        """`updated_at` of the media as last read; None: woken by every check, changed or not."""
        self.changes = set[UUID]()
        """The media that woke it; the subscriber clears it."""
        self.left = False
        """It must not wait any longer."""
        self._changed = asyncio.Event()

    def wake(self, media_id: UUID | None = None) -> None:
        """Something may have changed."""
        if media_id is not None and len(self.changes) < MAX_CHANGES:
            self.changes.add(media_id)
        self._changed.set()

    def leave(self) -> None:
        """Stop waiting: the process stops, or the client has disconnected."""
        self.left = True
        self._changed.set()

    async def changed(self, until: float) -> bool:
        """Wait until woken; False: it has left, or nothing happened before `until`, by the event loop's clock."""
        try:
            async with asyncio.timeout_at(until):
                await self._changed.wait()
        except TimeoutError:
            return False
        if not self.left:
            self._changed.clear()
        return not self.left


class Subscriptions:
    """All subscribers of this process."""

    def __init__(self, db: DatabasePool, channel: ChangeChannel) -> None:
        self._db = db
        self._channel = channel
        self._subscribers: dict[UUID, set[Subscriber]] = {}
        """By the id of a media item or of an owner."""
        self._tasks: list[asyncio.Task[None]] = []
        self._leaving = False

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(len(subscribers) for subscribers in self._subscribers.values())

    def start(self) -> None:
        """Start listening and checking."""
        listening = asyncio.create_task(self._channel.subscribe(self._on_changes))
        self._tasks = [listening, asyncio.create_task(self._check_repeatedly())]

    def leave(self) -> None:
        """Let nobody wait any longer; may be called from a signal handler."""
        self._leaving = True
        for task in self._tasks[:1]:
            task.get_loop().call_soon_threadsafe(self._release_all)

    def _release_all(self) -> None:
        for subscribers in self._subscribers.values():
            for subscriber in subscribers:
                subscriber.leave()

    async def stop(self) -> None:
        """Release everybody, and end."""
        self._release_all()
        await cancel_and_wait(*self._tasks)

    @contextlib.contextmanager
    def subscribed(self, key: UUID, subscriber: Subscriber) -> Generator[Subscriber]:
        """Wake it when the media (or any of the owner) with this id changes; read again inside: no change is missed."""
        if self._leaving:
            subscriber.leave()
        self._subscribers.setdefault(key, set()).add(subscriber)
        try:
            yield subscriber
        finally:
            subscribers = self._subscribers[key]
            subscribers.discard(subscriber)
            if not subscribers:
                del self._subscribers[key]

    def _on_changes(self, changes: Collection[Change]) -> None:
        for change in changes:
            for key in (change.media_id, change.owner_id):
                for subscriber in self._subscribers.get(key, ()):
                    subscriber.wake(change.media_id)

    async def _check_repeatedly(self) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS if self._channel.connected else CHECK_SECONDS_WITHOUT_CHANNEL)
            if not self._subscribers:
                continue
            try:
                await self._check()
            except UNAVAILABLE as error:
                log.warning("subscription_check_failed", error=type(error).__name__)

    async def _check(self) -> None:
        compared = list[UUID]()
        for key, subscribers in self._subscribers.items():
            if any(subscriber.known is not None for subscriber in subscribers):
                compared.append(key)
            for subscriber in subscribers:
                if subscriber.known is None:
                    subscriber.wake()
        for media_id, updated_at in await queries.last_changes(self._db, compared) if compared else ():
            for subscriber in self._subscribers.get(media_id, ()):
                if updated_at != subscriber.known:
                    subscriber.wake()

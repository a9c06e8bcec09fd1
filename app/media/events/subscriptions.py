"""Waiting for media to change: thousands of requests at once, without a connection or a thread for any of them.

News from other processes wakes whoever waits for a media, or for all of an owner's. It may be lost, so a look at the
database compares all that are waited for at once: every few seconds, and every second while news cannot be heard.
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

MOST_CHANGES: Final = 10_000
"""What one keeps in mind who does not get round to looking; only progress hangs on it."""
LOOK_SECONDS: Final = 5.0
LOOK_SECONDS_WITHOUT_NEWS: Final = 1.0


class Subscriber:
    """One who waits."""

    def __init__(self, seen: datetime | None) -> None:
        self.seen = seen
        """`updated_at` of the media as it is known already; None: woken at every look, whether it changed or not."""
        self.changes = set[UUID]()
        """The media that woke him; he clears it."""
        self.left = False
        """He is to wait no longer."""
        self._changed = asyncio.Event()

    def wake(self, media_id: UUID | None = None) -> None:
        """Something may have changed."""
        if media_id is not None and len(self.changes) < MOST_CHANGES:
            self.changes.add(media_id)
        self._changed.set()

    def leave(self) -> None:
        """Wait no longer: the process stops, or the client has gone."""
        self.left = True
        self._changed.set()

    async def changed(self, until: float) -> bool:
        """Wait until woken; False: not before `until`, by the event loop's clock, or he is to leave."""
        try:
            async with asyncio.timeout_at(until):
                await self._changed.wait()
        except TimeoutError:
            return False
        if not self.left:
            self._changed.clear()
        return not self.left


class Subscriptions:
    """Everybody who waits in this process."""

    def __init__(self, db: DatabasePool, news: ChangeChannel) -> None:
        self._db = db
        self._news = news
        self._watchers: dict[UUID, set[Subscriber]] = {}
        """By the id of a media or of an owner."""
        self._loops: list[asyncio.Task[None]] = []
        self._leaving = False

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(len(watchers) for watchers in self._watchers.values())

    def start(self) -> None:
        """Begin to listen and to look."""
        self._loops = [asyncio.create_task(self._news.subscribe(self._heard)), asyncio.create_task(self._look_on())]

    def leave(self) -> None:
        """Let nobody wait any longer; may be called from a signal handler."""
        self._leaving = True
        for loop in self._loops[:1]:
            loop.get_loop().call_soon_threadsafe(self._let_go)

    def _let_go(self) -> None:
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.leave()

    async def stop(self) -> None:
        """End."""
        self._let_go()
        await cancel_and_wait(*self._loops)

    @contextlib.contextmanager
    def on(self, of: UUID, watcher: Subscriber) -> Generator[Subscriber]:
        """Wait for a media, or for all of an owner's, by its id; read once more inside: no change is missed then."""
        if self._leaving:
            watcher.leave()
        self._watchers.setdefault(of, set()).add(watcher)
        try:
            yield watcher
        finally:
            watchers = self._watchers[of]
            watchers.discard(watcher)
            if not watchers:
                del self._watchers[of]

    def _heard(self, changes: Collection[Change]) -> None:
        for change in changes:
            for watcher in (*self._watchers.get(change.media_id, ()), *self._watchers.get(change.owner_id, ())):
                watcher.wake(change.media_id)

    async def _look_on(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS if self._news.connected else LOOK_SECONDS_WITHOUT_NEWS)
            if not self._watchers:
                continue
            try:
                await self._look()
            except UNAVAILABLE as error:
                log.warning("watch_blind", error=type(error).__name__)

    async def _look(self) -> None:
        compared = list[UUID]()
        for of, watchers in self._watchers.items():
            if any(watcher.seen is not None for watcher in watchers):
                compared.append(of)
            for watcher in watchers:
                if watcher.seen is None:
                    watcher.wake()
        for media_id, updated_at in await queries.last_changes(self._db, compared) if compared else ():
            for watcher in self._watchers.get(media_id, ()):
                if updated_at != watcher.seen:
                    watcher.wake()

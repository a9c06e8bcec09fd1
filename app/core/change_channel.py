"""The change channel: which media items have just changed, published from process to process over Redis.

Messages may be lost, duplicated or late; subscribers also poll the database now and then. So publishing never fails
and never waits: changes that arrive while one message is being sent go out with the next.
"""

import asyncio
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import structlog
from redis.exceptions import RedisError

from app.core.database.pool import Change
from app.core.task_cancellation import cancel_and_wait

if TYPE_CHECKING:
    import redis.asyncio as redis

log = structlog.get_logger(__name__)

CHANGES: Final = "fleek:changes"
CALLBACKS: Final = "fleek:callbacks"
"""Redis channels: media items that changed, and media items whose provider has called back."""
MAX_CHANGES: Final = 1_000
"""Changes in one message, 32 bytes each: the ids of the media item and of its owner."""
PAUSE_SECONDS: Final = 1.0
"""How long publishing or receiving pauses after a failure."""
BATCH_SECONDS: Final = 0.01
"""Between two messages; a single one is sent at once."""
REQUEST_BATCH_SECONDS: Final = 0.05
"""The same where most changes are new requests: a message costs as much as half a request."""
IDLE_SECONDS: Final = 3.0
"""Without a message for so long, Redis is pinged; without a reply for as long again, the connection has failed."""
ID_BYTES: Final = 16


class ChangeChannel:
    """Publishes and receives changes; belongs to one event loop."""

    def __init__(self, cache: "redis.Redis", channel: str = CHANGES) -> None:
        self._cache = cache
        self._channel = channel
        self._pending: list[Change] = []
        self._publishing: asyncio.Task[None] | None = None
        self._paused_until = 0.0
        self.batch_seconds = BATCH_SECONDS
        self.failures = 0
        """Messages that were lost."""
        self.connected = False
        """Whether this process receives the others' changes now."""

    def publish(self, changes: Collection[Change]) -> None:
        """Tell subscribers that these media items have changed; call it after the commit."""
        if time.monotonic() < self._paused_until:
            return
        self._pending.extend(changes)
        if self._pending and self._publishing is None:
            self._publishing = asyncio.create_task(self._publish_pending())

    async def subscribe(self, receive: Callable[[Collection[Change]], None]) -> None:
        """Pass every message to `receive`, forever; while Redis is down none arrives."""
        while True:
            try:
                await self._receive(receive)
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("change_channel_disconnected", error=type(error).__name__)
            self.connected = False
            await asyncio.sleep(PAUSE_SECONDS)

    async def close(self) -> None:
        """Stop publishing."""
        if self._publishing is not None:
            await cancel_and_wait(self._publishing)

    async def _receive(self, receive: Callable[[Collection[Change]], None]) -> None:
        subscription: Any = self._cache.pubsub()  # pyright: ignore[reportUnknownMemberType] - its options are untyped
        async with subscription:
            await subscription.subscribe(self._channel)
            self.connected = True
            pinged = False
            while True:
                message = await subscription.get_message(ignore_subscribe_messages=True, timeout=IDLE_SECONDS)
                if message is None and pinged:
                    raise TimeoutError("Redis does not answer a ping")
                # Silence alone is no failure; an unanswered ping is.
                pinged = message is None
                if message is None:
                    await subscription.ping()
                elif message["type"] == "message":
                    receive(_read(message["data"]))

    async def _publish_pending(self) -> None:
        try:
            while self._pending:
                changes, self._pending = self._pending[:MAX_CHANGES], self._pending[MAX_CHANGES:]
                await self._cache.publish(  # pyright: ignore[reportUnknownMemberType] - likewise
                    self._channel, b"".join(part.bytes for change in changes for part in change)
                )
                await asyncio.sleep(self.batch_seconds)
        except (RedisError, OSError, TimeoutError) as error:
            self.failures += 1
            self._pending.clear()
            self._paused_until = time.monotonic() + PAUSE_SECONDS
            log.warning("change_publish_failed", error=type(error).__name__)
        finally:
            self._publishing = None


def _read(message: bytes) -> list[Change]:
    whole = len(message) - len(message) % (2 * ID_BYTES)
    ids = [UUID(bytes=message[start : start + ID_BYTES]) for start in range(0, whole, ID_BYTES)]
    return [Change(*pair) for pair in zip(ids[::2], ids[1::2], strict=True)]

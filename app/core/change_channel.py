"""News: which media have just changed, told from process to process over Redis.

News may be lost, doubled or late; whoever waits for it looks for himself now and then. So telling never fails and
never waits: what gathers while one message is on its way goes out with the next.
"""

import asyncio
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import structlog
from redis.exceptions import RedisError

from app.core.database.pool import Change
from app.core.task_cancellation import end

if TYPE_CHECKING:
    import redis.asyncio as redis

log = structlog.get_logger(__name__)

CHANGES: Final = "fleek:changes"
CALLBACKS: Final = "fleek:callbacks"
"""Channels: what changed, and whose provider has called back."""
MOST: Final = 1_000
"""Changes in one message, 32 bytes each: the media's id and its owner's."""
PAUSE_SECONDS: Final = 1.0
"""After a failure, so long nothing is told, or heard."""
GATHER_SECONDS: Final = 0.01
"""Between two messages; a lone one goes at once."""
GATHER_REQUESTS_SECONDS: Final = 0.05
"""The same where it is mostly new requests that are told of: each message costs as much as half a request."""
SILENCE_SECONDS: Final = 3.0
ID_BYTES: Final = 16


class ChangeChannel:
    """Tells and hears; belongs to one event loop."""

    def __init__(self, cache: "redis.Redis", channel: str = CHANGES) -> None:
        self._cache = cache
        self._channel = channel
        self._untold: list[Change] = []
        self._telling: asyncio.Task[None] | None = None
        self._silent_until = 0.0
        self.gather_seconds = GATHER_SECONDS
        self.failures = 0
        """Messages that got lost."""
        self.connected = False
        """Whether this process hears the others now."""

    def tell(self, changes: Collection[Change]) -> None:
        """Say that these media have changed; call it after the commit."""
        if time.monotonic() < self._silent_until:
            return
        self._untold.extend(changes)
        if self._untold and self._telling is None:
            self._telling = asyncio.create_task(self._tell_on())

    async def listen(self, heard: Callable[[Collection[Change]], None]) -> None:
        """Hand on whatever is told, forever; while Redis is away nothing comes."""
        while True:
            try:
                await self._listen(heard)
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("news_unheard", error=type(error).__name__)
            self.connected = False
            await asyncio.sleep(PAUSE_SECONDS)

    async def close(self) -> None:
        """Tell nothing more."""
        if self._telling is not None:
            await end(self._telling)

    async def _listen(self, heard: Callable[[Collection[Change]], None]) -> None:
        subscription: Any = self._cache.pubsub()  # pyright: ignore[reportUnknownMemberType] - its options are untyped
        async with subscription:
            await subscription.subscribe(self._channel)
            self.connected = True
            asked = False
            while True:
                message = await subscription.get_message(ignore_subscribe_messages=True, timeout=SILENCE_SECONDS)
                if message is None and asked:
                    raise TimeoutError("Redis says nothing, not even that it is there")
                # Silence is no failure, unless the other side does not answer when it is asked.
                asked = message is None
                if message is None:
                    await subscription.ping()
                elif message["type"] == "message":
                    heard(_read(message["data"]))

    async def _tell_on(self) -> None:
        try:
            while self._untold:
                changes, self._untold = self._untold[:MOST], self._untold[MOST:]
                await self._cache.publish(  # pyright: ignore[reportUnknownMemberType] - likewise
                    self._channel, b"".join(part.bytes for change in changes for part in change)
                )
                await asyncio.sleep(self.gather_seconds)
        except (RedisError, OSError, TimeoutError) as error:
            self.failures += 1
            self._untold.clear()
            self._silent_until = time.monotonic() + PAUSE_SECONDS
            log.warning("news_untold", error=type(error).__name__)
        finally:
            self._telling = None


def _read(message: bytes) -> list[Change]:
    whole = len(message) - len(message) % (2 * ID_BYTES)
    ids = [UUID(bytes=message[start : start + ID_BYTES]) for start in range(0, whole, ID_BYTES)]
    return [Change(*pair) for pair in zip(ids[::2], ids[1::2], strict=True)]

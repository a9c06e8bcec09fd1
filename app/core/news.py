"""News: which media have just changed, told from process to process over Redis.

News may be lost, doubled or late; whoever waits for it looks for himself now and then. So telling never fails and
never waits: what gathers while one message is on its way goes out with the next.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import structlog
from redis.exceptions import RedisError

if TYPE_CHECKING:
    import redis.asyncio as redis

log = structlog.get_logger(__name__)

CHANNEL: Final = "fleek:news"
MOST: Final = 2_000
"""Media in one message, 16 bytes each."""
PAUSE_SECONDS: Final = 1.0
"""After a failure, so long nothing is told, or heard."""
ID_BYTES: Final = 16


class News:
    """Tells and hears; belongs to one event loop."""

    def __init__(self, cache: "redis.Redis") -> None:
        self._cache = cache
        self._untold: set[UUID] = set()
        self._telling: asyncio.Task[None] | None = None
        self._silent_until = 0.0
        self.failures = 0
        """Messages that got lost."""
        self.connected = False
        """Whether this process hears the others now."""

    def tell(self, ids: Iterable[UUID]) -> None:
        """Say that these media have changed; call it after the commit."""
        if time.monotonic() < self._silent_until:
            return
        self._untold.update(ids)
        if self._untold and self._telling is None:
            self._telling = asyncio.create_task(self._tell_on())

    async def listen(self, heard: Callable[[Iterable[UUID]], None]) -> None:
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
            self._telling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._telling

    async def _listen(self, heard: Callable[[Iterable[UUID]], None]) -> None:
        subscription: Any = self._cache.pubsub()  # pyright: ignore[reportUnknownMemberType] - its options are untyped
        async with subscription:
            await subscription.subscribe(CHANNEL)
            self.connected = True
            while True:
                # Silence is no failure: the time-out of this client is for answers.
                message = await subscription.get_message(ignore_subscribe_messages=True, timeout=30)
                if message is not None:
                    heard(_read(message["data"]))

    async def _tell_on(self) -> None:
        try:
            while self._untold:
                ids = [self._untold.pop() for _ in range(min(MOST, len(self._untold)))]
                await self._cache.publish(  # pyright: ignore[reportUnknownMemberType] - likewise
                    CHANNEL, b"".join(one.bytes for one in ids)
                )
        except (RedisError, OSError, TimeoutError) as error:
            self.failures += 1
            self._untold.clear()
            self._silent_until = time.monotonic() + PAUSE_SECONDS
            log.warning("news_untold", error=type(error).__name__)
        finally:
            self._telling = None


def _read(message: bytes) -> list[UUID]:
    whole = len(message) - len(message) % ID_BYTES
    return [UUID(bytes=message[start : start + ID_BYTES]) for start in range(0, whole, ID_BYTES)]

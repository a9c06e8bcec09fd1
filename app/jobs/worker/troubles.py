"""What workers say about themselves when something is wrong, for `/tools/ready`: in Redis, and gone after a while.

Only for people: while Redis is down, nothing is said, and the log and the metrics of the worker have it anyway.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msgspec
from redis.exceptions import RedisError

from app.core import clock

if TYPE_CHECKING:
    import redis.asyncio as redis

KEPT: Final = timedelta(hours=1)


class _Trouble(msgspec.Struct):
    text: str
    until: float
    """Seconds since 1970."""


class Troubles:
    """Writes and reads them."""

    def __init__(self, cache: "redis.Redis", dsn: str) -> None:
        """For the workers of one database.

        Args:
            cache: Redis, which others may use as well.
            dsn: The address of that database; only its name counts, as not every process need use the same host.
        """
        self._cache: Any = cache
        self._key = f"fleek:troubles:{urlsplit(dsn).path.strip('/')}"

    async def tell(self, who: str, text: str, *, lasts: timedelta = KEPT) -> None:
        """Say what is wrong with a worker; it replaces what was said before."""
        trouble = _Trouble(text, clock.timestamp() + min(lasts, KEPT).total_seconds())
        with suppress(RedisError, OSError, TimeoutError):
            await self._cache.hset(self._key, who, msgspec.json.encode(trouble))
            await self._cache.expire(self._key, KEPT)

    async def read(self) -> Sequence[str]:
        """What is wrong now; nothing while Redis is down."""
        told = dict[bytes, bytes]()
        with suppress(RedisError, OSError, TimeoutError):
            told = await self._cache.hgetall(self._key)
        found = list[str]()
        for who, text in sorted(told.items()):
            with suppress(msgspec.MsgspecError):
                trouble = msgspec.json.decode(text, type=_Trouble)
                if trouble.until > clock.timestamp():
                    found.append(f"{who.decode(errors='replace')} {trouble.text}")
        return found

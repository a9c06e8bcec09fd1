"""Signed URLs, reused until a fifth of their lifetime is left, so that caches of clients and CDNs work.

There are two caches: one in this process, checked first, and Redis, so that all processes return the same URL. While
Redis is unreachable, each process signs for itself. Calls of Redis are grouped: what arrives during one round trip
goes with the next, because the client costs as much CPU as the rest of the request.
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from app.core import clock
from app.core.config import Settings
from app.core.database.group_commit import GroupCommit
from app.storage.store import Store

if TYPE_CHECKING:
    import redis.asyncio as redis

MAX_CACHED: Final = 20_000
"""URLs that one process caches; about 600 bytes each."""
FRESH_SHARE: Final = 0.8
"""Of its lifetime, in which a URL is reused."""
REDIS_PAUSE_SECONDS: Final = 5.0
"""How long Redis is not called after a failure."""


@dataclass(frozen=True, slots=True)
class SignedUrl:
    """A URL that anybody can read from until `expires_at`."""

    url: str
    expires_at: datetime
    fresh_until: float
    """Until when it is reused, in seconds since 1970."""


class SignedUrls:
    """Signs and caches URLs."""

    def __init__(self, store: Store, shared: "redis.Redis", settings: Settings) -> None:
        self._store = store
        self._shared = shared
        self._lifetime = timedelta(seconds=settings.signed_url_seconds)
        self._cache: OrderedDict[Hashable, SignedUrl] = OrderedDict()
        self._redis_again_at = 0.0
        self._shares = GroupCommit(self._share)
        # Another address, bucket or access key makes other URLs: they need other keys in Redis.
        scope = f"{settings.s3_signing_url} {settings.bucket_name} {settings.aws_access_key_id}"
        self._prefix = f"fleek:url:{hashlib.sha256(scope.encode()).hexdigest()[:12]}:{settings.signed_url_seconds}:"

    def cached(self, place: Hashable) -> SignedUrl | None:
        """The URL in this process's cache, if it is still fresh; `place` is that of `sign`."""
        known = self._cache.get(place)
        if known is None or known.fresh_until > clock.timestamp():
            return known
        del self._cache[place]
        return None

    async def sign(self, place: Hashable, key: str) -> SignedUrl:
        """A URL for the object `key`, cached under `place`."""
        fresh_until = clock.timestamp() + self._lifetime.total_seconds() * FRESH_SHARE
        signed = await self._shared_or(key, self._signed(self._store.sign(key, self._lifetime), fresh_until))
        self._cache[place] = signed
        while len(self._cache) > MAX_CACHED:
            self._cache.popitem(last=False)
        return signed

    def _signed(self, url: str, fresh_until: float) -> SignedUrl:
        rest = self._lifetime.total_seconds() * (1 - FRESH_SHARE)
        return SignedUrl(url, datetime.fromtimestamp(int(fresh_until + rest), UTC), fresh_until)

    async def _shared_or(self, key: str, mine: SignedUrl) -> SignedUrl:
        """The URL that another process has shared, or else `mine`, which is then shared."""
        if time.monotonic() < self._redis_again_at:
            return mine
        theirs = await self._shares((key, mine))
        if not isinstance(theirs, bytes):
            return mine
        fresh_until, _, url = theirs.decode().partition(" ")
        return self._signed(url, float(fresh_until))

    async def _share(self, made: Sequence[tuple[str, SignedUrl]]) -> Sequence[object]:
        """Set those that are missing, in one round trip; what was there before, or None, also while Redis is down."""
        if time.monotonic() < self._redis_again_at:
            return [None] * len(made)
        pipeline = self._shared.pipeline(transaction=False)
        for key, mine in made:
            seconds = max(1, int(mine.fresh_until - clock.timestamp()))
            pipeline.set(self._prefix + key, f"{mine.fresh_until} {mine.url}", ex=seconds, nx=True, get=True)
        try:
            return await pipeline.execute()
        except (RedisError, OSError, TimeoutError):
            # Here, not in the callers: those already queued must not wait for Redis again.
            self._redis_again_at = time.monotonic() + REDIS_PAUSE_SECONDS
            return [None] * len(made)

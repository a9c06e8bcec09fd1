"""Signed URLs, handed out again until a fifth of their life is left: caches of clients and CDNs then work.

Two caches: this process's own, asked before anything else, and Redis, so that all processes hand out the same
URL. Redis may be away; then this process signs for itself. Redis is asked for many at once: what gathers while
one answer is on its way goes with the next, because its client costs as much CPU as the rest of the request.
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from app.core.config import Settings
from app.core.database.group_commit import GroupCommit
from app.storage.store import Store

if TYPE_CHECKING:
    import redis.asyncio as redis

REMEMBERED: Final = 20_000
"""URLs that one process remembers; about 600 bytes each."""
FRESH_SHARE: Final = 0.8
REDIS_PAUSE_SECONDS: Final = 5.0
"""After a failure, so long is Redis left alone."""


@dataclass(frozen=True, slots=True)
class SignedUrl:
    """A URL that anybody can read from until `expires_at`."""

    url: str
    expires_at: datetime
    fresh_until: float
    """Until when it is handed out again, in seconds since 1970."""


class SignedUrls:
    """Signs and remembers."""

    def __init__(self, store: Store, shared: "redis.Redis", settings: Settings) -> None:
        self._store = store
        self._shared = shared
        self._lifetime = timedelta(seconds=settings.signed_url_seconds)
        self._remembered: OrderedDict[Hashable, SignedUrl] = OrderedDict()
        self._shared_again_at = 0.0
        self._shares = GroupCommit(self._share)
        # Another address, bucket or key makes other URLs: they must not be found under the old ones' names.
        scope = f"{settings.s3_signing_url} {settings.bucket_name} {settings.aws_access_key_id}"
        self._prefix = f"fleek:url:{hashlib.sha256(scope.encode()).hexdigest()[:12]}:{settings.signed_url_seconds}:"

    def remembered(self, place: Hashable) -> SignedUrl | None:
        """What this process handed out for `place` before, if it is still fresh."""
        known = self._remembered.get(place)
        if known is None or known.fresh_until > time.time():
            return known
        del self._remembered[place]
        return None

    async def sign(self, place: Hashable, key: str) -> SignedUrl:
        """A URL for the object `key`, remembered under `place`."""
        fresh_until = time.time() + self._lifetime.total_seconds() * FRESH_SHARE
        signed = await self._agree(key, self._made(self._store.sign(key, self._lifetime), fresh_until))
        self._remembered[place] = signed
        while len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)
        return signed

    def _made(self, url: str, fresh_until: float) -> SignedUrl:
        rest = self._lifetime.total_seconds() * (1 - FRESH_SHARE)
        return SignedUrl(url, datetime.fromtimestamp(int(fresh_until + rest), UTC), fresh_until)

    async def _agree(self, key: str, mine: SignedUrl) -> SignedUrl:
        """The URL that another process handed out before, or `mine` for the others."""
        if time.monotonic() < self._shared_again_at:
            return mine
        theirs = await self._shares((key, mine))
        if not isinstance(theirs, bytes):
            return mine
        fresh_until, _, url = theirs.decode().partition(" ")
        return self._made(url, float(fresh_until))

    async def _share(self, made: Sequence[tuple[str, SignedUrl]]) -> Sequence[object]:
        """Put each where nothing is; what was there before, or None. One round trip; Redis may be away."""
        if time.monotonic() < self._shared_again_at:
            return [None] * len(made)
        pipeline = self._shared.pipeline(transaction=False)
        for key, mine in made:
            seconds = max(1, int(mine.fresh_until - time.time()))
            pipeline.set(self._prefix + key, f"{mine.fresh_until} {mine.url}", ex=seconds, nx=True, get=True)
        try:
            return await pipeline.execute()
        except (RedisError, OSError, TimeoutError):
            # Here, not by who asked: those who gathered meanwhile must not wait for it once more.
            self._shared_again_at = time.monotonic() + REDIS_PAUSE_SECONDS
            return [None] * len(made)

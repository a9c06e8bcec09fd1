"""The time of one stream."""

import asyncio
from typing import Final

from app.core.http_server.sse import PING_SECONDS

THROTTLE_SECONDS: Final = 0.5
"""Between two tellings of progress and log lines."""


class Clock:
    """When a stream tells what: pings, and what is throttled."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.ping_at = self._loop.time() + PING_SECONDS
        self.details_at = 0.0
        """From when progress and log lines may be told again."""

    def may_tell(self) -> bool:
        """Whether details may be told now."""
        return self._loop.time() >= self.details_at

    def told(self) -> None:
        """Details were told."""
        self.details_at = self._loop.time() + THROTTLE_SECONDS

    def ping_due(self) -> bool:
        """Whether it has been silent for long; asked once for each silence."""
        if self._loop.time() < self.ping_at:
            return False
        self.ping_at = self._loop.time() + PING_SECONDS
        return True

    def after(self, seconds: float) -> float:
        """A moment from now."""
        return self._loop.time() + seconds

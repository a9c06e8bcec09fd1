"""Long-poll: a response that waits until the media changes."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from starlette.requests import Request
from starlette.types import Receive

from app.core.http_server.access_log import WAIT_REQUESTED
from app.core.http_server.disconnect import on_disconnect
from app.core.http_server.prefer import HEADER, applied, wanted_wait
from app.jobs.states import FINAL
from app.media import resource
from app.media.api.dependencies import MediaDependencies
from app.media.events.subscriptions import Subscriber
from app.media.queries import JobRow, MediaRow

AnyRow = TypeVar("AnyRow", MediaRow, JobRow)


@dataclass(frozen=True, slots=True)
class Wait:
    """A client's `Prefer: wait`."""

    seconds: int
    known_etags: str
    """The client's If-None-Match; empty: none."""
    receive: Receive
    """Of the request; it reports when the client disconnects."""

    @classmethod
    def requested(cls, request: Request) -> "Wait | None":
        """The wait that a request asks for; None: it does not."""
        seconds = wanted_wait(request.headers.get(HEADER))
        if seconds is None:
            return None
        request.scope[WAIT_REQUESTED] = True
        return cls(seconds, request.headers.get("if-none-match", ""), request.receive)

    @property
    def applied(self) -> dict[str, str]:
        """The response header that confirms it."""
        return applied(self.seconds)

    async def until_changed(
        self, dependencies: MediaDependencies, row: AnyRow, media_id: UUID, read: Callable[[], Awaitable[AnyRow]]
    ) -> AnyRow:
        """The row once the media is final or differs from what the client has; otherwise as it is when time is up.

        Args:
            dependencies: Of the application.
            row: As it was a moment ago.
            media_id: The media to wait for.
            read: Reads the row again.
        """
        if self._has_changed(row):
            return row
        until = asyncio.get_running_loop().time() + self.seconds
        subscriber = Subscriber(row.updated_at)
        # Clients disconnect and repeat their request: no subscription may stay behind.
        with dependencies.subscriptions.subscribed(media_id, subscriber), on_disconnect(self.receive, subscriber.leave):
            while True:
                # Read once more: from here on every change wakes the subscriber.
                row = await read()
                subscriber.known = row.updated_at
                if self._has_changed(row) or not await subscriber.changed(until):
                    return row

    def _has_changed(self, row: MediaRow | JobRow) -> bool:
        return row.status in FINAL or bool(self.known_etags and resource.version(row) not in self.known_etags)

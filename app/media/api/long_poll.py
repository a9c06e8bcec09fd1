"""Long-poll: an answer that waits until there is news."""

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
from app.media.api import render
from app.media.api.dependencies import MediaDependencies
from app.media.events.subscriptions import Subscriber
from app.media.queries import JobRow, MediaRow

AnyRow = TypeVar("AnyRow", MediaRow, JobRow)


@dataclass(frozen=True, slots=True)
class Wait:
    """A client's `Prefer: wait`."""

    seconds: int
    known: str
    """The ETag that the client has; empty: none."""
    receive: Receive
    """Of the request: it notices when the client disconnects."""

    @classmethod
    def wanted(cls, request: Request) -> "Wait | None":
        """That of a request; None: it has none."""
        seconds = wanted_wait(request.headers.get(HEADER))
        if seconds is None:
            return None
        request.scope[WAIT_REQUESTED] = True
        return cls(seconds, request.headers.get("if-none-match", ""), request.receive)

    @property
    def applied(self) -> dict[str, str]:
        """The header that confirms it."""
        return applied(self.seconds)

    async def until_news(
        self, dependencies: MediaDependencies, row: AnyRow, media_id: UUID, read: Callable[[], Awaitable[AnyRow]]
    ) -> AnyRow:
        """The row as soon as the media is final, or differs from what the client has; else as it is when time is up.

        Args:
            dependencies: Of the application.
            row: As it was a moment ago.
            media_id: The media to wait for.
            read: Reads the row again.
        """
        if self._is_news(row):
            return row
        until = asyncio.get_running_loop().time() + self.seconds
        subscriber = Subscriber(row.updated_at)
        # A client that asks, goes and asks again must leave nothing behind that waits.
        with dependencies.subscriptions.on(media_id, subscriber), on_disconnect(self.receive, subscriber.leave):
            while True:
                # Once more, now that no change can be missed.
                row = await read()
                subscriber.seen = row.updated_at
                if self._is_news(row) or not await subscriber.changed(until):
                    return row

    def _is_news(self, row: MediaRow | JobRow) -> bool:
        return row.status in FINAL or bool(self.known and render.version(row) not in self.known)

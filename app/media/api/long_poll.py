"""Long-poll: an answer that waits until there is something to say."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

from starlette.requests import Request
from starlette.types import Receive

from app.core.http_server.access_log import ASKED_TO_WAIT
from app.core.http_server.disconnect import noticing
from app.core.http_server.prefer import HEADER, applied, wanted_wait
from app.jobs.states import FINAL
from app.media.api import render
from app.media.api.dependencies import MediaDependencies
from app.media.events.subscriptions import Subscriber
from app.media.resource import Row


@dataclass(frozen=True, slots=True)
class Wait:
    """A client's wish to wait."""

    seconds: int
    known: str
    """The ETag that the client has; empty: none."""
    receive: Receive
    """Of the request: tells when the client has gone."""

    @classmethod
    def wanted(cls, request: Request) -> "Wait | None":
        """The wish of a request; None: it has none."""
        seconds = wanted_wait(request.headers.get(HEADER))
        if seconds is None:
            return None
        request.scope[ASKED_TO_WAIT] = True
        return cls(seconds, request.headers.get("if-none-match", ""), request.receive)

    @property
    def applied(self) -> dict[str, str]:
        """The header that says that the wish was understood."""
        return applied(self.seconds)

    async def for_news(
        self, desk: MediaDependencies, media_id: UUID, row: Row, read: Callable[[], Awaitable[Row]]
    ) -> Row:
        """The media as soon as it is final, or differs from what the client has; else as it is when time is up.

        Args:
            desk: Of the application.
            media_id: Whom to wait for.
            row: As it was a moment ago.
            read: Reads it again.
        """
        if self._worth_telling(row):
            return row
        until = asyncio.get_running_loop().time() + self.seconds
        watcher = Subscriber(row["updated_at"])
        # Who asks, goes and asks again is to leave nothing behind that waits.
        with desk.watch.on(media_id, watcher), noticing(self.receive, watcher.leave):
            while True:
                # Once more, now that no change can be missed.
                row = await read()
                watcher.seen = row["updated_at"]
                if self._worth_telling(row) or not await watcher.changed(until):
                    return row

    def _worth_telling(self, row: Row) -> bool:
        return row["status"] in FINAL or bool(self.known and render.version(row) not in self.known)

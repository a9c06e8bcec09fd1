"""Server-sent events (WHATWG HTML, section 9.2): a response that continues until its events end.

Pure ASGI: thousands are open at once, and each costs two tasks. A slow client slows down only its own stream; a
disconnect is noticed at once.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Final, Protocol

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.core.http_server.disconnect import on_disconnect

log = structlog.get_logger(__name__)

LAST_EVENT_ID: Final = "Last-Event-ID"
PING_SECONDS: Final = 15.0
STALLED_SECONDS: Final = 60.0
"""A client that reads nothing for this long is disconnected."""
PING: Final = b": ping\n\n"
RECONNECT_MILLISECONDS: Final = 2_000
_NUMBERS: Final = re.compile(r"\d{1,18}(?:-\d{1,18})*")


class Events(Protocol):
    """The source of a stream's events."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Events in wire format, pings among them."""
        ...

    def leave(self) -> None:
        """The client has disconnected: end the iteration."""
        ...


class EventStream(Response):
    """Sends `events` until they end or the client disconnects."""

    media_type = "text/event-stream"

    def __init__(self, events: Events) -> None:
        # No proxy may buffer events.
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        try:
            with on_disconnect(receive, self._events.leave):
                async for event in self._events:
                    async with asyncio.timeout(STALLED_SECONDS):
                        await send({"type": "http.response.body", "body": event, "more_body": True})
        except TimeoutError:
            log.info("stream_client_stalled", path=scope["path"])
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def write_id(*numbers: int) -> str:
    """An event's id: the position after which a stream resumes."""
    return "-".join(str(number) for number in numbers)


def read_id(given: str, count: int) -> tuple[int, ...] | None:
    """The `count` numbers of an event's id; None: it was not issued by this API."""
    if not _NUMBERS.fullmatch(given):
        return None
    numbers = tuple(int(part) for part in given.split("-"))
    return numbers if len(numbers) == count else None

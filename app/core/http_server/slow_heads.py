"""The head of a request gets so much time. uvicorn has no such limit, and an ASGI application sees no unfinished head.

uvicorn asks its configuration for the protocol of each new connection, and when it starts, it calls the application
with a method of an object that knows this configuration. So the limit holds however uvicorn is started: `uvicorn
app.main:app`, `fleek serve` or `fleek up`, with `--workers` or `--reload`. It holds for httptools, the protocol that
uvicorn chooses by itself; with another one a warning is logged, and the proxy in front must do it.
"""

import asyncio
import json
from http import HTTPStatus
from typing import ClassVar, Final

import structlog
from starlette.types import Receive
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.core.http_server.access_log import NOSNIFF
from app.core.http_server.problems import MEDIA_TYPE, document
from app.core.http_server.timed_body import RequestTimeoutError

log = structlog.get_logger(__name__)

_NEVER: Final = float("inf")


def limit_heads(receive: Receive, seconds: float) -> None:
    """Limit the time of heads on the server that starts the application.

    Args:
        receive: Of the application's `lifespan`, as the server passes it.
        seconds: How long a head may take.
    """
    config: object = getattr(getattr(receive, "__self__", None), "config", None)
    if not isinstance(config, Config):
        return  # another server, or a test without one
    protocol = config.http_protocol_class
    if protocol is HttpToolsProtocol:
        config.http_protocol_class = type("TimedHeads", (_TimedHeads,), {"seconds": seconds})
    else:
        log.warning("request_heads_have_no_time_limit", protocol=protocol.__name__)


class _TimedHeads(HttpToolsProtocol):
    """One connection. A timer looks from time to time; a request only notes when its head must be complete."""

    seconds: ClassVar[float]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_has_begun = False
        self._due = self.loop.time() + self.seconds
        self._timer = self.loop.call_at(self._due, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_has_begun = True
        self._due = self.loop.time() + self.seconds

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._head_has_begun = False
        self._due = _NEVER

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # uvicorn ends an idle connection by itself, but any byte, even an empty line, cancels that.
        self._due = self.loop.time() + self.timeout_keep_alive + self.seconds

    def _look(self) -> None:
        if self.transport.is_closing() or self.transport.get_protocol() is not self:
            return
        now = self.loop.time()
        busy = not getattr(self.cycle, "response_complete", True)  # before the first request there is none
        if not busy and now >= self._due:
            if self._head_has_begun:
                self.transport.write(_answer(self.seconds))
            self.transport.close()
            return
        self._timer = self.loop.call_at(now + self.seconds if busy else self._due, self._look)


def _answer(seconds: float) -> bytes:
    """The whole response to a head that is not complete."""
    error = RequestTimeoutError(f"the head of a request must be complete within {seconds:g} seconds")
    body = json.dumps(document(error.status, error.code, error.title, error.detail)).encode()
    head = [
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}".encode(),
        b"content-type: " + MEDIA_TYPE.encode(),
        b"content-length: %d" % len(body),
        b": ".join(NOSNIFF),
        b"connection: close",
    ]
    return b"\r\n".join([*head, b"", body])

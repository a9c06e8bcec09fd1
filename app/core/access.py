"""A request id for every request, in its logs and its answer, and one log line when it is over. Pure ASGI."""

import re
import time
from typing import Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.ids import new_id

log = structlog.get_logger("app.access")

HEADER: Final = b"x-request-id"
_WELL_FORMED: Final = re.compile(rb"[\w.:-]{8,80}")


class AccessLog:
    """Takes over the caller's `X-Request-ID` where it is well-formed."""

    def __init__(self, app: ASGIApp, *, lines: bool) -> None:
        self._app = app
        self._lines = lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == HEADER), b"")
        request_id = given.decode() if _WELL_FORMED.fullmatch(given) else new_id().hex
        status = 500
        begun = time.perf_counter()

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (HEADER, request_id.encode())]
            await send(message)

        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            await self._app(scope, receive, answer)
        finally:
            if self._lines:
                took = round((time.perf_counter() - begun) * 1000, 1)
                log.info("request", method=scope["method"], path=scope["path"], status=status, milliseconds=took)
            structlog.contextvars.unbind_contextvars("request_id")

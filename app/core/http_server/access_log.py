"""A request id for every request, in its logs and its response; one log line and one measurement. Pure ASGI.

Every response also gets `X-Content-Type-Options: nosniff`: whatever its bytes look like, a browser takes them for what
the response says.
"""

import re
import time
from typing import Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.ids import new_id
from app.core.telemetry import tracing
from app.core.telemetry.metrics import REQUESTS

log = structlog.get_logger("app.access")

HEADER: Final = b"x-request-id"
NOSNIFF: Final = (b"x-content-type-options", b"nosniff")
WAIT_REQUESTED: Final = "fleek.wait_requested"
"""Set in the scope of a request that waits for a change (`Prefer: wait`)."""
_WELL_FORMED: Final = re.compile(rb"[\w.:-]{8,80}")
_CLASSES: Final = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class AccessLog:
    """Uses the caller's `X-Request-ID` where it is well-formed."""

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
        status = 0
        started = time.perf_counter()
        answered = 0.0

        async def answer(message: Message) -> None:
            nonlocal status, answered
            if message["type"] == "http.response.start":
                # How long the rest takes depends on the client's connection.
                status, answered = message["status"], time.perf_counter()
                message["headers"] = [*message["headers"], (HEADER, request_id.encode()), NOSNIFF]
            await send(message)

        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            await (self._traced if tracing.active() else self._app)(scope, receive, answer)
        except Exception:
            status = status or 500
            raise
        finally:
            now = time.perf_counter()
            _measure(scope, status, (answered or now) - started)
            if self._lines:
                took = round((now - started) * 1000, 1)
                log.info("request", method=scope["method"], path=scope["path"], status=status, milliseconds=took)
            structlog.contextvars.unbind_contextvars("request_id")

    async def _traced(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with tracing.request(scope) as finish:
            try:
                await self._app(scope, receive, answer)
            finally:
                finish(_route(scope), status)


def _route(scope: Scope) -> str:
    """The template of the route; `none` where it has none."""
    return getattr(scope.get("route"), "path_format", "none")


def _measure(scope: Scope, status: int, seconds: float) -> None:
    method = scope["method"]
    REQUESTS.observe(
        seconds,
        method if method in _METHODS else "other",
        _route(scope),
        _CLASSES[status // 100],
        "yes" if WAIT_REQUESTED in scope else "no",
    )

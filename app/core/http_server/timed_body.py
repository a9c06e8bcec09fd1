"""The body of a request gets so much time: a client that drips it is answered with 408, and its connection is closed.

Only the time during which the application waits for the client counts, so a slow store or a queue of uploads is not the
client's fault. A body may pause for `seconds`, and altogether take that and what its bytes take at the lowest rate.
"""

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from starlette.types import Message, Receive, Send

from app.core.errors import FleekError

_CLOSE: Final = (b"connection", b"close")
_SKIPPED_BYTES: Final = 64 * 1024
"""The most that the server holds of a body that nobody reads."""


class RequestTimeoutError(FleekError):
    """The body of the request arrives too slowly."""

    status = 408
    code = "request_timeout"
    title = "Request too slow"


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """How slowly a body may arrive."""

    seconds: float
    """The longest pause, and what a body may take in addition to the time of its bytes."""
    rate: int
    """Bytes per second, on average."""


def has_body(fields: Mapping[bytes, bytes]) -> bool:
    """Whether a body follows these headers."""
    return fields.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in fields


class TimedBody:
    """`receive` and `send` of one request with a body."""

    __slots__ = ("_bytes", "_complete", "_expects", "_limits", "_receive", "_send", "_waited")

    def __init__(self, receive: Receive, send: Send, limits: BodyLimits, *, expects: bool) -> None:
        """See `TimedBody`.

        Args:
            receive: The server's.
            send: The server's.
            limits: How slowly the body may arrive.
            expects: Whether the client waits for `100 Continue` before it sends the body.
        """
        self._receive = receive
        self._send = send
        self._limits = limits
        self._expects = expects
        self._complete = False
        self._bytes = 0
        self._waited = 0.0

    async def receive(self) -> Message:
        """The next part of the body, or the disconnect.

        Raises:
            RequestTimeoutError: It does not arrive in time.
        """
        if self._complete:
            return await self._receive()  # the disconnect, which may take as long as the response
        loop = asyncio.get_running_loop()
        began = loop.time()
        left = self._limits.seconds + self._bytes / self._limits.rate - self._waited
        try:
            async with asyncio.timeout(min(self._limits.seconds, left)):
                message = await self._receive()
        except TimeoutError:
            seconds, rate = self._limits.seconds, self._limits.rate
            self._waited = math.inf
            detail = f"a body may pause for {seconds:g} seconds, and must bring {rate} bytes per second on average"
            raise RequestTimeoutError(detail) from None
        self._waited += loop.time() - began
        self._take(message)
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the response; if it begins before the body has ended, the connection is closed after it.

        Otherwise the server would wait for the rest of the body, which nobody reads, for as long as it drips.
        """
        if message["type"] == "http.response.start" and not self._complete:
            await self._skip_what_has_arrived()
            if not self._complete:
                message["headers"] = [*message["headers"], _CLOSE]
        await self._send(message)

    async def _skip_what_has_arrived(self) -> None:
        """A small body that no route reads has usually arrived with its head: then the connection can be kept."""
        if self._expects:
            return  # reading would ask for the body
        most = self._bytes + _SKIPPED_BYTES
        try:
            async with asyncio.timeout(0):
                while not self._complete and self._bytes <= most:
                    self._take(await self._receive())
        except TimeoutError:
            return

    def _take(self, message: Message) -> None:
        self._bytes += len(message.get("body", b""))
        self._complete = not message.get("more_body", False)

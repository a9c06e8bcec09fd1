"""Connections on which an answer belongs to its request: what `client.py` gives to aiohttp for kept connections.

HTTP/1.1 has no number that ties an answer to its request, only the order. A server, or a proxy before it, that answers
twice shifts every later answer of that connection by one. aiohttp reuses such a connection; here it is not reused:

- whatever arrives while a connection is idle, bytes or the end, closes it;
- what lies unread in the socket when a connection is about to be reused closes it, before anything is sent;
- bytes after the end of an answer, also in the same segment or an incomplete second head, close it;
- bytes that arrive on a reused connection before the request is written fail the call.

What remains is a second answer that arrives after the next request was written. It looks like that request's answer:
only the content can tell (`adapter_kit/purchase_calls.py`), and the real answer, which follows, closes the connection.
"""

import select
from asyncio import Transport
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from aiohttp import ClientResponse, TCPConnector
from aiohttp.client_proto import ResponseHandler

if TYPE_CHECKING:
    from aiohttp.connector import Connection

_READABLE: Final = select.POLLIN | select.POLLHUP | select.POLLERR


class AnswerHandler(ResponseHandler):
    """One connection; it knows where its answer ends."""

    _sent = False
    """The request is written."""
    _reused = False
    _final = False
    """The head of an answer has arrived, informational ones (1xx) aside."""
    _spoiled = False
    """Something arrived that belongs to no request."""

    def drop(self) -> None:
        """Never reuse this connection; it is closed unless it is closed already."""
        self._spoiled = True
        self.force_close()
        if self.transport is not None:
            self.transport.close()

    def is_connected(self) -> bool:
        """Whether it can be used; the pool asks right before it reuses a connection."""
        if not super().is_connected() or self._spoiled:
            return False
        return not (self._answered and _has_unread(self.transport))

    def set_response_params(self, **given: Any) -> None:
        """A request is about to be written."""
        self._reused, self._sent, self._final = self._final, False, False
        super().set_response_params(**given)

    def start_timeout(self) -> None:
        """The request is written."""
        self._sent = True
        super().start_timeout()

    def feed_data(self, data: Any, size: int = 0) -> None:
        """The parser has read a head."""
        if self._final:
            # The first answer may be released already, by the end of its body in this very segment.
            self._spoiled = True
            self.force_close()
        self._final = self._final or data[0].code >= 200  # noqa: PLR2004 - not informational
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        """Give bytes to the parser, the last one by itself: if the answer has ended before it, there are too many."""
        if not data:
            super().data_received(data)
            return
        if self._answered or (self._reused and not self._sent):
            self.drop()
            return
        if len(data) > 1:
            super().data_received(data[:-1])
            if self._answered:
                self._spoiled = True
                self.force_close()
                self._close_if_idle()
                return
        super().data_received(data[-1:])
        if self._reading_paused:
            # The parser has stopped within these bytes, so the end of the answer among them will not be seen.
            self.force_close()

    def eof_received(self) -> None:
        """The server has closed its side."""
        self._spoiled = True
        super().eof_received()

    @property
    def _answered(self) -> bool:
        return self._final and (self._payload is None or self._payload.is_eof())

    def _close_if_idle(self) -> None:
        """After a complete answer the pool may have it already."""
        if self.transport is not None and not self._buffer:
            self.transport.close()


class KeptConnector(TCPConnector):
    """Opens such connections, and keeps them."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)  # pyright: ignore[reportUnknownMemberType] - aiohttp's own
        self._factory = partial(AnswerHandler, loop=self._loop)  # type: ignore[assignment]


class Response(ClientResponse):
    """An answer that knows its connection."""

    handler: ResponseHandler | None = None

    async def start(self, connection: "Connection") -> "Response":
        """See the base class."""
        self.handler = connection.protocol
        await super().start(connection)
        return self

    def drop_connection(self) -> None:
        """Never reuse the connection that it came on."""
        if isinstance(self.handler, AnswerHandler):
            self.handler.drop()


def _has_unread(transport: Transport | None) -> bool:
    """Whether the socket holds bytes, or its end, that the event loop has not read yet; of TLS, encrypted ones."""
    socket = None if transport is None else transport.get_extra_info("socket")
    if socket is None:
        return True
    waiting = select.poll()
    with suppress(OSError, ValueError):
        waiting.register(socket.fileno(), _READABLE)
        return bool(waiting.poll(0))
    return True

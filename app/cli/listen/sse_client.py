"""Reads server-sent events (WHATWG HTML, section 9.2) and resumes after a lost connection.

An event counts as read once it is complete. When reconnecting, the id of the last event read is sent back, so that no
event is lost or duplicated.
"""

import asyncio
import codecs
import os
import re
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import aiohttp
import msgspec

from app.cli.errors import CommandError

CONNECT_SECONDS: Final = 10.0
READ_SECONDS: Final = 50.0
"""Read timeout: the API sends something every 15 seconds, so a longer silence means a dead connection."""
RECONNECT_SECONDS: Final = 2.0
"""Until the API sets another value; see `retry` in the standard."""
MOST_CHARACTERS: Final = 1_000_000
"""Limit for one event; those of the API are far smaller."""
_PROBLEM_BYTES: Final = 10_000
_MAY_COME_BACK: Final = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
_LINE_END: Final = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event."""

    name: str
    data: str
    id: str
    """Sent back as Last-Event-ID to resume after it."""


class NotAnEventStreamError(ValueError):
    """The input is not an event stream."""


class Parser:
    """Turns bytes into events; chunks may end anywhere."""

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        """The id of the last complete block, which may hold no event."""
        self.retry: float | None = None
        """Seconds to wait before reconnecting, as set by the server; None: not set."""
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")
        self._rest: list[str] = []
        """Parts of an incomplete line."""
        self._after_cr = False
        self._name = ""
        self._data: list[str] = []
        self._length = 0
        self._id = last_id

    def feed(self, chunk: bytes) -> Iterator[ServerSentEvent]:
        """The events completed by this chunk; parsed lazily, as they are consumed.

        Raises:
            NotAnEventStreamError: An event exceeds the limit.
        """
        for line in self._lines(self._decoder.decode(chunk)):
            if line:
                self._handle(line)
                continue
            self.last_id = self._id
            if self._data:
                yield ServerSentEvent(self._name or "message", "\n".join(self._data), self.last_id)
            self._name, self._data, self._length = "", [], 0

    def _lines(self, text: str) -> list[str]:
        if self._after_cr and text:
            text = text.removeprefix("\n")
            self._after_cr = False
        # a CR ends a line at once; an LF at the start of the next chunk belongs to it
        self._after_cr = self._after_cr or text.endswith("\r")
        first, *others = _LINE_END.split(text)
        self._rest.append(first)
        self._length += len(text)
        if self._length > MOST_CHARACTERS:
            raise NotAnEventStreamError(f"an event has more than {MOST_CHARACTERS:,} characters")
        if not others:
            return []
        lines = ["".join(self._rest), *others[:-1]]
        self._rest = [others[-1]]
        return lines

    def _handle(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                self._name = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if value.isascii() and value.isdecimal():
                self.retry = int(value) / 1000
            case _:
                pass  # a comment, or a field that the standard ignores


class _UnavailableError(Exception):
    """A temporary failure; the text says what is wrong."""


class EventSource:
    """An endless stream of an API, with reconnects."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, query: Mapping[str, str], report: Callable[[str], None]
    ) -> None:
        """Connect nothing yet.

        Args:
            session: For the connections; its timeouts are not used.
            url: Of the stream.
            query: Filters.
            report: Called with a line for the user when the connection is lost or established.
        """
        self._session = session
        self._url = url
        self._query = query
        self._report = report
        self._last_id = ""
        self._pause = RECONNECT_SECONDS
        self._fault: str | None = None
        """Why there is no connection, as last reported."""
        self._connected_once = False

    async def events(self) -> AsyncGenerator[ServerSentEvent]:
        """Events as they arrive.

        Raises:
            CommandError: The API refuses the request, or the URL is not that of an API.
        """
        while True:
            try:
                async with aclosing(self._read()) as events:
                    async for event in events:
                        yield event
                fault = "the API ended the stream"
            except _UnavailableError as error:
                fault = str(error)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                fault = _reason(error)
            if fault != self._fault:
                self._fault = fault
                self._report(f"disconnected: {fault}; retrying every {self._pause:g} s")
            await asyncio.sleep(self._pause)

    async def _read(self) -> AsyncGenerator[ServerSentEvent]:
        headers = {"accept": "text/event-stream", "accept-encoding": "identity", "cache-control": "no-store"}
        if self._last_id:
            headers["last-event-id"] = self._last_id
        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS)
        async with self._session.get(self._url, params=self._query, headers=headers, timeout=limits) as answer:
            await _check(answer)
            again = "reconnected; missed events follow"
            self._report(again if self._connected_once else "connected; Ctrl-C stops")
            self._fault, self._connected_once = None, True
            parser = Parser(self._last_id)
            async for chunk in answer.content.iter_any():
                try:
                    for event in parser.feed(chunk):
                        yield event
                except NotAnEventStreamError as error:
                    raise CommandError(f"{answer.url.origin()} sends no events: {error}") from error
                self._last_id = parser.last_id
                self._pause = self._pause if parser.retry is None else parser.retry


async def _check(answer: aiohttp.ClientResponse) -> None:
    """Make sure that an event stream follows.

    Raises:
        _UnavailableError: A temporary failure.
        CommandError: A permanent one.
    """
    if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR or answer.status in _MAY_COME_BACK:
        raise _UnavailableError(f"the API answered {answer.status}")
    if answer.status == HTTPStatus.OK and answer.content_type == "text/event-stream":
        return
    where = answer.url.with_query(None)
    if answer.content_type == "application/problem+json":
        try:
            detail = msgspec.json.decode(await answer.content.read(_PROBLEM_BYTES), type=dict[str, object])["detail"]
        except (msgspec.MsgspecError, KeyError):
            detail = "no reason given"
        raise CommandError(f"the API answered {answer.status}: {detail}")
    raise CommandError(f"{where} answered {answer.status} ({answer.content_type}): this is not a Fleek API, see --api")


def _reason(error: Exception) -> str:
    match error:
        case aiohttp.ClientConnectorDNSError():
            return f"the name {error.host} cannot be resolved"
        case aiohttp.ClientConnectorCertificateError():
            return f"the certificate of {error.host} is not trusted"
        case aiohttp.ClientSSLError():
            return f"no TLS connection to {error.host}, port {error.port}"
        case aiohttp.ClientConnectorError():
            code = error.os_error.errno
            return f"no connection to {error.host}, port {error.port} ({os.strerror(code) if code else 'no answer'})"
        case TimeoutError():
            return "the API sends nothing"
        case _:
            return "the connection was lost"

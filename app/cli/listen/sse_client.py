"""Reads server-sent events (WHATWG HTML, section 9.2), and goes on after a break where it had stopped.

An event counts as read when it is complete. After a break the id of the last one that was read is sent back, so
nothing is missed and nothing comes twice.
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
SILENCE_SECONDS: Final = 50.0
"""The API says something every 15 seconds; who is silent for so long has gone without a word."""
RECONNECT_SECONDS: Final = 2.0
"""Until the API says how long; see `retry` in the standard."""
MOST_CHARACTERS: Final = 1_000_000
"""Of one event; those of the API are far below."""
_PROBLEM_BYTES: Final = 10_000
_MAY_COME_BACK: Final = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
_LINE_END: Final = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """One event."""

    name: str
    data: str
    id: str
    """What to send back as Last-Event-ID to go on behind it."""


class NotAnEventStreamError(ValueError):
    """What comes in cannot be events."""


class Parser:
    """Turns bytes into events, wherever the chunks are cut."""

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        """Of what was read completely; it also moves without an event."""
        self.retry: float | None = None
        """Seconds that the server wants us to wait after a break; None: it did not say."""
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")(errors="replace")
        self._rest: list[str] = []
        """Of a line whose end has not come."""
        self._after_cr = False
        self._name = ""
        self._data: list[str] = []
        self._length = 0
        self._id = last_id

    def feed(self, chunk: bytes) -> Iterator[ServerSentEvent]:
        """The events that are complete with this chunk; it is read on as they are taken.

        Raises:
            NotAnEventStreamError: An event has no end.
        """
        for line in self._lines(self._decoder.decode(chunk)):
            if line:
                self._take(line)
                continue
            self.last_id = self._id
            if self._data:
                yield ServerSentEvent(self._name or "message", "\n".join(self._data), self.last_id)
            self._name, self._data, self._length = "", [], 0

    def _lines(self, text: str) -> list[str]:
        if self._after_cr and text:
            text = text.removeprefix("\n")
            self._after_cr = False
        # A CR ends a line at once; if an LF follows in the next chunk, it belongs to it.
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

    def _take(self, line: str) -> None:
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
                pass  # a comment, or a field that the standard says to ignore


class _AwayError(Exception):
    """The API may come back; the text says what is wrong."""


class EventSource:
    """One stream of an API, read without end."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, query: Mapping[str, str], tell: Callable[[str], None]
    ) -> None:
        """See `EventSource`.

        Args:
            session: For the connections; its time-outs are not used.
            url: Of the stream.
            query: What to filter by.
            tell: Called with a line for the user when the connection comes and goes.
        """
        self._session = session
        self._url = url
        self._query = query
        self._tell = tell
        self._last_id = ""
        self._pause = RECONNECT_SECONDS
        self._fault: str | None = None
        """Why there is no connection, as last told."""
        self._connected_once = False

    async def events(self) -> AsyncGenerator[ServerSentEvent]:
        """Events as they come.

        Raises:
            CommandError: The API refuses, or it is none.
        """
        while True:
            try:
                async with aclosing(self._read()) as events:
                    async for event in events:
                        yield event
                fault = "the API ended the stream"
            except _AwayError as error:
                fault = str(error)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                fault = _reason(error)
            if fault != self._fault:
                self._fault = fault
                self._tell(f"disconnected: {fault}; trying again every {self._pause:g} s")
            await asyncio.sleep(self._pause)

    async def _read(self) -> AsyncGenerator[ServerSentEvent]:
        headers = {"accept": "text/event-stream", "accept-encoding": "identity", "cache-control": "no-store"}
        if self._last_id:
            headers["last-event-id"] = self._last_id
        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS)
        async with self._session.get(self._url, params=self._query, headers=headers, timeout=limits) as answer:
            await _check(answer)
            again = "connected again: what happened meanwhile follows"
            self._tell(again if self._connected_once else "connected; Ctrl-C stops")
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
    """Whether a stream follows.

    Raises:
        _AwayError: Not now.
        CommandError: Never.
    """
    if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR or answer.status in _MAY_COME_BACK:
        raise _AwayError(f"the API answered {answer.status}")
    if answer.status == HTTPStatus.OK and answer.content_type == "text/event-stream":
        return
    where = answer.url.with_query(None)
    if answer.content_type == "application/problem+json":
        try:
            detail = msgspec.json.decode(await answer.content.read(_PROBLEM_BYTES), type=dict[str, object])["detail"]
        except (msgspec.MsgspecError, KeyError):
            detail = "it does not say why"
        raise CommandError(f"the API answered {answer.status}: {detail}")
    raise CommandError(f"{where} answered {answer.status} ({answer.content_type}): this is no API of Fleek, see --api")


def _reason(error: Exception) -> str:
    match error:
        case aiohttp.ClientConnectorDNSError():
            return f"the name {error.host} was not resolved"
        case aiohttp.ClientConnectorCertificateError():
            return f"the certificate of {error.host} is not trusted"
        case aiohttp.ClientSSLError():
            return f"no TLS connection to {error.host}, port {error.port}"
        case aiohttp.ClientConnectorError():
            code = error.os_error.errno
            return f"no connection to {error.host}, port {error.port} ({os.strerror(code) if code else 'no answer'})"
        case TimeoutError():
            return "the API is silent"
        case _:
            return "the connection was lost"

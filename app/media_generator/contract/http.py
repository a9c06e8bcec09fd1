"""The HTTP client for tests of providers: loopback addresses are allowed, answers can be shifted, and played again."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import urlsplit

from aiohttp import ThreadedResolver

from app.core.http_client.client import HttpClient
from app.core.http_client.protocol import Answer, Http, Request, Stream

_OPEN: Final = list["TestableHttp"]()
"""The clients that are open."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One call, as it was answered."""

    method: str
    url: str
    answer: Answer


@dataclass(slots=True)
class Playback:
    """Answers that are given again, without the network; each call gets the last answer to the same call."""

    exchanges: Sequence[Exchange]
    change: Callable[[Exchange], Answer] = field(default=lambda exchange: exchange.answer)
    """What becomes of an answer."""
    answered: list[Exchange] = field(default_factory=list[Exchange])

    def answer(self, request: Request) -> Answer:
        """The answer to a call; 404 to one that was never made."""
        same = [one for one in self.exchanges if (one.method, one.url) == (request.method, request.url)]
        if not same:
            return Answer(status=404, headers={}, body=b"", truncated=False, seconds=0.0)
        self.answered.append(same[-1])
        return self.change(same[-1])


class TestableHttp:
    """A client whose kept connections can behave as after a server that has answered twice, and that can play back."""

    __test__ = False

    def __init__(self, http: Http) -> None:
        self._http = http
        self._late: dict[str, Answer] | None = None
        """The last answer of each host, which is the answer of its next call; None: answers are not shifted."""
        self.streams_kept = 0
        """Bodies that were read from kept connections while answers were shifted."""
        self.record: list[Exchange] | None = None
        """Where calls are recorded; None: nowhere."""
        self.playback: Playback | None = None
        """The answers to all calls; None: they are made."""

    async def send(self, request: Request) -> Answer:
        """See `Http.send`."""
        if self.playback is not None:
            return self.playback.answer(request)
        answer = await self._http.send(request)
        if self.record is not None:
            self.record.append(Exchange(request.method, request.url, answer))
        if self._late is None or not request.keep_alive:
            return answer
        host = urlsplit(request.url).netloc
        late, self._late[host] = self._late.get(host, answer), answer
        return late

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncGenerator[Stream]:
        """See `Http.stream`."""
        self.streams_kept += self._late is not None and request.keep_alive
        if self.playback is not None:
            answer = self.playback.answer(request)
            yield Stream(status=answer.status, headers=answer.headers, chunks=_pieces(answer.body))
            return
        async with self._http.stream(request) as stream:
            if self.record is None:
                yield stream
                return
            body = bytearray()
            yield replace(stream, chunks=_copied(stream.chunks, body))
            answer = Answer(
                status=stream.status, headers=stream.headers, body=bytes(body), truncated=False, seconds=0.0
            )
            self.record.append(Exchange(request.method, request.url, answer))

    def shift(self, *, shifted: bool) -> None:
        """From now on each answer on a kept connection is that of the call before, or its own again."""
        self._late = {} if shifted else None


async def _copied(chunks: AsyncIterator[bytes], body: bytearray) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        body += chunk
        yield chunk


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    """A body in two pieces: an answer arrives in any number."""
    half = len(body) // 2
    for piece in (body[:half], body[half:]):
        if piece:
            yield piece


@asynccontextmanager
async def open_http() -> AsyncGenerator[Http]:
    """A client that may call the tests' own servers."""
    client = HttpClient(allow_private_addresses=True, resolver=ThreadedResolver)
    http = TestableHttp(client)
    _OPEN.append(http)
    try:
        yield http
    finally:
        _OPEN.remove(http)
        await client.close()


@contextmanager
def shifted_answers() -> Generator[list[TestableHttp]]:
    """Shift the answers of all open clients, and yield them."""
    clients = list(_OPEN)
    for client in clients:
        client.shift(shifted=True)
    try:
        yield clients
    finally:
        for client in clients:
            client.shift(shifted=False)


@contextmanager
def recorded_calls() -> Generator[list[Exchange]]:
    """Record the calls of all open clients."""
    calls = list[Exchange]()
    clients = list(_OPEN)
    for client in clients:
        client.record = calls
    try:
        yield calls
    finally:
        for client in clients:
            client.record = None


@contextmanager
def played_back(
    calls: Sequence[Exchange], change: Callable[[Exchange], Answer] = lambda exchange: exchange.answer
) -> Generator[Playback]:
    """Answer all calls of all open clients from a recording."""
    clients, playback = list(_OPEN), Playback(calls, change)
    for client in clients:
        client.playback = playback
    try:
        yield playback
    finally:
        for client in clients:
            client.playback = None

"""The HTTP client for tests of providers: loopback addresses are allowed, and answers can be shifted."""

from collections.abc import AsyncGenerator, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Final
from urllib.parse import urlsplit

from aiohttp import ThreadedResolver

from app.core.http_client.client import HttpClient
from app.core.http_client.protocol import Answer, Http, Request, Stream

_OPEN: Final = list["ShiftableHttp"]()
"""The clients that are open."""


class ShiftableHttp:
    """A client whose kept connections can behave as after a server that has answered twice."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._late: dict[str, Answer] | None = None
        """The last answer of each host, which is the answer of its next call; None: answers are not shifted."""
        self.streams_kept = 0
        """Bodies that were read from kept connections while answers were shifted."""

    async def send(self, request: Request) -> Answer:
        """See `Http.send`."""
        answer = await self._http.send(request)
        if self._late is None or not request.keep_alive:
            return answer
        host = urlsplit(request.url).netloc
        late, self._late[host] = self._late.get(host, answer), answer
        return late

    def stream(self, request: Request) -> AbstractAsyncContextManager[Stream]:
        """See `Http.stream`."""
        self.streams_kept += self._late is not None and request.keep_alive
        return self._http.stream(request)

    def shift(self, *, shifted: bool) -> None:
        """From now on each answer on a kept connection is that of the call before, or its own again."""
        self._late = {} if shifted else None


@asynccontextmanager
async def open_http() -> AsyncGenerator[Http]:
    """A client that may call the tests' own servers."""
    client = HttpClient(allow_private_addresses=True, resolver=ThreadedResolver)
    http = ShiftableHttp(client)
    _OPEN.append(http)
    try:
        yield http
    finally:
        _OPEN.remove(http)
        await client.close()


@contextmanager
def shifted_answers() -> Generator[list[ShiftableHttp]]:
    """Shift the answers of all open clients, and yield them."""
    clients = list(_OPEN)
    for client in clients:
        client.shift(shifted=True)
    try:
        yield clients
    finally:
        for client in clients:
            client.shift(shifted=False)

"""The load generator: keep-alive HTTP/1.1 on raw sockets in a process of its own, on a core of its own."""

import asyncio
import multiprocessing
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Final, Self, cast

import uvloop

from bench.stage import HOST, OTHERS, pin

CONNECTIONS: Final = 16
SECONDS: Final = 60.0
"""No run may take longer."""


@dataclass(frozen=True, slots=True)
class Run:
    """One burst: `total` requests, taken from `requests` one after the other and again from the start."""

    port: int
    requests: Sequence[bytes]
    total: int
    connections: int = CONNECTIONS
    keep_bodies: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    seconds: float
    statuses: Mapping[int, int]
    bodies: Sequence[bytes]

    def expect(self, status: int) -> Self:
        """Raise unless every answer had this status."""
        if set(self.statuses) != {status}:
            raise RuntimeError(f"expected {status} only, got {dict(self.statuses)}; {self.bodies[:1]}")
        return self


def request(method: str, path: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> bytes:
    """The bytes of one request."""
    lines = {"host": HOST, "user-agent": "fleek-bench", "accept": "*/*", **(headers or {})}
    if body is not None:
        lines |= {"content-type": "application/json", "content-length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + (body or b"")


class Generator:
    """The process; a context manager that ends it."""

    def __init__(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_main, args=(theirs,), name="fleek-bench-load", daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        pin(self._process.pid or 0, OTHERS)
        return self

    def __exit__(self, *error: object) -> None:
        self._pipe.close()
        self._process.terminate()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    def __call__(self, run: Run) -> Outcome:
        self._pipe.send(run)
        if not self._pipe.poll(SECONDS + 10):
            raise TimeoutError("the load generator does not answer")
        answer: Any = self._pipe.recv()
        if not isinstance(answer, Outcome):
            raise answer
        return answer


def _main(pipe: Connection) -> None:
    while True:
        try:
            run: Run = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            pipe.send(uvloop.run(_burst(run)))
        except Exception as error:  # noqa: BLE001 - told to the parent
            pipe.send(RuntimeError(repr(error)))


class _Burst:
    """What the connections of one run share."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.sent = 0
        self.answered = 0
        self.statuses: Counter[int] = Counter()
        self.bodies: list[bytes] = []
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def next(self) -> bytes | None:
        if self.sent == self.run.total:
            return None
        self.sent += 1
        return self.run.requests[(self.sent - 1) % len(self.run.requests)]

    def answer(self, status: int, body: bytes) -> None:
        self.statuses[status] += 1
        self.answered += 1
        if self.run.keep_bodies or (status >= 400 and not self.bodies):
            self.bodies.append(body)
        if self.answered == self.run.total and not self.over.done():
            self.over.set_result(None)

    def fail(self, error: Exception) -> None:
        if not self.over.done():
            self.over.set_exception(error)


class _Client(asyncio.Protocol):
    """One connection: the next request goes out when the answer to the last one is complete."""

    def __init__(self, burst: _Burst) -> None:
        self._burst = burst
        self._buffer = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own, alike but not derived

    def send(self) -> None:
        following = self._burst.next()
        if following is not None:
            self._transport.write(following)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        status = int(head[9:12])
        at = head.find(b"\r\ncontent-length:")
        if at < 0 and status != 304:
            self._burst.fail(RuntimeError(f"an answer without length: {head!r}"))
            return
        size = int(head[at + 17 :].split(b"\r", 1)[0]) if at >= 0 and status != 304 else 0
        if len(self._buffer) < end + 4 + size:
            return
        body, self._buffer = self._buffer[end + 4 : end + 4 + size], self._buffer[end + 4 + size :]
        self._burst.answer(status, body)
        self.send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._burst.over.done():
            self._burst.fail(exc or ConnectionError("the server closed the connection"))


async def _burst(run: Run) -> Outcome:
    burst, loop = _Burst(run), asyncio.get_running_loop()
    opened = [await loop.create_connection(lambda: _Client(burst), HOST, run.port) for _ in range(run.connections)]
    begun = time.perf_counter()
    for _, client in opened:
        client.send()
    try:
        async with asyncio.timeout(SECONDS):
            await burst.over
    finally:
        seconds = time.perf_counter() - begun
        if not burst.over.done():
            burst.over.cancel()
        for transport, _ in opened:
            transport.close()
    return Outcome(seconds, dict(burst.statuses), burst.bodies)

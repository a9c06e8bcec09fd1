"""What providers answered, recorded as it passes through their HTTP client, without any code of theirs.

An answer that was paid for is kept if nothing else of the purchase can be (`app/jobs/execution/answer_keeper.py`).
Every call of the engine to an adapter that may bring one runs in `recorded_answers`; the recorder belongs to the task
that makes the call, so thousands of calls do not see each other's.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Final

from app.core.http_client.protocol import Answer, Http, Request, Stream

MOST_STREAMED_BYTES: Final = 64 * 1024
"""Bytes that are recorded of an answer that is streamed: results are streamed into the vault, which keeps them."""


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """An answer, as it came."""

    status: int
    body: bytes
    """Whole, unless the adapter or the recorder has cut it off."""


class AnswerRecorder:
    """The last answer with a body that arrived during a call to an adapter."""

    def __init__(self) -> None:
        self.last: RawAnswer | None = None

    def record(self, status: int, body: bytes) -> None:
        """Keep an answer in place of the one before."""
        if body:
            self.last = RawAnswer(status, body)


_RECORDER: Final = ContextVar[AnswerRecorder | None]("answer_recorder", default=None)


@contextmanager
def recorded_answers() -> Generator[AnswerRecorder]:
    """Record what arrives within this block, in this task."""
    recorder = AnswerRecorder()
    token = _RECORDER.set(recorder)
    try:
        yield recorder
    finally:
        _RECORDER.reset(token)


class RecordingHttp:
    """An `Http` that shows its answers to the recorder of the call that makes them."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def send(self, request: Request) -> Answer:
        """See `Http.send`."""
        answer = await self._http.send(request)
        if (recorder := _RECORDER.get()) is not None:
            recorder.record(answer.status, answer.body)
        return answer

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncGenerator[Stream]:
        """See `Http.stream`."""
        recorder = _RECORDER.get()
        async with self._http.stream(request) as answer:
            yield answer if recorder is None else replace(answer, chunks=_recorded(answer, recorder))


async def _recorded(answer: Stream, recorder: AnswerRecorder) -> AsyncIterator[bytes]:
    beginning = bytearray()
    try:
        async for chunk in answer.chunks:
            beginning += chunk[: MOST_STREAMED_BYTES - len(beginning)]
            yield chunk
    finally:
        recorder.record(answer.status, bytes(beginning))

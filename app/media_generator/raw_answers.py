"""What providers answered, recorded as it passes through their HTTP client, without any code of theirs.

An answer that was paid for is kept if nothing else of the purchase can be (`app/jobs/execution/answer_keeper.py`).
Calls of the engine to an adapter that may bring one name a list for it in ANSWERS, which belongs to the task that makes
the call: thousands of calls do not see each other's.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
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


ANSWERS: Final = ContextVar[list[RawAnswer] | None]("answers", default=None)
"""Where the answer to the last request of this task goes; None: nowhere."""


class RecordingHttp:
    """An `Http` that shows its answers to the recorder of the call that makes them."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def send(self, request: Request) -> Answer:
        """See `Http.send`."""
        answers = ANSWERS.get()
        if answers is not None:
            # What another request was answered is not the answer to this one.
            answers.clear()
        answer = await self._http.send(request)
        if answers is not None:
            answers.append(RawAnswer(answer.status, answer.body))
        return answer

    @asynccontextmanager
    async def stream(self, request: Request) -> AsyncGenerator[Stream]:
        """See `Http.stream`."""
        answers = ANSWERS.get()
        if answers is not None:
            answers.clear()
        async with self._http.stream(request) as answer:
            yield answer if answers is None else replace(answer, chunks=_recorded(answer, answers))


async def _recorded(answer: Stream, answers: list[RawAnswer]) -> AsyncIterator[bytes]:
    beginning = bytearray()
    try:
        async for chunk in answer.chunks:
            beginning += chunk[: MOST_STREAMED_BYTES - len(beginning)]
            yield chunk
    finally:
        answers[:] = [RawAnswer(answer.status, bytes(beginning))]

"""The adapters of the simulator: `sim` can be asked for a purchase by its attempt, `blind` cannot.

One connection for each call and nothing but asyncio, so that a worker that loads it starts as fast as one
that does not. The server's address stands in SIMULATOR_URL, and in SIMULATOR_SUBMIT_SECONDS how long an answer to
`submit` may take.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

from fleek.providers import (
    AnswerLostError,
    BusyError,
    CancelAnswer,
    Canceled,
    Capabilities,
    Failed,
    GenerationFailedError,
    InputRefusedError,
    MediaGeneratorModel,
    ModelCard,
    NotReachedError,
    Outcome,
    Output,
    OutputError,
    Reference,
    Running,
    Submission,
    Succeeded,
    UnconfirmedOutputError,
)

CONNECT_SECONDS: Final = 1.0
SUBMIT_SECONDS: Final = float(os.environ.get("SIMULATOR_SUBMIT_SECONDS", "2"))
ANSWER_SECONDS: Final = 5.0
SUBMIT_TAKES_AT_MOST: Final = timedelta(seconds=SUBMIT_SECONDS + 1)
CHUNK_BYTES: Final = 16 * 1024
POLL_AGAIN: Final = timedelta(seconds=0.2)
COST: Final = Decimal("0.01")

MODES: Final = (
    "ok",
    "accept_then_drop",
    "accept_then_500",
    "accept_then_503",
    "accept_then_garbage",
    "accept_then_silence",
    "not_accepted_503",
    "not_accepted_drop",
    "slow",
    "busy",
    "long_wait",
    "refused",
    "fail_late",
)
OUTPUTS: Final = ("", "output_cut", "output_html", "output_drips")
FILES: Final = ("", "file_cut", "file_unknown", "file_pdf", "file_svg", "file_trailing", "file_late_header")

IMAGE: Final = ModelCard(
    name="image",
    title="Simulated pictures",
    description="A grey picture, after whatever trouble the input asks for.",
    output_types=("image/png",),
    input_schema={
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "mode": {"enum": list(MODES), "default": "ok"},
            "findable": {"type": "boolean", "default": True},
            "stoppable": {"type": "boolean", "default": True},
            "delay": {"type": "number", "minimum": 0, "maximum": 3600, "default": 0},
            "accept_after": {"type": "number", "minimum": 0, "maximum": 2.9, "default": 1.5},
            "busy_times": {"type": "integer", "minimum": 0, "maximum": 10, "default": 1},
            "size": {"type": "integer", "minimum": 1000, "maximum": 30_000_000, "default": 60_000},
            "output": {"enum": list(OUTPUTS), "default": ""},
            "file": {"enum": list(FILES), "default": ""},
            "output_times": {"type": "integer", "minimum": 1, "maximum": 10, "default": 1},
        },
    },
    example={"mode": "ok", "delay": 0.2},
    version="1",
)
SPARE: Final = replace(IMAGE, name="spare", description="The same, where a route leads to in the end.")


@dataclass
class Answer:
    """The head of an answer; the body is still to be read."""

    status: int
    headers: dict[str, str]
    body: asyncio.StreamReader

    async def read(self) -> bytes:
        return await self.body.readexactly(int(self.headers["content-length"]))

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body, piece by piece; without a length it ends with the connection."""
        length = self.headers.get("content-length")
        left = CHUNK_BYTES if length is None else int(length)
        while left:
            # For each chunk: how long the whole takes depends on the store as well.
            async with asyncio.timeout(ANSWER_SECONDS):
                chunk = await self.body.read(min(left, CHUNK_BYTES))
            if not chunk and length is not None:
                raise EOFError(f"{left} bytes are missing")
            if not chunk:
                raise UnconfirmedOutputError("the simulator's result states no length")
            left -= len(chunk) if length is not None else 0
            yield chunk

    async def json(self) -> dict[str, Any]:
        """The object that it holds.

        Raises:
            ValueError: It holds none.
        """
        found = json.loads(await self.read())
        if not isinstance(found, dict):
            raise ValueError("it is no object")  # noqa: TRY004 - as what cannot be read at all
        return found


@asynccontextmanager
async def _asked(method: str, path: str, content: Any = None) -> AsyncIterator[Answer]:
    """One request on a connection of its own.

    Raises:
        NotReachedError: There is no connection.
        OSError, EOFError: It broke.
    """
    where = urlsplit(os.environ["SIMULATOR_URL"])
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(where.hostname, where.port)
    except OSError as error:
        raise NotReachedError(f"the simulator cannot be reached: {type(error).__name__}") from error
    try:
        body = b"" if content is None else json.dumps(content).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nhost: simulator\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        yield Answer(int(first.split()[1]), headers, reader)
    finally:
        writer.transport.abort()


def _order(submission: Submission) -> dict[str, Any]:
    # The prompt is unique to each media: by it the simulator counts what was bought twice.
    return {"attempt_id": str(submission.attempt_id), "media": submission.prompt, "input": dict(submission.input)}


def _reference(found: Mapping[str, Any]) -> Reference:
    return Reference(external_id=found["id"])


class SimulatorMediaGeneratorModel(MediaGeneratorModel):
    """Can be asked what became of an attempt."""

    name: str = "sim"
    capabilities: ClassVar[Capabilities] = Capabilities(cancel=True, findable=True, submit_timeout=SUBMIT_TAKES_AT_MOST)

    def models(self) -> Sequence[ModelCard]:
        return (IMAGE, SPARE)

    async def submit(self, submission: Submission) -> Reference:
        try:
            async with asyncio.timeout(SUBMIT_SECONDS), _asked("POST", "/submit", _order(submission)) as answer:
                found = await answer.json()
        except (OSError, EOFError, ValueError) as error:
            raise AnswerLostError(f"the simulator did not answer: {type(error).__name__}") from error
        if answer.status == 429:
            pause = timedelta(seconds=int(answer.headers["retry-after"]))
            raise BusyError("the simulator is busy", retry_after=pause)
        if answer.status >= 500:
            raise AnswerLostError(f"the simulator answered {answer.status}")
        if answer.status >= 400:
            raise InputRefusedError(f"the simulator answered {answer.status}")
        if "id" not in found:
            raise AnswerLostError("the simulator took something and did not say what")
        return _reference(found)

    async def poll(self, reference: Reference) -> Outcome:
        found = await _told("GET", f"/poll/{reference.external_id}")
        if found.get("id", reference.external_id) != reference.external_id:
            raise NotReachedError("the simulator answered about something else")
        match found.get("state"):
            case "running":
                return Running(wait=POLL_AGAIN)
            case "done":
                return Succeeded((Output(reference.external_id),), cost=COST)
            case "canceled":
                return Canceled(cost=COST)
            case "failed":
                return Failed(GenerationFailedError("it failed, as planned"))
        return Failed(OutputError("the simulator does not know it"))

    async def open(self, output: Output) -> AsyncIterator[bytes]:
        try:
            async with _asked("GET", f"/output/{output.location}") as answer:
                if answer.status != 200:
                    raise OutputError(f"the simulator answered {answer.status}")
                async for chunk in answer.chunks():
                    yield chunk
        except (OSError, EOFError) as error:
            raise NotReachedError(f"the simulator's result broke off: {type(error).__name__}") from error

    async def cancel(self, reference: Reference) -> CancelAnswer:
        found = await _told("POST", f"/cancel/{reference.external_id}")
        return CancelAnswer.CANCELED if found["state"] == "canceled" else CancelAnswer.TOO_LATE

    async def find(self, submission: Submission, since: datetime) -> Reference | None:
        found = await _told("POST", "/find", _order(submission))
        if "error" in found:
            raise AnswerLostError(found["error"])
        return _reference(found) if found["id"] is not None else None


class BlindMediaGeneratorModel(SimulatorMediaGeneratorModel):
    """Cannot."""

    name: str = "blind"
    capabilities: ClassVar[Capabilities] = Capabilities(cancel=True, submit_timeout=SUBMIT_TAKES_AT_MOST)


async def _told(method: str, path: str, content: Any = None) -> dict[str, Any]:
    """A question that costs nothing, and may be asked again."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS), _asked(method, path, content) as answer:
            found = await answer.json()
    except (OSError, EOFError, ValueError) as error:
        raise NotReachedError(f"the simulator did not answer: {type(error).__name__}") from error
    if answer.status >= 500:
        raise NotReachedError(f"the simulator answered {answer.status}")
    return found

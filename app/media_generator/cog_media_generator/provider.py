"""Cog: any model in a container that Cog has built, at an address of yours.

A Cog server keeps no result: a purchase is one request whose answer is the result.

1. `PUT /predictions/{attempt_id}`, once. From here on a failure means that nobody knows, unless the server refuses.
2. The answer streams into the vault as it comes. An answer that breaks off is not kept.
3. The reference names it. **The commit point** is the engine's: it stores the reference.
4. `poll` and `open` read the answer from the vault, in any process; `settled` drops it.

Asked again with the same id while it runs, the server says so and starts nothing; later it computes again, on your own
machine. So a lost answer is asked for once more, unless it had come: what lies under the attempt's id is its purchase.
"""

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, ClassVar, Final, Self
from urllib.parse import urlsplit

import msgspec
from pydantic import Field

from app.core.http import OutgoingError, Request, Stream
from app.media_generator.cards import ModelCard
from app.media_generator.cog_outputs import data_of, files
from app.media_generator.cog_schema import input_schema
from app.media_generator.errors import BusyError, GenerationFailedError, NotReachedError, OutputError
from app.media_generator.kept_answers import KeptAnswers
from app.media_generator.loose import UNREADABLE
from app.media_generator.media_generator_model import (
    Capabilities,
    Failed,
    MediaGeneratorModel,
    Outcome,
    Output,
    Reference,
    Submission,
    Succeeded,
)
from app.media_generator.over_http import download, from_answer, from_outgoing
from app.media_generator.setup import ProviderSettings, Setup

CHUNK_BYTES: Final = 64 * 1024
MOST_BYTES: Final = 256 * 1024 * 1024
"""Of an answer, which is held while it is read."""
MOST_WORDS: Final = 64 * 1024
"""Bytes of a refusal that are read."""

ANY_MODEL: Final = ModelCard(
    name="model",
    title="A Cog model",
    description="Whatever the container at this address predicts. Its parameters are checked there alone; with a card "
    "in the catalogue they are checked before.",
    output_types=("image/png", "image/jpeg", "image/webp", "video/mp4", "audio/mpeg", "audio/wav"),
    input_schema={"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object"},
    example={},
)


class CogSettings(ProviderSettings):
    """Settings of an account."""

    base_url: str = Field(pattern="^https?://[^/]+")
    """Where the container answers."""
    submit_timeout: float = Field(default=600, ge=1, le=36_000)
    """Seconds that a prediction may take: it is one request, and its answer is the result."""


class _Answer(msgspec.Struct):
    status: str = ""
    output: Any = None
    error: Any = None
    logs: str | None = None
    metrics: dict[str, Any] | None = None


class CogMediaGeneratorModel(MediaGeneratorModel):
    """Blocking; the server's own slots decide how many at once, a busy one is asked again."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        blocking=True,
        idempotent_submit=True,
        keeps_answers=True,
        max_outputs=100,
        reads_urls=True,
        reads_inside=True,
        data_uri_bytes=20 * 1024 * 1024,
    )

    def __init__(self, setup: Setup, settings: CogSettings) -> None:
        self.name = setup.account.name
        self.capabilities = replace(  # type: ignore[misc]
            type(self).capabilities,  # pyright: ignore[reportAttributeAccessIssue]
            submit_timeout=timedelta(seconds=settings.submit_timeout),
        )
        self._http = setup.http
        self._answers = KeptAnswers(self.name, setup.vault, most_bytes=MOST_BYTES)
        self._base = settings.base_url.rstrip("/")
        self._cards = tuple(setup.models) or (ANY_MODEL,)

    @classmethod
    def open_account(cls, setup: Setup) -> Self:
        """See the base class."""
        return cls(setup, setup.account.read(CogSettings))

    def models(self) -> Sequence[ModelCard]:
        """See the base class; those of the catalogue, or one that takes anything."""
        return self._cards

    async def submit(self, submission: Submission) -> Reference:
        """See the base class; returns when the whole answer is in the vault."""
        card = next(card for card in self._cards if card.name == submission.model)
        prompt = card.options.get("prompt", "prompt")
        given = {**({} if prompt is None else {prompt: submission.prompt}), **submission.input}
        request = Request(
            method="PUT",
            url=f"{self._base}/predictions/{submission.attempt_id}",
            headers={"Content-Type": "application/json"},
            body=json.dumps({"input": given}).encode(),
            timeout=self.capabilities.submit_timeout.total_seconds(),
            guarded=False,
        )
        try:
            async with self._http.stream(request) as answer:
                if answer.status != HTTPStatus.OK:
                    await self._refuse(answer)
                kept = await self._answers.keep(submission.attempt_id, answer.chunks)
        except OutgoingError as error:
            raise from_outgoing(self.name, error, spending=True) from error
        return _reference(submission, kept)

    async def find(self, submission: Submission, since: datetime) -> Reference | None:  # noqa: ARG002 - found by its id
        """See the base class; the server is not asked, it keeps no result."""
        kept = await self._answers.find(submission.attempt_id)
        return None if kept is None else _reference(submission, kept)

    async def poll(self, reference: Reference) -> Outcome:
        """See the base class; nobody is asked: the answer lies in the vault."""
        name: str = reference.data["answer"]
        try:
            answer = await self._read(name)
        except OutputError as error:
            return Failed(error)
        if answer.status != "succeeded":
            return Failed(GenerationFailedError(str(answer.error or f"it ended as {answer.status!r}")[:2_000]))
        seconds = (answer.metrics or {}).get("predict_time")
        units = {"second": float(seconds)} if isinstance(seconds, int | float) else {}
        found = files(answer.output)
        outputs = [one if _is_url(one) else f"{name}#{index}" for index, one in enumerate(found)]
        return Succeeded(tuple(map(Output, outputs)), units=units, log=answer.logs)

    async def open(self, output: Output) -> AsyncIterator[bytes]:
        """See the base class."""
        if _is_url(output.location):
            ours = urlsplit(output.location)[:2] == urlsplit(self._base)[:2]
            request = Request(method="GET", url=output.location, keep_alive=True, guarded=not ours)
            async for chunk in download(self._http, request, provider=self.name):
                yield chunk
            return
        name, _, index = output.location.rpartition("#")
        content = data_of(files((await self._read(name)).output)[int(index)])
        for start in range(0, len(content), CHUNK_BYTES):
            yield content[start : start + CHUNK_BYTES]

    async def refresh(self, card: ModelCard) -> ModelCard:
        """See the base class; the schema that the container was built with."""
        request = Request(method="GET", url=f"{self._base}/openapi.json", keep_alive=True, guarded=False)
        try:
            answer = await self._http.send(request)
        except OutgoingError as error:
            raise from_outgoing(self.name, error, spending=False) from error
        if answer.status != HTTPStatus.OK:
            raise NotReachedError(f"{self.name} has no /openapi.json: it answered {answer.status}")
        return replace(card, input_schema=input_schema(json.loads(answer.body)))

    async def settled(self, reference: Reference) -> None:
        """See the base class."""
        await self._answers.drop(reference.data["answer"])

    async def _refuse(self, answer: Stream) -> None:
        """Raise what an answer means that is no result."""
        body = b""
        async for chunk in answer.chunks:
            body += chunk
            if len(body) > MOST_WORDS:
                break
        words = body[:500].decode(errors="replace")
        if answer.status in {HTTPStatus.CONFLICT, HTTPStatus.ACCEPTED}:
            # All its slots are taken, or it still works on this very id.
            raise BusyError(f"{self.name} is busy: {words}")
        raise from_answer(self.name, answer.status, answer.headers, words, spending=True)

    async def _read(self, name: str) -> _Answer:
        body = b"".join([chunk async for chunk in self._answers.read(name)])
        try:
            return msgspec.json.decode(body, type=_Answer)
        except UNREADABLE as error:
            raise OutputError(f"the answer of {self.name} cannot be read: {error}") from error


def _reference(submission: Submission, kept: str) -> Reference:
    return Reference(str(submission.attempt_id), {"answer": kept})


def _is_url(location: str) -> bool:
    return location[:8].lower().startswith(("http://", "https://"))

"""Cog: any model in a container built with Cog, at an address of the operator's.

A Cog server does not store results: it returns each once. Without COG_CALLBACK_URL a purchase is one request whose
answer is the result:

1. `PUT /predictions/{attempt_id}`, once. From here on a failure means outcome unknown, unless the server refuses.
2. The answer is streamed into the vault. An answer that breaks off is not stored.
3. The reference names it. **The commit point** is the engine's: it stores the reference.
4. `poll` and `open` read the answer from the vault, in any process; `settled` deletes it.

A server stops computing when its client disconnects. With COG_CALLBACK_URL it is asked to answer at once and call back:

1. Read the server's start time, then `PUT /predictions/{attempt_id}`; the reference holds that start time.
2. The server calls back with the result; the API streams it into the vault (`take_answer`).
3. `poll` reads the vault. While nothing is there it checks the server's health: a restarted server has lost the
   prediction, which is then submitted again; if the server stays idle, its callback did not reach us.

If the same id is submitted while it runs, the server reports that and starts nothing; later it computes it again, on
the operator's own machine. So a lost answer is submitted once more, unless one is stored under the attempt's id.
"""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from hmac import compare_digest
from http import HTTPStatus
from time import monotonic
from typing import ClassVar, Final, Self
from uuid import UUID

from app.core.errors import SettingsError
from app.core.http_client.protocol import OutgoingError, Request, Stream
from app.media_generator.accounts import ProviderSetup
from app.media_generator.adapter_kit.answer_store import AnswerStore, AnswerTooLongError
from app.media_generator.adapter_kit.cog_outputs import failure, files, kept_files, predict_seconds
from app.media_generator.adapter_kit.cog_schema import input_schema
from app.media_generator.adapter_kit.content_encodings import decoded_chunks
from app.media_generator.adapter_kit.file_places import data_chunks, is_same_origin
from app.media_generator.adapter_kit.http import REFUSALS, download, from_answer, from_outgoing, is_success
from app.media_generator.adapter_kit.lenient_json import read
from app.media_generator.callbacks import CallbackRefusedError, SentFile
from app.media_generator.cog_media_generator.server import CogServer
from app.media_generator.cog_media_generator.settings import CogSettings
from app.media_generator.cog_media_generator.wire import (
    Answer,
    file_location,
    is_url,
    prediction,
)
from app.media_generator.errors import (
    AnswerLostError,
    AnswerPendingError,
    BusyError,
    GenerationFailedError,
    NotReachedError,
    OutputError,
    SilentError,
    UnreadableAnswerError,
    VoidError,
)
from app.media_generator.media_generator_model import (
    CancelAnswer,
    Canceled,
    Capabilities,
    Failed,
    MediaGeneratorModel,
    Outcome,
    Output,
    Reference,
    Running,
    Submission,
    Succeeded,
)
from app.media_generator.model_card import ModelCard

MAX_ANSWER_BYTES: Final = 256 * 1024 * 1024
"""Largest answer, which is held in memory while it is parsed."""
MAX_MESSAGE_BYTES: Final = 64 * 1024
"""Bytes that are read of an error message, and of a callback that only reports progress."""
CANCELED: Final = frozenset({"canceled", "aborted"})
UNSPENT: Final = {**REFUSALS, HTTPStatus.CONFLICT: BusyError}
"""409: all its slots are occupied, and nothing was started: `RunnerBusyException` in python/cog/server/http.py."""
IDLE_SECONDS: Final = 600.0
"""How long a server may be idle before its callback counts as lost; it retries callbacks for some minutes."""

GENERIC_MODEL: Final = ModelCard(
    name="model",
    title="A Cog model",
    description="The model of the container at this address. Only the container validates its parameters; with a card "
    "in the catalogue they are validated earlier.",
    output_types=("image/png", "image/jpeg", "image/webp", "video/mp4", "audio/mpeg", "audio/wav", "text/plain"),
    input_schema={"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object"},
    example={},
)


class CogMediaGeneratorModel(MediaGeneratorModel):
    """The server's slots limit concurrency; a busy server is retried."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        idempotent_submit=True,
        keeps_answers=True,
        max_outputs=100,
        reads_urls=True,
        reads_inside=True,
        data_uri_bytes=20 * 1024 * 1024,
    )

    def __init__(self, setup: ProviderSetup, settings: CogSettings) -> None:
        self.name = setup.account.name
        can = type(self).capabilities
        if settings.callback_url is None:
            can = replace(can, blocking=True, submit_timeout=timedelta(seconds=settings.submit_timeout))
        else:
            can = replace(can, webhook=True, webhook_brings_answer=True, cancel=True, cancel_stops_billing=True)
            self.callback_base = settings.callback_url.rstrip("/")
        self.capabilities = can  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
        self._upload_key = settings.upload_key
        self._single_slot = settings.concurrency == 1
        self._idle_since = dict[str, float]()
        self._http = setup.http
        self._answers = AnswerStore(self.name, setup.vault, most_bytes=MAX_ANSWER_BYTES)
        self._server = CogServer(self.name, settings.base_url.rstrip("/"), setup.http)
        self._cards = tuple(setup.models) or (GENERIC_MODEL,)

    @classmethod
    def open_account(cls, setup: ProviderSetup) -> Self:
        """See the base class."""
        settings = setup.account.read(CogSettings)
        if settings.upload_key is not None and settings.callback_url is None:
            key, url = setup.account.variable("upload_key"), setup.account.variable("callback_url")
            raise SettingsError(f"{key} needs {url}: files are uploaded only for answers that come as callbacks")
        return cls(setup, settings)

    def models(self) -> Sequence[ModelCard]:
        """See the base class; those of the catalogue, or a generic one that accepts any input."""
        return self._cards

    async def submit(self, submission: Submission) -> Reference:
        """See the base class; returns when the complete answer is in the vault, or when the server has started."""
        card = next(card for card in self._cards if card.name == submission.model)
        prompt = card.options.get("prompt", "prompt")
        given = {**({} if prompt is None else {prompt: submission.prompt}), **submission.input}
        server = None if submission.callback_url is None else await self._start_of_server()
        timeout = self.capabilities.submit_timeout.total_seconds()
        try:
            async with self._http.stream(prediction(self._server.base, submission, given, timeout=timeout)) as answer:
                if not is_success(answer.status):
                    await self._raise_refusal(answer)
                chunks = decoded_chunks(answer.headers, answer.chunks, AnswerLostError)
                if answer.status == HTTPStatus.ACCEPTED:
                    if submission.callback_url is not None:
                        return Reference(str(submission.attempt_id), {"server": server})
                    chunks = await self._result_of_accepted(chunks)
                kept = await self._keep(submission.attempt_id, chunks)
        except OutgoingError as error:
            raise from_outgoing(self.name, error, spending=True) from error
        return _reference(submission.attempt_id, kept)

    async def find(self, submission: Submission, since: datetime) -> Reference | None:  # noqa: ARG002 - the id is enough
        """See the base class; reads the vault, because the server stores no results."""
        kept = await self._answers.find(submission.attempt_id)
        return None if kept is None else _reference(submission.attempt_id, kept)

    async def take_answer(self, attempt_id: UUID, chunks: AsyncIterator[bytes]) -> Reference | None:
        """See the base class."""
        beginning, is_whole = await _beginning(chunks, MAX_MESSAGE_BYTES)
        if is_whole and _is_finished(beginning) is False:
            return None
        return _reference(attempt_id, await self._keep(attempt_id, _chain(beginning, chunks)))

    async def take_file(self, file: SentFile) -> str:
        """See the base class; the files of one answer have different names."""
        key = None if self._upload_key is None else self._upload_key.get_secret_value()
        if key is None or not compare_digest(file.key.encode(), key.encode()):
            raise CallbackRefusedError(f"this is not the upload URL of {self.name}")
        part = sha256(file.name.encode()).hexdigest()[:32]
        await self._answers.keep_file(file.attempt_id, part, file.chunks)
        return f"{file.attempt_id}.{part}"

    async def poll(self, reference: Reference) -> Outcome:
        """See the base class; the answer is in the vault, or the server is still working."""
        try:
            name = await self._answer_name(reference)
            if name is None:
                return await self._pending_outcome(reference)
            answer = await self._read(name)
        except OutputError as error:
            return Failed(error)
        except _UnreadableAnswerInVaultError as error:
            # It will be the same on every poll.
            return Failed(OutputError(error.message))
        self._idle_since.pop(reference.external_id, None)
        if answer.status in CANCELED:
            return Canceled()
        found = self._files(answer, name)
        if answer.status != "succeeded" and not found:
            return Failed(GenerationFailedError(failure(answer.error, answer.status)))
        seconds = predict_seconds(answer.metrics)
        units = {} if seconds is None else {"second": seconds}
        outputs = [file_location(one, name) or f"{name}#{index}" for index, one in enumerate(found)]
        return Succeeded(tuple(map(Output, outputs)), units=units, log=_log(answer))

    async def cancel(self, reference: Reference) -> CancelAnswer:
        """See the base class; a callback confirms the cancellation, unless the server has lost the prediction."""
        answer = await self._server.cancel(reference.external_id)
        lost = answer is CancelAnswer.TOO_LATE and isinstance(await self._pending_outcome(reference), Failed)
        return CancelAnswer.CANCELED if lost else answer

    async def open(self, output: Output) -> AsyncIterator[bytes]:
        """See the base class."""
        if is_url(output.location):
            ours = is_same_origin(output.location, self._server.base)
            request = Request(method="GET", url=output.location, guarded=not ours)
            async for chunk in download(self._http, request, provider=self.name):
                yield chunk
            return
        if "#" not in output.location:
            async for chunk in self._answers.read(output.location):
                yield chunk
            return
        name, _, index = output.location.rpartition("#")
        async for chunk in data_chunks(self._files(await self._read(name), name)[int(index)]):
            yield chunk

    async def refresh(self, card: ModelCard) -> ModelCard:
        """See the base class; reads the schema that the container was built with."""
        return replace(card, input_schema=input_schema(await self._server.document()))

    async def settled(self, reference: Reference) -> None:
        """See the base class."""
        name = await self._answer_name(reference)
        if name is None:
            return
        if self._upload_key is not None:
            with suppress(_UnreadableAnswerInVaultError):
                for one in self._files(await self._read(name), name):
                    place = file_location(one, name)
                    if place is not None and not is_url(place):
                        await self._answers.drop(place)
        await self._answers.drop(name)

    async def _answer_name(self, reference: Reference) -> str | None:
        named: str | None = reference.data.get("answer")
        return named or await self._answers.find(UUID(reference.external_id))

    async def _pending_outcome(self, reference: Reference) -> Outcome:
        """The state of a prediction whose answer has not arrived."""
        health, server = await self._server.health(), reference.data.get("server")
        if None not in {health.start, server} and health.start != server:
            # It may have called back just before it was restarted.
            if await self._answer_name(reference) is not None:
                return Running(wait=timedelta(0))
            return Failed(VoidError(f"{self.name} was restarted and has lost this prediction"))
        if not self._single_slot or health.status != "READY":
            self._idle_since.pop(reference.external_id, None)
            return Running()
        if monotonic() - self._idle_since.setdefault(reference.external_id, monotonic()) < IDLE_SECONDS:
            return Running()
        del self._idle_since[reference.external_id]
        message = f"{self.name} is idle and its callback did not arrive: can the container reach {self.callback_base}?"
        return Failed(SilentError(message))

    async def _keep(self, attempt_id: UUID, chunks: AsyncIterator[bytes]) -> str:
        try:
            return await self._answers.keep(attempt_id, chunks, external_id=str(attempt_id))
        except AnswerTooLongError as error:
            # It would be too long on every retry.
            failed = json.dumps({"status": "failed", "error": error.message}).encode()
            return await self._answers.keep(attempt_id, _chain(failed, None))

    async def _raise_refusal(self, answer: Stream) -> None:
        """Raise the error for an unsuccessful answer."""
        body = b""
        async for chunk in answer.chunks:
            body += chunk
            if len(body) > MAX_MESSAGE_BYTES:
                break
        message = body[:500].decode(errors="replace")
        raise from_answer(self.name, answer.status, answer.headers, message, spending=True, unspent=UNSPENT)

    async def _start_of_server(self) -> str | None:
        try:
            return (await self._server.health()).start
        except UnreadableAnswerError as error:
            # Nothing has been submitted yet.
            raise NotReachedError(error.message) from error

    async def _result_of_accepted(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The body of an answer that something was accepted, where it is the result already.

        Raises:
            AnswerPendingError: It is not.
        """
        try:
            beginning, is_whole = await _beginning(chunks, MAX_ANSWER_BYTES)
        except OutgoingError:
            beginning, is_whole = b"", True
        if is_whole and not _is_finished(beginning):
            raise AnswerPendingError(f"{self.name} is still working on it")
        return _chain(beginning, chunks)

    def _files(self, answer: Answer, name: str) -> list[str]:
        url = f"{self._server.base}/predictions/{name.rpartition('/')[2]}"
        # What was made before it failed was paid for, so it is the result.
        is_failed = answer.status == "failed"
        return kept_files(answer.output, answer.input, url) if is_failed else files(answer.output, url)

    async def _read(self, name: str) -> Answer:
        body = b"".join([chunk async for chunk in self._answers.read(name)])
        try:
            return read(body, Answer, of=self.name)
        except UnreadableAnswerError as error:
            raise _UnreadableAnswerInVaultError(error.message) from error


class _UnreadableAnswerInVaultError(UnreadableAnswerError):
    """What cannot be read is the stored answer, and not that of the server."""


def _log(answer: Answer) -> str | None:
    if answer.status != "failed":
        return answer.logs
    return f"{answer.logs or ''}\n{failure(answer.error, answer.status)}".strip()


async def _beginning(chunks: AsyncIterator[bytes], size: int) -> tuple[bytes, bool]:
    """The first bytes of a body, this many or some more, and whether that is all."""
    beginning = bytearray()
    async for chunk in chunks:
        beginning += chunk
        if len(beginning) > size:
            return bytes(beginning), False
    return bytes(beginning), True


def _is_finished(body: bytes) -> bool | None:
    """Whether a body is the end of a prediction; None: it cannot be read."""
    try:
        return read(body, Answer).is_finished
    except UnreadableAnswerError:
        return None


def _reference(attempt_id: UUID, kept: str) -> Reference:
    return Reference(str(attempt_id), {"answer": kept})


async def _chain(beginning: bytes, rest: AsyncIterator[bytes] | None) -> AsyncIterator[bytes]:
    yield beginning
    if rest is not None:
        async for chunk in rest:
            yield chunk

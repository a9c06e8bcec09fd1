"""The provider `openai`: the Images API of OpenAI and of every compatible server.

A purchase is one request whose answer is the result:

1. The request is sent, once. From here on a failure means outcome unknown, unless the server refuses.
2. The answer is streamed into the vault under the attempt's id, unparsed. One that breaks off
   before a picture began is not stored.
3. The reference names it. **The commit point** is the engine's: it stores the reference.
4. `poll` reads the answer from the vault, `open` decodes a picture from it, any number of times and in any process.
5. `settled` deletes it. After a crash before 3, `find` finds the answer under the attempt's id. A crash before 5 leaves
   an unused object in the vault.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final, Self

from pydantic import Field, SecretStr

from app.core.errors import SettingsError
from app.core.http_client.protocol import OutgoingError, Request
from app.media_generator.accounts import ProviderSettings, ProviderSetup
from app.media_generator.adapter_kit.answer_store import AnswerStore
from app.media_generator.adapter_kit.content_encodings import decoded_chunks
from app.media_generator.adapter_kit.file_places import data_chunks, is_data_uri, is_same_origin
from app.media_generator.adapter_kit.http import download, from_outgoing, is_success
from app.media_generator.adapter_kit.lenient_json import members
from app.media_generator.errors import (
    AnswerLostError,
    ContentStoppedError,
    GenerationFailedError,
    OutputError,
    UnreadableAnswerError,
)
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
from app.media_generator.model_card import ModelCard
from app.media_generator.openai_media_generator import answers, own_servers, requests, usage
from app.media_generator.openai_media_generator.errors import CONTENT, codes_and_message, refusal

OPENAI: Final = "https://api.openai.com/v1"
MAX_ANSWER_BYTES: Final = 1024 * 1024 * 1024
"""Largest answer; ten pictures of the largest size are a tenth of it."""


class OpenAISettings(ProviderSettings):
    """Settings of an account."""

    api_key: SecretStr | None = None
    """API key; your own server may need none."""
    base_url: str = Field(default=OPENAI, pattern="^https?://[^/]+")
    """Base URL of the API, with its version; set it for your own server."""
    models: str = ""
    """Names of models, separated by commas: those of your own server, or additional ones of OpenAI."""
    submit_timeout: float = Field(default=180, ge=1, le=3600)
    """Seconds that a generation may take: the answer to the request is the result."""


class OpenAIMediaGeneratorModel(MediaGeneratorModel):
    """Blocking; a lost answer cannot be looked up, and a repeated request would be billed again."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        blocking=True,
        keeps_answers=True,
        max_outputs=10,
        data_uri_bytes=20 * 1024 * 1024,
        submit_timeout=timedelta(seconds=180),
    )

    def __init__(self, setup: ProviderSetup, settings: OpenAISettings) -> None:
        self.name = setup.account.name
        # The only capability that depends on the account: a server without a GPU needs minutes.
        self.capabilities = replace(  # type: ignore[misc]
            type(self).capabilities,  # pyright: ignore[reportAttributeAccessIssue]
            submit_timeout=timedelta(seconds=settings.submit_timeout),
        )
        self._http = setup.http
        self._answers = AnswerStore(self.name, setup.vault, most_bytes=MAX_ANSWER_BYTES)
        self._base_url = settings.base_url.rstrip("/")
        key = settings.api_key.get_secret_value() if settings.api_key is not None else ""
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        named = [name.strip() for name in settings.models.split(",") if name.strip()]
        self._cards = {card.name: card for card in _cards(setup, self._base_url, named)}

    @classmethod
    def open_account(cls, setup: ProviderSetup) -> Self:
        """See the base class.

        Raises:
            SettingsError: OpenAI itself requires a key.
        """
        settings = setup.account.read(OpenAISettings)
        if settings.base_url.rstrip("/") == OPENAI and settings.api_key is None:
            raise SettingsError(f"{setup.account.variable('api_key')} is missing")
        return cls(setup, settings)

    def models(self) -> Sequence[ModelCard]:
        """See the base class."""
        return tuple(self._cards.values())

    async def submit(self, submission: Submission) -> Reference:
        """See the base class; returns when the complete answer is in the vault."""
        request = self._request(submission)
        try:
            async with self._http.stream(request) as answer:
                if not is_success(answer.status):
                    raise await refusal(self.name, answer.status, answer.headers, answer.chunks)
                chunks = decoded_chunks(answer.headers, answer.chunks, AnswerLostError)
                kept = await self._answers.keep(submission.attempt_id, chunks, lenient=True)
        except OutgoingError as error:
            raise from_outgoing(self.name, error, spending=True) from error
        # Other servers number their requests in any way, and not each with an id of its own.
        number = answer.headers.get("x-request-id") if self._base_url == OPENAI else None
        return _reference(submission, kept, number)

    async def find(self, submission: Submission, since: datetime) -> Reference | None:  # noqa: ARG002 - the id is enough
        """See the base class; reads the vault, because OpenAI does not know our ids."""
        kept = await self._answers.find(submission.attempt_id)
        return None if kept is None else _reference(submission, kept, None)

    async def poll(self, reference: Reference) -> Outcome:
        """See the base class; no call is made: the answer is in the vault."""
        name: str = reference.data["answer"]
        try:
            answer = await answers.read(self._answers.read(name), f"{self._base_url}/images/generations")
        except UnreadableAnswerError as error:
            if await self._answers.is_media(name):
                return Succeeded((Output(name),))
            # It is stored, so that it will be the same on every poll.
            return Failed(OutputError(f"the answer of {self.name} cannot be read: {error}"))
        except OutputError as error:
            return Failed(error)
        if not answer.pictures:
            return Failed(self._no_pictures_error(answer.error))
        places = (
            f"{name}#{place.start}-{place.end}" if isinstance(place, answers.Span) else place
            for place in answer.pictures
        )
        card = self._cards.get(reference.data.get("model", ""))
        rates = members(card.options.get("dollars_per_million")) if card is not None else {}
        return Succeeded(
            tuple(Output(place) for place in places),
            usage.cost(answer.usage, rates),
            usage.units(answer.usage),
            cost_is_computed=True,
        )

    async def open(self, output: Output) -> AsyncGenerator[bytes]:
        """See the base class."""
        async with aclosing(self._chunks(output.location)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def settled(self, reference: Reference) -> None:
        """See the base class."""
        await self._answers.drop(reference.data["answer"])

    def _request(self, submission: Submission) -> Request:
        card = self._cards.get(submission.model)
        fixed: dict[str, Any] = dict(card.options.get("request", {})) if card is not None else {}
        if submission.model != own_servers.UNNAMED_MODEL:
            fixed["model"] = submission.model
        edit = requests.is_edit(submission)
        media_type, body = (requests.as_form if edit else requests.as_json)(submission, fixed)
        return Request(
            method="POST",
            url=f"{self._base_url}/images/{'edits' if edit else 'generations'}",
            headers={**self._headers, "Content-Type": media_type, "Accept": "application/json"},
            body=body,
            timeout=self.capabilities.submit_timeout.total_seconds(),
            guarded=False,
        )

    def _no_pictures_error(self, error: Any) -> GenerationFailedError:
        codes, message = codes_and_message(error)
        kind = ContentStoppedError if codes & CONTENT else GenerationFailedError
        return kind(f"{self.name} answered without a picture" + (f": {message}" if message else ""))

    def _chunks(self, location: str) -> AsyncGenerator[bytes]:
        if is_data_uri(location):
            return data_chunks(location)
        if "://" in location:
            return self._fetched(location)
        # Some servers answer with the picture itself.
        return self._decoded(location) if "#" in location else self._answers.read(location)

    async def _decoded(self, location: str) -> AsyncGenerator[bytes]:
        name, _, span = location.rpartition("#")
        start, _, end = span.partition("-")
        async with aclosing(answers.decode(self._answers.read(name), answers.Span(int(start), int(end)))) as chunks:
            async for chunk in chunks:
                yield chunk

    def _fetched(self, url: str) -> AsyncGenerator[bytes]:
        """Download a picture; the server's own URLs may be private and may require the key."""
        ours = is_same_origin(url, self._base_url)
        request = Request(method="GET", url=url, headers=self._headers if ours else {}, guarded=not ours)
        return download(self._http, request, provider=self.name)


def _reference(submission: Submission, kept: str, number: str | None) -> Reference:
    return Reference(number or str(submission.attempt_id), {"answer": kept, "model": submission.model})


def _cards(setup: ProviderSetup, base_url: str, named: Sequence[str]) -> list[ModelCard]:
    """The models of an account: for OpenAI those of the catalogue, for other servers those that the operator names."""
    if base_url != OPENAI:
        return own_servers.cards(named, setup.models)
    cards = [*setup.models, *own_servers.extra_cards(named, setup.models)]
    # Of several accounts only `openai` has the aliases, which name no account.
    return cards if setup.account.name == "openai" else [replace(card, aliases=()) for card in cards]

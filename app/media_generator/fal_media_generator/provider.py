"""The provider `fal`: the queue API.

A purchase is a request in fal's queue:

1. It is submitted once; the answer holds its id. If the answer is lost, the request cannot be looked up: only its
   callback, sent to the attempt's callback URL, still identifies it.
2. Its status is polled until it is COMPLETED, which it also is after a failure.
3. The result is fetched: it names files by URL, or holds the error.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import Any, ClassVar, Final, Self
from urllib.parse import quote, urlsplit

import msgspec
from pydantic import Field, SecretStr

from app.core.http_client.protocol import Answer, OutgoingError, Request
from app.media_generator.accounts import ProviderSettings, ProviderSetup
from app.media_generator.adapter_kit.http import ask, download, from_outgoing
from app.media_generator.adapter_kit.lenient_json import UNREADABLE
from app.media_generator.adapter_kit.purchase_calls import ask_about
from app.media_generator.callbacks import Callback, CallbackRefusedError
from app.media_generator.errors import (
    AnswerLostError,
    NotReachedError,
    OutputError,
    OutputGoneError,
)
from app.media_generator.fal_media_generator import errors, results, signature
from app.media_generator.fal_media_generator.addresses import app_of, request_of, webhook
from app.media_generator.fal_media_generator.storage import Storage
from app.media_generator.media_generator_model import (
    CancelAnswer,
    Canceled,
    Capabilities,
    Failed,
    InputFile,
    MediaGeneratorModel,
    Outcome,
    Output,
    Reference,
    Running,
    Submission,
    Succeeded,
)
from app.media_generator.model_card import ModelCard

QUEUE: Final = "https://queue.fal.run"
MAX_RESULT_BYTES: Final = 4 * 1024 * 1024
"""Largest result: it names files and does not contain them."""
MAX_POLL_WAIT: Final = 10.0
"""Seconds between polls of a request far back in the queue."""
_CANCELED: Final = frozenset({"CANCELED", "CANCELLED"})
_CANCELED_TYPES: Final = frozenset({"client_cancelled", "request_cancelled"})


class FalSettings(ProviderSettings):
    """Settings of an account."""

    key: SecretStr
    """The key as shown in the dashboard: `id:secret`."""
    base_url: str = Field(default=QUEUE, pattern="^https?://[^/]+")
    """URL of the queue."""
    jwks_url: str = Field(default="https://rest.fal.ai/.well-known/jwks.json", pattern="^https?://[^/]+")
    """URL of the keys for webhook signatures."""
    storage_url: str = Field(default="https://rest.alpha.fal.ai", pattern="^https?://[^/]+")
    """URL of the storage for input files larger than 8 MiB."""
    timeout: float = Field(default=30, ge=1, le=300)
    """Time limit of each call, in seconds."""


class _Queued(msgspec.Struct):
    request_id: str = msgspec.field(default="")


class _Line(msgspec.Struct):
    message: str = ""


class _Status(errors.ErrorBody):
    status: str = ""
    queue_position: int | None = None
    logs: list[_Line] | None = None


class FalMediaGeneratorModel(MediaGeneratorModel):
    """Every model of fal that the catalogue lists; stateless."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        webhook=True,
        cancel=True,
        cancel_stops_billing=True,
        progress=True,
        max_outputs=16,
        reads_urls=True,
        data_uri_bytes=8 * 1024 * 1024,
        uploads=True,
        submit_timeout=timedelta(seconds=60),
    )

    def __init__(self, setup: ProviderSetup, settings: FalSettings) -> None:
        self.name = setup.account.name
        self._http = setup.http
        self._settings = settings
        self._base_url = settings.base_url.rstrip("/")
        self._headers = {"Authorization": f"Key {settings.key.get_secret_value()}", "Accept": "application/json"}
        self._storage = Storage(self.name, settings.storage_url, settings.key.get_secret_value(), setup.http)
        self._cards = {card.name: card for card in setup.models}

    @classmethod
    def open_account(cls, setup: ProviderSetup) -> Self:
        """See the base class."""
        return cls(setup, setup.account.read(FalSettings))

    def models(self) -> Sequence[ModelCard]:
        """See the base class."""
        return tuple(self._cards.values())

    async def submit(self, submission: Submission) -> Reference:
        """See the base class; fal's own retries are disabled."""
        headers = {**self._headers, "Content-Type": "application/json", "x-fal-no-retry": "1"}
        if submission.time_left is not None:
            headers["x-fal-request-timeout"] = str(max(1, int(submission.time_left.total_seconds())))
        request = Request(
            method="POST",
            url=f"{self._base_url}/{quote(submission.model)}{webhook(submission)}",
            headers=headers,
            body=msgspec.json.encode(self._body(submission)),
            timeout=self._settings.timeout,
            guarded=False,
        )
        try:
            answer = await self._http.send(request)
        except OutgoingError as error:
            raise from_outgoing(self.name, error, spending=True) from error
        if answer.status not in {HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.ACCEPTED}:
            raise errors.refusal(self.name, answer.status, answer.headers, answer.body, spending=True)
        try:
            queued = msgspec.json.decode(answer.body, type=_Queued)
        except UNREADABLE as error:
            raise AnswerLostError(
                f"{self.name} answered {answer.status} with a body that cannot be read: {error}"
            ) from error
        if not queued.request_id:
            raise AnswerLostError(f"{self.name} answered {answer.status} without a request id")
        return Reference(queued.request_id, {"model": submission.model})

    async def poll(self, reference: Reference) -> Outcome:
        """See the base class."""
        # Only statuses name their request; all other answers need connections of their own.
        answer = await self._ask("GET", reference, "/status?logs=1", keep_alive=True)
        if answer.status not in {HTTPStatus.OK, HTTPStatus.ACCEPTED}:
            raise errors.refusal(self.name, answer.status, answer.headers, answer.body, spending=False)
        try:
            now = msgspec.json.decode(answer.body, type=_Status)
        except UNREADABLE as error:
            raise NotReachedError(f"{self.name} returned a status that cannot be read: {error}") from error
        lines = [line.message for line in now.logs or ()]
        log = "\n".join(lines) or None
        if now.status in _CANCELED or now.kinds & _CANCELED_TYPES:
            return Canceled()
        if now.status == "COMPLETED":
            return await self._result(reference, now, log)
        return Running(results.progress(lines), _wait(now), log)

    async def open(self, output: Output) -> AsyncGenerator[bytes]:
        """See the base class."""
        ours = urlsplit(output.location)[:2] == urlsplit(self._base_url)[:2]
        headers = self._headers if ours else {}
        request = Request(method="GET", url=output.location, headers=headers, guarded=not ours)
        async for chunk in download(self._http, request, provider=self.name):
            yield chunk

    async def cancel(self, reference: Reference) -> CancelAnswer:
        """See the base class; a request that is already running usually runs to its end."""
        answer = await self._ask("PUT", reference, "/cancel")
        try:
            status = msgspec.json.decode(answer.body, type=_Status).status
        except UNREADABLE:
            status = ""
        if status in _CANCELED:
            return CancelAnswer.CANCELED
        if answer.status in {HTTPStatus.OK, HTTPStatus.ACCEPTED}:
            return CancelAnswer.REQUESTED
        if answer.status in {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND}:
            return CancelAnswer.TOO_LATE
        raise errors.refusal(self.name, answer.status, answer.headers, answer.body, spending=False)

    async def upload(self, file: InputFile) -> str:
        """See the base class."""
        return await self._storage.upload(file)

    async def callback_keys(self) -> Sequence[str]:
        """See the base class."""
        request = Request(method="GET", url=self._settings.jwks_url, guarded=False, timeout=self._settings.timeout)
        answer = await ask(self._http, request, provider=self.name)
        if answer.status != HTTPStatus.OK:
            raise NotReachedError(f"{self.name} answered {answer.status} to the request for its keys")
        try:
            return signature.read_keys(answer.body)
        except ValueError as error:
            raise NotReachedError(f"the keys of {self.name} cannot be read: {error}") from error

    def read_callback(self, callback: Callback, keys: Sequence[str]) -> Reference | None:
        """See the base class; the model is in the callback URL, because fal does not send it."""
        signature.check(callback, keys)
        try:
            queued = msgspec.json.decode(callback.body, type=_Queued)
        except UNREADABLE as error:
            raise CallbackRefusedError(f"its body cannot be read: {error}") from error
        model = callback.query.get("model", "")
        if not queued.request_id or model not in self._cards:
            return None
        return Reference(queued.request_id, {"model": model})

    async def _ask(self, method: str, reference: Reference, what: str, *, keep_alive: bool = False) -> Answer:
        """Call an endpoint of a purchase.

        Raises:
            NotReachedError: There is no answer, or it is about another purchase.
        """
        app = quote(app_of(reference.data["model"]))
        request = Request(
            method=method,
            url=f"{self._base_url}/{app}/requests/{quote(reference.external_id, safe='')}{what}",
            headers=self._headers,
            timeout=self._settings.timeout,
            most_bytes=MAX_RESULT_BYTES,
            keep_alive=keep_alive,
            guarded=False,
        )
        if not keep_alive:
            return await ask(self._http, request, provider=self.name)
        return await ask_about(reference.external_id, self._http, request, provider=self.name, subject=request_of)

    async def _result(self, reference: Reference, now: _Status, log: str | None) -> Outcome:
        answer = await self._ask("GET", reference, "")
        if answer.status == HTTPStatus.ACCEPTED:
            return Running(log=log)
        if answer.status != HTTPStatus.OK:
            return self._no_result(answer, now)
        if answer.truncated:
            return Failed(OutputError(f"the result of {self.name} is longer than {MAX_RESULT_BYTES} bytes"))
        try:
            result: Any = msgspec.json.decode(answer.body)
        except UNREADABLE as error:
            # A proxy may have answered instead.
            raise NotReachedError(f"the result of {self.name} cannot be read: {error}") from error
        if not isinstance(result, dict):
            raise NotReachedError(f"{self.name} answered with something that is no result")
        found = tuple(Output(url) for url in results.files(result))
        return Succeeded(found, units=self._units(reference, answer.headers), log=log)

    def _no_result(self, answer: Answer, now: _Status) -> Outcome:
        """The outcome of an unsuccessful result; an error of the queue, not of the model, is raised: poll again."""
        error = errors.parse_error(answer.body)
        if answer.headers.get("x-fal-error-type"):
            error.error_type = error.error_type or answer.headers["x-fal-error-type"]
        if error.kinds & _CANCELED_TYPES:
            return Canceled()
        from_model = answer.status in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY} or error.kinds
        if from_model or now.error or now.error_type:
            return Failed(errors.failure(self.name, error if error.text else now))
        if answer.status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
            return Failed(OutputGoneError(f"{self.name} no longer has the result"))
        raise errors.refusal(self.name, answer.status, answer.headers, answer.body, spending=False)

    def _body(self, submission: Submission) -> dict[str, Any]:
        card = self._cards.get(submission.model)
        field = card.options.get("prompt", "prompt") if card is not None else "prompt"
        prompt = {field: submission.prompt} if field else {}
        return {**prompt, **submission.input}

    def _units(self, reference: Reference, headers: Mapping[str, str]) -> dict[str, float]:
        """Billed units: fal reports the quantity, the catalogue has the unit."""
        quantity = headers.get("x-fal-billable-units", "")
        card = self._cards.get(reference.data["model"])
        unit = str(card.price.per) if card is not None and card.price is not None else "unit"
        try:
            return {unit: float(quantity)} if 0 <= float(quantity) < float("inf") else {}
        except ValueError:
            return {}


def _wait(now: _Status) -> timedelta | None:
    """Time until the next poll, longer further back in the queue; None: it is running, the engine decides."""
    if now.queue_position is None or now.queue_position <= 0:
        return None
    return timedelta(seconds=min(1 + now.queue_position / 2, MAX_POLL_WAIT))

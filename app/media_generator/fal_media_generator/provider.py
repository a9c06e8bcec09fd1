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
from urllib.parse import quote

import msgspec
from pydantic import Field, SecretStr

from app.core.http_client.protocol import Answer, OutgoingError, Request
from app.media_generator.accounts import ProviderSettings, ProviderSetup
from app.media_generator.adapter_kit.file_places import data_chunks, is_data_uri, is_same_origin
from app.media_generator.adapter_kit.http import ask, download, from_outgoing, is_success
from app.media_generator.adapter_kit.lenient_json import parse, read
from app.media_generator.adapter_kit.purchase_calls import ask_about
from app.media_generator.callbacks import Callback, CallbackRefusedError
from app.media_generator.errors import (
    NotReachedError,
    OutputError,
    OutputGoneError,
    UnreadableAnswerError,
)
from app.media_generator.fal_media_generator import errors, results, signature
from app.media_generator.fal_media_generator.addresses import app_of, request_in, request_of, webhook
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
MAX_RESULT_BYTES: Final = 128 * 1024 * 1024
"""Largest result: it names files, or contains them in `sync_mode`."""
MAX_POLL_WAIT: Final = 10.0
"""Seconds between polls of a request far back in the queue."""
_CANCELED: Final = frozenset({"CANCELED", "CANCELLED"})
_UNFINISHED: Final = frozenset({"IN_QUEUE", "IN_PROGRESS"})
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
    request_id: str = ""
    status_url: str = ""
    response_url: str = ""

    @property
    def name(self) -> str | None:
        """The request's id; None: it says none."""
        return self.request_id or request_in(self.status_url) or request_in(self.response_url)


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
        if not is_success(answer.status):
            raise errors.refusal(self.name, answer.status, answer.headers, answer.body, spending=True)
        request_id = read(answer.body, _Queued, of=self.name).name
        if not request_id:
            raise UnreadableAnswerError(f"{self.name} answered {answer.status} without a request id")
        return Reference(request_id, {"model": submission.model})

    async def poll(self, reference: Reference) -> Outcome:
        """See the base class."""
        # Only statuses name their request; all other answers need connections of their own.
        answer = await self._ask("GET", reference, "/status?logs=1", keep_alive=True)
        if not is_success(answer.status):
            raise errors.refusal(self.name, answer.status, answer.headers, answer.body, spending=False)
        now = read(answer.body, _Status, of=self.name)
        lines = [line.message for line in now.logs or ()]
        log = "\n".join(lines) or None
        if now.status in _CANCELED or now.kinds & _CANCELED_TYPES:
            return Canceled()
        if now.status == "COMPLETED" or (now.status not in _UNFINISHED and now.text):
            return await self._result(reference, now, log)
        if now.status not in _UNFINISHED:
            raise UnreadableAnswerError(f"{self.name} answered with the status {now.status[:100]!r}, which is unknown")
        return Running(results.progress(lines), _wait(now), log)

    async def open(self, output: Output) -> AsyncGenerator[bytes]:
        """See the base class."""
        if is_data_uri(output.location):
            async for chunk in data_chunks(output.location):
                yield chunk
            return
        ours = is_same_origin(output.location, self._base_url)
        headers = self._headers if ours else {}
        request = Request(method="GET", url=output.location, headers=headers, guarded=not ours)
        async for chunk in download(self._http, request, provider=self.name):
            yield chunk

    async def cancel(self, reference: Reference) -> CancelAnswer:
        """See the base class; a request that is already running usually runs to its end."""
        answer = await self._ask("PUT", reference, "/cancel")
        try:
            status = read(answer.body, _Status, of=self.name).status
        except UnreadableAnswerError:
            status = ""
        if status in _CANCELED:
            return CancelAnswer.CANCELED
        if is_success(answer.status):
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
        if not is_success(answer.status):
            raise NotReachedError(f"{self.name} answered {answer.status} to the request for its keys")
        return signature.read_keys(answer.body)

    def read_callback(self, callback: Callback, keys: Sequence[str]) -> Reference | None:
        """See the base class; the model is in the callback URL, because fal does not send it."""
        signature.check(callback, keys)
        try:
            request_id = read(callback.body, _Queued, of=self.name).name
        except UnreadableAnswerError as error:
            raise CallbackRefusedError(f"its body cannot be read: {error}") from error
        model = callback.query.get("model", "")
        if not request_id or model not in self._cards:
            return None
        return Reference(request_id, {"model": model})

    async def _ask(self, method: str, reference: Reference, what: str, *, keep_alive: bool = False) -> Answer:
        """Call an endpoint of a purchase.

        Raises:
            NotReachedError: There is no answer, or it is about another purchase.
        """
        request = Request(
            method=method,
            url=self._url_of(reference) + what,
            headers=self._headers,
            timeout=self._settings.timeout,
            most_bytes=MAX_RESULT_BYTES,
            keep_alive=keep_alive,
            guarded=False,
        )
        if not keep_alive:
            return await ask(self._http, request, provider=self.name)
        return await ask_about(reference.external_id, self._http, request, provider=self.name, subject=request_of)

    def _url_of(self, reference: Reference) -> str:
        app = quote(app_of(reference.data["model"]))
        return f"{self._base_url}/{app}/requests/{quote(reference.external_id, safe='')}"

    async def _result(self, reference: Reference, now: _Status, log: str | None) -> Outcome:
        answer = await self._ask("GET", reference, "")
        if answer.status == HTTPStatus.ACCEPTED:
            return Running(log=log)
        if not is_success(answer.status):
            return self._no_result(answer, now)
        if answer.truncated:
            return Failed(OutputError(f"the result of {self.name} is longer than {MAX_RESULT_BYTES} bytes"))
        result = parse(answer.body, of=self.name)
        found = tuple(Output(place) for place in results.files(result, self._url_of(reference)))
        if not found and not isinstance(result, dict):
            raise UnreadableAnswerError(f"{self.name} answered with something that is no result")
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

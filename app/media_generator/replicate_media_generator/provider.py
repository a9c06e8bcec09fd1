"""Replicate: any of its models, by its name there.

Models that Replicate keeps running are called by name, others by version (`ModelCard.version`). If an answer is lost,
the list of predictions is searched; a prediction counts only if it is the only match.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, ClassVar, Final, Self
from urllib.parse import urlencode

import msgspec

from app.core.http_client.protocol import Request
from app.media_generator.accounts import ProviderSetup
from app.media_generator.adapter_kit import standard_webhooks
from app.media_generator.adapter_kit.cog_schema import input_schema
from app.media_generator.adapter_kit.file_places import absolute, data_chunks, is_data_uri
from app.media_generator.adapter_kit.http import download
from app.media_generator.adapter_kit.lenient_json import entries, members, parse, read, read_value
from app.media_generator.adapter_kit.multipart import one_file
from app.media_generator.callbacks import Callback, CallbackRefusedError
from app.media_generator.errors import AnswerLostError, UnreadableAnswerError
from app.media_generator.media_generator_model import (
    CancelAnswer,
    Candidates,
    Capabilities,
    InputFile,
    MediaGeneratorModel,
    Outcome,
    Output,
    Reference,
    Submission,
)
from app.media_generator.model_card import ModelCard, defaults
from app.media_generator.replicate_media_generator.api import Api, ReplicateSettings
from app.media_generator.replicate_media_generator.lookup import SubmittedPrediction
from app.media_generator.replicate_media_generator.wire import CANCELED, UNFINISHED, Prediction

MAX_PAGES: Final = 20
"""Pages of the list of predictions that are searched, with 100 predictions each."""
SKEW: Final = timedelta(seconds=130)
"""Largest assumed difference between Replicate's clock and ours, with some seconds for what lies between."""
_ERRORS: Final = ("error", "errors", "detail", "message", "title")
"""Members of a page that say why it is not whole."""
MIN_SECONDS: Final = 5
"""Shortest deadline of a prediction, in seconds."""


class _Described(msgspec.Struct):
    """A model, or one of its versions."""

    description: str | None = None
    openapi_schema: dict[str, Any] | None = None
    latest_version: dict[str, Any] | None = None


class ReplicateMediaGeneratorModel(MediaGeneratorModel):
    """Submits and polls predictions, and receives callbacks."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        webhook=True,
        cancel=True,
        cancel_stops_billing=True,
        findable=True,
        progress=True,
        max_outputs=100,
        result_ttl=timedelta(hours=1),
        reads_urls=True,
        data_uri_bytes=256 * 1024,
        uploads=True,
        submit_timeout=timedelta(seconds=60),
    )

    def __init__(self, setup: ProviderSetup, settings: ReplicateSettings) -> None:
        self.name = setup.account.name
        self._http = setup.http
        self._settings = settings
        self._api = Api(setup.account.name, setup.http, settings)
        self._cards = tuple(setup.models)

    @classmethod
    def open_account(cls, setup: ProviderSetup) -> Self:
        """See the base class."""
        return cls(setup, setup.account.read(ReplicateSettings))

    def models(self) -> Sequence[ModelCard]:
        """See the base class; those of the catalogue."""
        return self._cards

    async def submit(self, submission: Submission) -> Reference:
        """See the base class."""
        card = self._card(submission.model)
        body: dict[str, Any] = {"input": self._input(card, submission)}
        path = f"/models/{card.name.partition(':')[0]}/predictions"
        if card.version is not None:
            body["version"], path = card.version, "/predictions"
        if submission.callback_url is not None:
            body |= {"webhook": submission.callback_url, "webhook_events_filter": ["completed"]}
        headers: dict[str, str] = {}
        if submission.time_left is not None:
            headers["Cancel-After"] = f"{max(int(submission.time_left.total_seconds()), MIN_SECONDS)}s"
        answer = await self._api.call("POST", path, body, headers=headers, spending=True)
        prediction = read(answer.body, Prediction, of=self.name)
        if not prediction.id:
            raise UnreadableAnswerError(f"{self.name} answered {answer.status} without the id of a prediction")
        return Reference(prediction.id)

    async def poll(self, reference: Reference) -> Outcome:
        """See the base class."""
        answer = await self._api.about(reference.external_id, "GET")
        return read(answer.body, Prediction, of=self.name).outcome(self._api.url_of(reference.external_id))

    async def cancel(self, reference: Reference) -> CancelAnswer:
        """See the base class; a prediction that was running is billed for that time."""
        answer = await self._api.about(reference.external_id, "POST", "/cancel")
        prediction = read(answer.body, Prediction, of=self.name)
        if prediction.status in CANCELED:
            return CancelAnswer.CANCELED
        if not prediction.status:
            raise UnreadableAnswerError(f"{self.name} does not say what became of the prediction")
        return CancelAnswer.REQUESTED if prediction.status in UNFINISHED else CancelAnswer.TOO_LATE

    async def find(self, submission: Submission, since: datetime) -> Reference | Candidates | None:
        """See the base class: the prediction with our callback URL, or those of that time that are alike."""
        card = self._card(submission.model)
        submitted = SubmittedPrediction(
            submission.attempt_id,
            card.name.partition(":")[0],
            None if card.version is None else card.version.rpartition(":")[2],
            self._input(card, submission),
            defaults(card.input_schema),
            earliest=since - SKEW,
            # `submit` ends within its time limit; the prediction may be created a little later.
            latest=since + 2 * self.capabilities.submit_timeout + SKEW,
        )
        try:
            return submitted.find(await self._listed(submitted))
        except AnswerLostError as error:
            raise type(error)(f"{self.name}: {error.message}") from error

    def likeness(self, card: ModelCard, prompt: str, given: Mapping[str, Any]) -> Any:
        """See the base class; a tag of the name stands for a version, which may be the same as another card's."""
        return [card.name.partition(":")[0], self._named_input(card, prompt, given)]

    async def open(self, output: Output) -> AsyncIterator[bytes]:
        """See the base class."""
        if is_data_uri(output.location):
            async for chunk in data_chunks(output.location):
                yield chunk
            return
        ours = self._api.is_same_origin(output.location)
        request = Request(
            method="GET",
            url=output.location,
            headers=self._api.authorization if ours else {},
            timeout=self._settings.answer_seconds,
            guarded=not ours,
        )
        async for chunk in download(self._http, request, provider=self.name):
            yield chunk

    async def upload(self, file: InputFile) -> str:
        """See the base class; Replicate keeps it for a day."""
        body, content_type = await one_file("content", file)
        answer = await self._api.send("POST", f"{self._api.base}/files", body, {"Content-Type": content_type})
        url = members(members(parse(answer.body, of=self.name)).get("urls")).get("get")
        if not isinstance(url, str) or not url:
            raise UnreadableAnswerError(f"{self.name} did not say where it stored {file.name}")
        return url

    async def callback_keys(self) -> Sequence[str]:
        """See the base class."""
        if self._settings.webhook_secret:
            return (self._settings.webhook_secret,)
        answer = await self._api.call("GET", "/webhooks/default/secret")
        key = members(parse(answer.body, of=self.name)).get("key")
        if not isinstance(key, str):
            raise UnreadableAnswerError(f"{self.name} did not tell its key")
        return (key,)

    def read_callback(self, callback: Callback, keys: Sequence[str]) -> Reference | None:
        """See the base class."""
        own = (self._settings.webhook_secret,) if self._settings.webhook_secret else ()
        standard_webhooks.verify(callback, own or keys)
        try:
            prediction = read(callback.body, Prediction, of=self.name)
        except UnreadableAnswerError as error:
            raise CallbackRefusedError("its body is not a prediction") from error
        if prediction.webhook and str(callback.attempt_id) not in str(prediction.webhook):
            raise CallbackRefusedError("it was sent to another attempt's URL, and repeated at this one")
        return Reference(prediction.id) if prediction.id else None

    async def refresh(self, card: ModelCard) -> ModelCard:
        """See the base class; reads the schema of the newest version, or of the card's version."""
        name = card.name.partition(":")[0]
        path = f"/models/{name}" if card.version is None else f"/models/{name}/versions/{card.version}"
        found = read((await self._api.call("GET", path)).body, _Described, of=self.name)
        document = found.openapi_schema or (found.latest_version or {}).get("openapi_schema")
        if document is None:
            return card
        return replace(card, description=found.description or card.description, input_schema=input_schema(document))

    def _card(self, name: str) -> ModelCard:
        return next(card for card in self._cards if card.name == name)

    def _input(self, card: ModelCard, submission: Submission) -> dict[str, Any]:
        """The model's input, with the prompt under the name in `options.prompt`; null: without the prompt."""
        return self._named_input(card, submission.prompt, submission.input)

    @staticmethod
    def _named_input(card: ModelCard, prompt: str, given: Mapping[str, Any]) -> dict[str, Any]:
        name = card.options.get("prompt", "prompt")
        return {**({} if name is None else {name: prompt}), **given}

    async def _listed(self, submitted: SubmittedPrediction) -> list[Prediction]:
        """All predictions of that time window."""
        window = {"created_after": submitted.earliest, "created_before": submitted.latest}
        query = urlencode({name: at.astimezone(UTC).isoformat() for name, at in window.items()})
        found, url = list[Prediction](), f"{self._api.base}/predictions?{query}"
        for _ in range(MAX_PAGES):
            answer = await self._api.send("GET", url)
            page = members(parse(answer.body, of=self.name))
            following = page.get("next", "")
            # That a prediction is in no list is believed only of a list that is clearly whole.
            if (
                not isinstance(page.get("results"), list)
                or answer.status == HTTPStatus.PARTIAL_CONTENT
                or not (following is None or (isinstance(following, str) and following))
                or any(page.get(name) for name in _ERRORS)
            ):
                raise UnreadableAnswerError("it did not answer with a list of predictions")
            found += [_listed(one) for one in entries(page["results"])]
            if following is None:
                return found
            url = absolute(following, url)
            if not self._api.is_same_origin(url):
                break
        raise AnswerLostError("its list of predictions is too long to search")


def _listed(entry: Any) -> Prediction:
    prediction = read_value(entry, Prediction, of="Replicate")
    if not prediction.id:
        raise UnreadableAnswerError("its list has an entry that cannot be read")
    return prediction

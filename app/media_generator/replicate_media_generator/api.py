"""Calls to Replicate's HTTP API, and what their answers mean."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import msgspec

from app.core.http_client.protocol import Answer, Http, OutgoingError, Request
from app.media_generator.accounts import ProviderSettings
from app.media_generator.adapter_kit.http import REFUSALS, from_answer, from_outgoing
from app.media_generator.adapter_kit.lenient_json import UNREADABLE
from app.media_generator.adapter_kit.purchase_calls import ask_about
from app.media_generator.errors import BusyError, NotReachedError, ProviderError
from app.media_generator.replicate_media_generator.wire import wait_in_text

Kind = TypeVar("Kind")

MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
"""Largest answer."""


class ReplicateSettings(ProviderSettings):
    """Settings of an account."""

    api_token: str
    """API token of the account at Replicate."""
    base_url: str = "https://api.replicate.com/v1"
    """Base URL of the API."""
    webhook_secret: str = ""
    """The secret that signs its callbacks; unset: it is fetched from Replicate."""
    submit_seconds: float = 40.0
    """Seconds that the submission of a prediction may take."""
    answer_seconds: float = 30.0
    """Seconds that any other call may take."""


class Api:
    """The API with the token of one account."""

    def __init__(self, name: str, http: Http, settings: ReplicateSettings) -> None:
        self._name = name
        self._http = http
        self._settings = settings
        self.base = settings.base_url.rstrip("/")
        self.authorization = {"Authorization": f"Bearer {settings.api_token}"}

    def is_same_origin(self, url: str) -> bool:
        """Whether a URL belongs to this API, so that the token may be sent."""
        return urlsplit(url)[:2] == urlsplit(self.base)[:2]

    async def about(self, prediction_id: str, method: str, what: str = "") -> Answer:
        """Make a call about one prediction, whose answer is about it.

        Raises:
            ProviderError: There is no answer, or it is not a success.
        """
        request = self._request(method, f"{self.base}/predictions/{prediction_id}{what}", None, None)
        answer = await ask_about(prediction_id, self._http, replace(request, keep_alive=True), provider=self._name)
        return self._checked(answer, spending=False)

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        spending: bool = False,
    ) -> Answer:
        """Make a call with a JSON body.

        Raises:
            ProviderError: There is no answer, or it is not a success.
        """
        content = None if body is None else json.dumps(body).encode()
        more = {"Content-Type": "application/json", **(headers or {})} if content is not None else headers
        return await self.send(method, self.base + path, content, more, spending=spending)

    async def send(
        self,
        method: str,
        url: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        spending: bool = False,
    ) -> Answer:
        """Make a call on a connection of its own; a billable one is sent once.

        Raises:
            ProviderError: There is no answer, or it is not a success.
        """
        request = self._request(method, url, body, headers)
        if spending:
            request = replace(request, timeout=self._settings.submit_seconds)
        try:
            answer = await self._http.send(request)
        except OutgoingError as error:
            raise from_outgoing(self._name, error, spending=spending) from error
        return self._checked(answer, spending=spending)

    def _request(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str] | None) -> Request:
        return Request(
            method=method,
            url=url,
            headers={**self.authorization, **(headers or {})},
            body=body,
            timeout=self._settings.answer_seconds,
            most_bytes=MAX_ANSWER_BYTES,
            guarded=False,
        )

    def _checked(self, answer: Answer, *, spending: bool) -> Answer:
        if answer.status >= 300:  # noqa: PLR2004 - not a success
            raise self._refusal(answer, spending=spending)
        return answer

    def _refusal(self, answer: Answer, *, spending: bool) -> ProviderError:
        message = _message(answer.body)
        # It checks token, billing, model and input before it creates a prediction:
        # https://replicate.com/docs/reference/http
        error = from_answer(self._name, answer.status, answer.headers, message, spending=spending, unspent=REFUSALS)
        if isinstance(error, BusyError) and error.retry_after is None:
            # Replicate states the wait only in its message.
            error.retry_after = wait_in_text(message)
        return error


def decode(answer: Answer, kind: type[Kind]) -> Kind:
    """Parse an answer.

    Raises:
        NotReachedError: It is not valid. A proxy may have answered instead, so it says nothing about the prediction and
            the call may be repeated.
    """
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except UNREADABLE as error:
        raise NotReachedError(f"the answer of Replicate cannot be read: {error}") from error


def _message(body: bytes) -> str:
    """The message of a refusal."""
    try:
        found: Any = json.loads(body)
        return str(found.get("detail") or found.get("title") or "")[:1_000]
    except (ValueError, AttributeError):
        return body[:200].decode(errors="replace")

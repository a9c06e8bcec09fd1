"""Calls to Replicate's HTTP API, and what their answers mean."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote

from app.core.http_client.protocol import Answer, Http, OutgoingError, Request
from app.media_generator.accounts import ProviderSettings
from app.media_generator.adapter_kit.file_places import is_same_origin
from app.media_generator.adapter_kit.http import REFUSALS, from_answer, from_outgoing, is_success
from app.media_generator.adapter_kit.lenient_json import error_text, parse
from app.media_generator.adapter_kit.purchase_calls import ask_about
from app.media_generator.errors import BusyError, ProviderError, UnreadableAnswerError
from app.media_generator.replicate_media_generator.wire import wait_in_text

MAX_ANSWER_BYTES: Final = 128 * 1024 * 1024
"""Largest answer, which may contain its files."""
MAX_MESSAGE_CHARS: Final = 1_000


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
        return is_same_origin(url, self.base)

    def url_of(self, prediction_id: str) -> str:
        """The URL of a prediction."""
        return f"{self.base}/predictions/{quote(prediction_id, safe='')}"

    async def about(self, prediction_id: str, method: str, what: str = "") -> Answer:
        """Make a call about one prediction, whose answer is about it.

        Raises:
            ProviderError: There is no answer, or it is not a success.
        """
        request = self._request(method, self.url_of(prediction_id) + what, None, None)
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
        if not is_success(answer.status):
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


def _message(body: bytes) -> str:
    """The message of a refusal."""
    try:
        return error_text(parse(body))[:MAX_MESSAGE_CHARS]
    except UnreadableAnswerError:
        return body[:200].decode(errors="replace")

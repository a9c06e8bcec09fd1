"""Replicate's API over HTTP: what an answer means, and for whom it is."""

import json
from collections.abc import Mapping
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import msgspec

from app.core.http_client.protocol import Answer, Http, OutgoingError, Request
from app.media_generator.accounts import ProviderSettings
from app.media_generator.adapter_kit.http import from_answer, from_outgoing
from app.media_generator.adapter_kit.lenient_json import UNREADABLE
from app.media_generator.errors import BusyError, NotReachedError, ProviderError
from app.media_generator.replicate_media_generator.wire import wait_in_text

Kind = TypeVar("Kind")

MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
"""Of an answer."""


class ReplicateSettings(ProviderSettings):
    """The variables of an account."""

    api_token: str
    """Key of the account at Replicate."""
    base_url: str = "https://api.replicate.com/v1"
    """Where its API is."""
    webhook_secret: str = ""
    """The secret that signs its callbacks; unset: it is asked for."""
    submit_seconds: float = 40.0
    """How long it may take to accept a prediction, in seconds."""
    answer_seconds: float = 30.0
    """How long any other answer may take, in seconds."""


class Api:
    """Of one account."""

    def __init__(self, name: str, http: Http, settings: ReplicateSettings) -> None:
        self._name = name
        self._http = http
        self._settings = settings
        self.base = settings.base_url.rstrip("/")
        self.authorization = {"Authorization": f"Bearer {settings.api_token}"}

    def is_same_origin(self, url: str) -> bool:
        """Whether it leads to this API itself, so that the key may go along."""
        return urlsplit(url)[:2] == urlsplit(self.base)[:2]

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        spending: bool = False,
    ) -> Answer:
        """Call with JSON.

        Raises:
            ProviderError: There is no answer, or none that is a success.
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
        """One call; what buys is sent once, on a connection of its own.

        Raises:
            ProviderError: There is no answer, or none that is a success.
        """
        request = Request(
            method=method,
            url=url,
            headers={**self.authorization, **(headers or {})},
            body=body,
            timeout=self._settings.submit_seconds if spending else self._settings.answer_seconds,
            most_bytes=MAX_ANSWER_BYTES,
            keep_alive=not spending,
            guarded=False,
        )
        try:
            answer = await self._http.send(request)
        except OutgoingError as error:
            raise from_outgoing(self._name, error, spending=spending) from error
        if answer.status >= 300:  # noqa: PLR2004 - no success
            raise self._refusal(answer, spending=spending)
        return answer

    def _refusal(self, answer: Answer, *, spending: bool) -> ProviderError:
        message = _message(answer.body)
        error = from_answer(self._name, answer.status, answer.headers, message, spending=spending)
        if isinstance(error, BusyError) and error.retry_after is None:
            # Replicate names the wait in its words alone.
            error.retry_after = wait_in_text(message)
        return error


def decode(answer: Answer, kind: type[Kind]) -> Kind:
    """Read an answer.

    Raises:
        NotReachedError: It is not what it should be. Something on the way may have answered instead: it says nothing
            of what was bought, and may be asked for again.
    """
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except UNREADABLE as error:
        raise NotReachedError(f"what Replicate answered cannot be read: {error}") from error


def _message(body: bytes) -> str:
    """What a refusal says in words."""
    try:
        found: Any = json.loads(body)
        return str(found.get("detail") or found.get("title") or "")[:1_000]
    except (ValueError, AttributeError):
        return body[:200].decode(errors="replace")

"""Calls to a Cog server other than predictions; none of them costs anything."""

from http import HTTPStatus
from typing import Any

from app.core.http_client.protocol import Answer, Http, Request
from app.media_generator.adapter_kit.http import ask, from_answer, is_success
from app.media_generator.adapter_kit.lenient_json import parse, read
from app.media_generator.cog_media_generator.wire import Health
from app.media_generator.errors import NotReachedError
from app.media_generator.media_generator_model import CancelAnswer


class CogServer:
    """One container."""

    def __init__(self, name: str, base: str, http: Http) -> None:
        """See `CogServer`.

        Args:
            name: The account's, for messages.
            base: Its address, without a slash at the end.
            http: The client.
        """
        self._name = name
        self.base = base
        self._http = http

    async def health(self) -> Health:
        """Its health check.

        Raises:
            ProviderError: It cannot be read at the moment.
        """
        answer = await self._ask("GET", "/health-check")
        if answer.status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
            # A proxy answers this while its container is down; purchases are not lost.
            raise NotReachedError(f"{self._name} answered {answer.status} at /health-check")
        if not is_success(answer.status):
            raise from_answer(self._name, answer.status, answer.headers, "at /health-check", spending=False)
        return read(answer.body, Health, of=f"{self._name} at /health-check")

    async def cancel(self, prediction_id: str) -> CancelAnswer:
        """Cancel a prediction; the server confirms it through the prediction's callback.

        Raises:
            ProviderError: It cannot be reached at the moment.
        """
        answer = await self._ask("POST", f"/predictions/{prediction_id}/cancel")
        if answer.status == HTTPStatus.NOT_FOUND:
            return CancelAnswer.TOO_LATE
        if not is_success(answer.status):
            raise from_answer(self._name, answer.status, answer.headers, "at cancel", spending=False)
        return CancelAnswer.REQUESTED

    async def document(self) -> Any:
        """Its OpenAPI document, which the container was built with.

        Raises:
            ProviderError: It cannot be read.
        """
        answer = await self._ask("GET", "/openapi.json")
        if not is_success(answer.status):
            raise NotReachedError(f"{self._name} has no /openapi.json: it answered {answer.status}")
        return parse(answer.body, of=f"{self._name} at /openapi.json")

    async def _ask(self, method: str, path: str) -> Answer:
        # Nothing in these answers says which request they belong to, so each has a connection of its own.
        request = Request(method=method, url=f"{self.base}{path}", guarded=False)
        return await ask(self._http, request, provider=self._name)

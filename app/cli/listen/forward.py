"""Passes events on to a receiver under development, as a worker would: the same body, signed, one try for each."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final
from uuid import UUID, uuid5

from app.core.http_client.client import HttpClient
from app.webhooks.http_request import post
from app.webhooks.signing import headers

_GONE: Final = "answered 410: an endpoint that is registered would be disabled"


@dataclass(frozen=True, slots=True)
class Forwarded:
    """What became of one event."""

    webhook_id: str
    status_code: int | None
    """Null: there was no answer."""
    milliseconds: int
    error: str | None
    """Why a worker would call it a failure and try again; null: it would count as delivered."""


class Forwarder:
    """Posts to one address. Nothing is tried again: who develops wants to see each answer."""

    def __init__(self, http: HttpClient, url: str, secret: str) -> None:
        self._http = http
        self._url = url
        self._secret = secret

    async def send(self, media_id: str, sequence: int, body: bytes) -> Forwarded:
        """Post one event and wait for the answer."""
        webhook_id = webhook_id_of(media_id, sequence)
        signed = headers([self._secret], webhook_id, int(datetime.now(UTC).timestamp()), body)
        begun = time.perf_counter()
        answer, error = await post(self._http, self._url, signed, body, keep_alive=False)
        milliseconds = round((time.perf_counter() - begun) * 1000)
        if answer is None:
            return Forwarded(webhook_id, None, milliseconds, error)
        return Forwarded(webhook_id, answer.status, milliseconds, _GONE if answer.status == HTTPStatus.GONE else error)


def webhook_id_of(media_id: str, sequence: int) -> str:
    """The same for the same event, whichever stream it came from; never that of another one."""
    return str(uuid5(UUID(media_id), str(sequence)))

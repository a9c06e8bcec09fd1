"""Forwards events to a receiver under development as a worker would: same body, signed; one attempt each."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final
from uuid import UUID, uuid5

from app.core.http_client.client import HttpClient
from app.webhooks.http_request import post
from app.webhooks.signing import headers

_GONE: Final = "answered 410: a registered endpoint would be disabled"


@dataclass(frozen=True, slots=True)
class Forwarded:
    """The result of forwarding one event."""

    webhook_id: str
    status_code: int | None
    """Null: no answer."""
    milliseconds: int
    error: str | None
    """Why a worker would count it as failed and retry; null: it counts as delivered."""


class Forwarder:
    """Posts to one URL. Nothing is retried: a developer wants to see each answer."""

    def __init__(self, http: HttpClient, url: str, secret: str) -> None:
        self._http = http
        self._url = url
        self._secret = secret

    async def send(self, media_id: str, sequence: int, body: bytes) -> Forwarded:
        """Post one event and wait for the answer."""
        webhook_id = webhook_id_of(media_id, sequence)
        signed = headers([self._secret], webhook_id, int(datetime.now(UTC).timestamp()), body)
        started = time.perf_counter()
        answer, error = await post(self._http, self._url, signed, body, keep_alive=False)
        milliseconds = round((time.perf_counter() - started) * 1000)
        if answer is None:
            return Forwarded(webhook_id, None, milliseconds, error)
        return Forwarded(webhook_id, answer.status, milliseconds, _GONE if answer.status == HTTPStatus.GONE else error)


def webhook_id_of(media_id: str, sequence: int) -> str:
    """Deterministic: the same event always gets the same id, in whichever stream it is read."""
    return str(uuid5(UUID(media_id), str(sequence)))

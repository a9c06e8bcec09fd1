"""Receivers that a request names with `webhook_url`, as the media stores them."""

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

import msgspec

from app.core.database.pool import DatabasePool
from app.core.errors import InvalidInputError, brief
from app.core.http_client.addresses import refusal
from app.core.ids import new_id
from app.webhooks.event_types import EventType
from app.webhooks.signing import new_secret
from app.webhooks.states import EndpointKind

# ruff: noqa: S608 - put together from constants; values are always arguments

_CREATE: Final = f"""INSERT INTO webhook_endpoints (id, owner_id, kind, events, secret)
VALUES ($1, $2, '{EndpointKind.REQUEST}', '{{}}', $3)
ON CONFLICT (owner_id) WHERE kind = '{EndpointKind.REQUEST}' DO NOTHING"""
FIELD: Final = "webhook_url"


class Receivers:
    """Accepts receivers of requests."""

    def __init__(self, db: DatabasePool, *, allow_private: bool) -> None:
        self._db = db
        self._allow_private = allow_private
        self._owners = set[UUID]()
        """Owners whose endpoint of kind `request` exists."""

    async def of_request(self, owner_id: UUID, url: str, events: Sequence[EventType]) -> str:
        """The JSON text that the media stores; see `outbox.py`.

        Raises:
            InvalidInputError: Events may not be sent to this address.
        """
        fault = refusal(url, allow_private=self._allow_private)
        if fault is not None:
            wrong = {"field": FIELD, "message": fault, "given": brief(url), "allowed": None}
            raise InvalidInputError(f"{FIELD} {fault}", errors=[wrong])
        if owner_id not in self._owners:
            await self._db.execute(_CREATE, new_id(), owner_id, new_secret())
            self._owners.add(owner_id)
        parts = urlsplit(url)
        # One receiver for each host of an owner: it is a host that is slow or down, not a single path.
        receiver = f"{owner_id}:{parts.scheme}://{parts.netloc.lower()}"
        return msgspec.json.encode({"url": url, "events": events, "receiver": receiver}).decode()

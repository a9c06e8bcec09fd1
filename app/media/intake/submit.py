"""Requesting a media item: from a client's request to a committed row, which is generated whatever crashes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from app.core.errors import InvalidInputError
from app.core.ids import new_id
from app.core.telemetry import tracing
from app.idempotency.keys import Key, KeyReusedError, KeySpentError
from app.jobs.transitions.request import ClientColumns, NewMedia, Once, request
from app.media import queries
from app.media.context import MediaServices
from app.media.intake.validation import to_json, validate
from app.media.queries import MediaRow
from app.webhooks.event_types import FINAL_TYPES, EventType

METADATA_BYTES: Final = 4096


class MediaRequest(ClientColumns, frozen=True, kw_only=True):
    """A client's request."""

    model: str | None = None
    """Of a model or a route; None: the default model."""
    input: Mapping[str, Any]
    metadata: Mapping[str, Any]
    time_limit: timedelta | None = None
    """None: the model's."""
    key: Key | None = None
    """A repeated request with this key returns the first one's media."""
    webhook_url: str | None = None
    webhook_events: Sequence[EventType] | None = None
    """None: the final ones."""


@dataclass(frozen=True, slots=True)
class RequestResult:
    """The media of a request."""

    media: MediaRow
    replayed: bool
    """It was requested before, with the same key."""


async def request_media(services: MediaServices, owner_id: UUID, requested: MediaRequest) -> RequestResult:
    """Write the request, then wake a worker.

    The row is the job: once this returns, the media is generated even if the broker, this process and every worker
    crash now. The bell rings after the commit, so no worker looks for a row that does not exist yet.

    Raises:
        InvalidInputError: The model cannot be requested, or the input or metadata is not acceptable.
        KeyReusedError: The key was used for another request.
        KeySpentError: The first request's media item was deleted.
    """
    try:
        new = await _validated(services, owner_id, requested)
    except InvalidInputError:
        # A request that was accepted stays accepted, even if its model or an input file is gone by now.
        first = None if requested.key is None else await queries.media_by_key(services.db, owner_id, requested.key.name)
        if first is None or requested.key is None or first.fingerprint != requested.key.fingerprint:
            raise
        return RequestResult(first, replayed=True)
    tracing.set_attributes(media_id=str(new.id), model=new.model)
    once = None if requested.key is None else Once(requested.key, services.key_lifetime)
    accepted = await request(services.db, new, once)
    if accepted is None:
        assert requested.key is not None  # noqa: S101 - only a key can have been used before
        return RequestResult(await _first_request(services, owner_id, requested.key), replayed=True)
    services.bell.ring(new.queue)
    return RequestResult(MediaRow.accepted(new, accepted), replayed=False)


async def _validated(services: MediaServices, owner_id: UUID, requested: MediaRequest) -> NewMedia:
    validated = await validate(services, requested.model, requested.input)
    offer, route = validated.offer, validated.route
    wants_webhook = requested.webhook_url is not None or requested.webhook_events is not None
    if offer.takes_files:
        await services.inputs.validate(owner_id, offer.card.input_schema, validated.input)
    return NewMedia(
        **{name: getattr(requested, name) for name in ClientColumns.__struct_fields__},
        id=new_id(),
        job_id=new_id(),
        owner_id=owner_id,
        model=offer.full_name,
        input=to_json(validated.input, "input"),
        metadata=to_json(requested.metadata, "metadata", limit=METADATA_BYTES),
        queue=offer.queue,
        route=None if route is None else route.name,
        route_step=0 if route is None else route.step,
        route_input=None if route is None else route.input,
        time_limit=requested.time_limit or validated.time_limit,
        webhook=await _webhook_receiver(services, owner_id, requested) if wants_webhook else None,
        trace=tracing.traceparent(),
    )


async def _webhook_receiver(services: MediaServices, owner_id: UUID, requested: MediaRequest) -> str:
    """The request's own webhook receiver, as stored."""
    if requested.webhook_url is None:
        message = "needs a webhook_url"
        wrong = {"field": "webhook_events", "message": message, "given": None, "allowed": None}
        raise InvalidInputError(f"webhook_events {message}", errors=[wrong])
    events = requested.webhook_events or FINAL_TYPES
    return await services.receivers.of_request(owner_id, requested.webhook_url, events)


async def _first_request(services: MediaServices, owner_id: UUID, key: Key) -> MediaRow:
    row = await queries.media_by_key(services.db, owner_id, key.name)
    if row is None:
        raise KeySpentError(
            f"the media item of Idempotency-Key {key.name!r} was deleted; choose a new key to buy another"
        )
    if row.fingerprint != key.fingerprint:
        raise KeyReusedError(f"Idempotency-Key {key.name!r} was used for another request; choose a new one")
    return row

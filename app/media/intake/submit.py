"""A media is requested: from a client's request to a row that will be generated whatever dies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from app.core.errors import InvalidInputError
from app.core.ids import new_id
from app.core.telemetry import tracing
from app.idempotency.keys import Key, KeyReusedError
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
    """None: that of the model."""
    key: Key | None = None
    """Under which repeating it joins the first request."""
    webhook_url: str | None = None
    webhook_events: Sequence[EventType] | None = None
    """None: the final ones."""


@dataclass(frozen=True, slots=True)
class Requested:
    """The answer to a request."""

    media: MediaRow
    replayed: bool
    """Whether it was requested before, under the same key."""


async def request_media(services: MediaServices, owner_id: UUID, asked: MediaRequest) -> Requested:
    """Write the request, then wake a worker.

    The row is the job: once this returns, the media will be generated even if the broker, this process and every worker
    die now. The bell rings after the commit, so no worker looks for a row that is not there yet.

    Raises:
        InvalidInputError: A model that cannot be requested, or an input or metadata that cannot be taken.
        KeyReusedError: The key was used for another request.
    """
    try:
        new = await _checked(services, owner_id, asked)
    except InvalidInputError:
        # A request that was accepted stays accepted: its model, or a file of its input, may be gone since.
        first = None if asked.key is None else await queries.media_by_key(services.db, owner_id, asked.key.name)
        if first is None or asked.key is None or first.fingerprint != asked.key.fingerprint:
            raise
        return Requested(first, replayed=True)
    tracing.set_attributes(media_id=str(new.id), model=new.model)
    once = None if asked.key is None else Once(asked.key, services.key_lifetime)
    accepted = await request(services.db, new, once)
    if accepted is None:
        return Requested(await _first_request(services, owner_id, asked.key), replayed=True)
    services.bell.ring(new.queue)
    return Requested(MediaRow.accepted(new, accepted), replayed=False)


async def _checked(services: MediaServices, owner_id: UUID, asked: MediaRequest) -> NewMedia:
    order = await validate(services, asked.model, asked.input)
    offer, route = order.offer, order.route
    await services.inputs.validate(owner_id, offer.card.input_schema, order.input)
    return NewMedia(
        **{name: getattr(asked, name) for name in ClientColumns.__struct_fields__},
        id=new_id(),
        job_id=new_id(),
        owner_id=owner_id,
        model=offer.full_name,
        input=to_json(order.input, "input"),
        metadata=to_json(asked.metadata, "metadata", limit=METADATA_BYTES),
        queue=offer.queue,
        route=None if route is None else route.name,
        route_step=0 if route is None else route.step,
        route_input=None if route is None else route.input,
        time_limit=asked.time_limit or order.time_limit,
        webhook=await _receiver(services, owner_id, asked),
        trace=tracing.traceparent(),
    )


async def _receiver(services: MediaServices, owner_id: UUID, asked: MediaRequest) -> str | None:
    """The request's own webhook receiver, as it is stored; None: it has none."""
    if asked.webhook_url is None:
        if asked.webhook_events is not None:
            message = "needs a webhook_url"
            wrong = {"field": "webhook_events", "message": message, "given": None, "allowed": None}
            raise InvalidInputError(f"webhook_events {message}", errors=[wrong])
        return None
    events = asked.webhook_events or FINAL_TYPES
    return await services.receivers.of_request(owner_id, asked.webhook_url, events)


async def _first_request(services: MediaServices, owner_id: UUID, key: Key | None) -> MediaRow:
    row = None if key is None else await queries.media_by_key(services.db, owner_id, key.name)
    if row is None or key is None or row.fingerprint != key.fingerprint:
        name = None if key is None else key.name
        raise KeyReusedError(f"Idempotency-Key {name!r} was used for another request; choose a new one")
    return row

"""Asking for a media: from a checked request to a row that will be generated whatever dies."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg

from app.core.errors import InvalidInputError, brief
from app.core.ids import new_id
from app.core.telemetry import tracing
from app.idempotency.keys import Key, KeyReusedError
from app.jobs.scheduling.availability import Unavailable
from app.jobs.scheduling.route_selection import first_step
from app.jobs.states import MediaStatus
from app.jobs.transitions import transitions
from app.jobs.transitions.commands import NewMedia, Once, OnRoute, Telling, Terms
from app.media import queries
from app.media.context import MediaServices, Row
from app.media.errors import ModelGoneInRequestError, ModelRetiredInRequestError, UnknownModelInRequestError
from app.media_generator.errors import ModelGoneError
from app.media_generator.model_card import ModelStatus
from app.media_generator.registry import (
    MOST_NEAR,
    Fault,
    Listing,
    Offer,
    Registry,
    Routed,
    UnknownModelError,
    faults,
    whole_numbers,
)
from app.webhooks.event_types import FINAL_TYPES, EventType

METADATA_BYTES: Final = 4096
# Made once: `json.dumps` makes an encoder for every call that is not plain.
_encoded: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
"""The escaped character U+0000, which PostgreSQL cannot store; not a backslash that is itself escaped."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a client wants to hear of it."""

    tags: tuple[str, ...] = ()
    webhook_url: str | None = None
    webhook_events: Sequence[EventType] | None = None
    """None: the final ones."""


@dataclass(frozen=True, slots=True)
class MediaRequest:
    """What a client asks for."""

    prompt: str
    model: str | None
    input: Mapping[str, Any]
    metadata: Mapping[str, Any]
    terms: Terms = field(default_factory=Terms)
    key: Key | None = None
    """Under which asking again joins the first request."""
    wanted: Wanted = field(default_factory=Wanted)


@dataclass(frozen=True, slots=True)
class Requested:
    """The media, with the columns of `queries.media_by_id`."""

    media: Row
    replayed: bool
    """Whether it was asked for before, under the same key."""


async def request_media(services: MediaServices, owner_id: UUID, asked: MediaRequest) -> Requested:
    """Write the request down, then wake a worker.

    The row is the job: once this returns, the media will be generated even if the broker, this process and
    every worker die now. The bell rings after the commit, so no worker looks for a row that is not there yet.

    Raises:
        InvalidInputError: A model that cannot be asked for, or an input or metadata that cannot be taken.
        KeyReusedError: The key was used for another request.
    """
    try:
        new = await _checked(services, owner_id, asked)
    except InvalidInputError:
        # What was taken is taken: its model may be gone since, and a file of its input.
        first = None if asked.key is None else await queries.media_by_key(services.db, owner_id, asked.key.name)
        if first is None or asked.key is None or first["fingerprint"] != asked.key.fingerprint:
            raise
        return Requested(first, replayed=True)
    tracing.note(media_id=str(new.id), model=new.model)
    made = await transitions.request(services.db, new)
    if asked.key is not None and made is None:
        return Requested(await _first_under(services, owner_id, asked.key), replayed=True)
    services.bell.ring(new.queue)
    return Requested(_accepted(new, made), replayed=False)


async def _checked(services: MediaServices, owner_id: UUID, asked: MediaRequest) -> NewMedia:
    order = await prepare(services, asked)
    offer = order.offer
    await services.inputs.validate(owner_id, offer.card.input_schema, order.input)
    return NewMedia(
        id=new_id(),
        job_id=new_id(),
        owner_id=owner_id,
        prompt=asked.prompt,
        model=offer.full_name,
        input=_json(order.input, "input"),
        metadata=_json(asked.metadata, "metadata", limit=METADATA_BYTES),
        queue=offer.queue,
        terms=asked.terms if asked.terms.time_limit else replace(asked.terms, time_limit=order.time_limit),
        once=Once(asked.key, services.key_lifetime) if asked.key is not None else None,
        telling=Telling(await _receiver(services, owner_id, asked.wanted), asked.wanted.tags, tracing.carried()),
        route=order.route,
    )


async def _receiver(services: MediaServices, owner_id: UUID, wanted: Wanted) -> str | None:
    """The request's own receiver, as it is stored; None: it has none."""
    if wanted.webhook_url is None:
        if wanted.webhook_events is not None:
            message = "needs a webhook_url"
            wrong = {"field": "webhook_events", "message": message, "given": None, "allowed": None}
            raise InvalidInputError(f"webhook_events {message}", errors=[wrong])
        return None
    events = wanted.webhook_events or FINAL_TYPES
    return await services.receivers.of_request(owner_id, wanted.webhook_url, events)


async def _first_under(services: MediaServices, owner_id: UUID, key: Key) -> asyncpg.Record:
    row = await queries.media_by_key(services.db, owner_id, key.name)
    if row is None or row["fingerprint"] != key.fingerprint:
        raise KeyReusedError(f"Idempotency-Key {key.name!r} was used for another request; choose a new one")
    return row


def _accepted(new: NewMedia, made: asyncpg.Record | None) -> dict[str, Any]:
    created_at = made and made["created_at"]
    return {
        **dict.fromkeys(("progress", "error", "files", "cost", "started_at", "completed_at", "cancel")),
        "priority": new.terms.priority,
        "on_unknown": new.terms.on_unknown,
        "deadline": made and made["deadline"],
        "id": new.id,
        "job_id": new.job_id,
        "status": MediaStatus.IN_QUEUE,
        "prompt": new.prompt,
        "model": new.model,
        "route": None if new.route is None else new.route.name,
        "input": new.input,
        "number_of_tries": 0,
        "tags": new.telling.tags,
        "metadata": new.metadata,
        **dict.fromkeys(("next_run", "created_at", "updated_at"), created_at),
    }


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be bought for a request, checked."""

    offer: Offer
    input: dict[str, Any]
    """Complete."""
    time_limit: timedelta | None
    """If the request does not say; None: as long as it takes."""
    route: OnRoute | None = None


async def prepare(services: MediaServices, asked: MediaRequest) -> Order:
    """Check model and input, and choose the target of a route.

    Raises:
        InvalidInputError: The model is unknown, retired or gone, or does not take the input.
    """
    wanted = find_model(services.registry, asked.model or services.default_model)
    if isinstance(wanted, Offer):
        _refuse_retired(wanted)
    _refuse_faults(wanted, faults(wanted, asked.input))
    given = whole_numbers(wanted, asked.input)
    closed = await services.availability.look()
    if isinstance(wanted, Offer):
        _refuse_gone(services.registry, wanted, closed)
        return Order(wanted, wanted.complete(given), wanted.card.time_limit)
    step, wrong = first_step(wanted, given, closed)
    if step is None:
        _refuse_faults(wanted, wrong)
        raise ModelRetiredInRequestError(f"no target of {wanted.full_name} is sold any more")
    route = OnRoute(wanted.full_name, step.number, _json(given, "input"))
    return Order(step.offer, step.input, wanted.card.time_limit or step.offer.card.time_limit, route)


def _refuse_retired(offer: Offer) -> None:
    if offer.card.standing is ModelStatus.RETIRED:
        successor = offer.card.successor
        instead = "see /models for others" if successor is None else f"ask for {successor}"
        allowed = [] if successor is None else [successor]
        wrong = {"field": "model", "message": "retired", "given": offer.full_name, "allowed": allowed}
        raise ModelRetiredInRequestError(f"{offer.full_name} is retired; {instead}", errors=[wrong])


def _refuse_gone(registry: Registry, offer: Offer, closed: Unavailable) -> None:
    why = closed.models.get(offer.full_name)
    if why is not None and why["code"] == ModelGoneError.code:
        others = registry.near(offer.full_name) if offer.card.successor is None else [offer.card.successor]
        wrong = {"field": "model", "message": "gone", "given": offer.full_name, "allowed": others}
        raise ModelGoneInRequestError(f"{why['message']}; ask for another: {', '.join(others)}", errors=[wrong])


def _refuse_faults(offer: Listing, wrong: Sequence[Fault]) -> None:
    if wrong:
        raise InvalidInputError(
            f"the input does not fit {offer.full_name}: {wrong[0].field}: {wrong[0].message}",
            errors=[
                {"field": fault.field, "message": fault.message, "given": brief(fault.given), "allowed": fault.allowed}
                for fault in wrong
            ],
        )


def find_model(registry: Registry, name: str) -> Offer | Routed:
    """The model or the route that a request names.

    Raises:
        UnknownModelInRequestError: There is none; the error holds the near names.
    """
    try:
        return registry.wanted(name)
    except UnknownModelError as error:
        raise UnknownModelInRequestError(
            f"there is no model {name!r}; {_what_helps(registry, error)}",
            errors=[{"field": "model", "message": "unknown model", "given": name, "allowed": error.near}],
        ) from None


def _what_helps(registry: Registry, error: UnknownModelError) -> str:
    kind = error.name.partition("/")[0]
    if kind in registry.asleep:
        return f"{kind} is not set up here: set {registry.asleep[kind]()} and start API and workers anew"
    if kind in registry.broken:
        return f"{kind} is set up, but cannot be used: `fleek doctor` and /tools/ready say why"
    if len(error.near) > MOST_NEAR:
        return "GET /models lists those that there are"
    return f"near names: {', '.join(error.near)}"


def _json(value: Mapping[str, Any], field: str, *, limit: int | None = None) -> str:
    try:
        text = _encoded(value).encode()
    except ValueError as error:
        message = "numbers must be finite"
        raise InvalidInputError(
            f"{field}: {message}", errors=[{"field": field, "message": message, "given": None, "allowed": None}]
        ) from error
    if limit is not None and len(text) > limit:
        message = f"{len(text)} bytes as JSON, at most {limit} are kept"
        raise InvalidInputError(
            f"{field} is too large: {message}",
            errors=[{"field": field, "message": message, "given": len(text), "allowed": {"maxBytes": limit}}],
        )
    if _NUL.search(text):
        message = "the character U+0000 cannot be stored"
        raise InvalidInputError(
            f"{field}: {message}",
            errors=[{"field": field, "message": message, "given": None, "allowed": None}],
        )
    return text.decode()

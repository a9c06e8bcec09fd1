"""Validation of a request: the model exists, the input matches its schema, and everything can be stored."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from app.core.errors import InvalidInputError, brief
from app.jobs.scheduling.route_selection import first_step
from app.media.context import MediaServices
from app.media.errors import ModelGoneInRequestError, ModelRetiredInRequestError, UnknownModelInRequestError
from app.media.service import did_you_mean
from app.media_generator.errors import ModelGoneError
from app.media_generator.model_card import ModelStatus
from app.media_generator.registry import (
    Fault,
    Listing,
    Offer,
    Registry,
    RouteListing,
    UnknownModelError,
    faults,
    normalize_integers,
)

# Created once: `json.dumps` creates an encoder for every call with options.
_encode: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
"""The escaped character U+0000, which PostgreSQL cannot store; not a backslash that is itself escaped."""


@dataclass(frozen=True, slots=True)
class RouteChoice:
    """The requested route, and the first of its targets to use."""

    name: str
    step: int
    """0 is the first target."""
    input: str
    """As requested, JSON text."""


@dataclass(frozen=True, slots=True)
class ValidatedRequest:
    """What will be submitted for a request."""

    offer: Offer
    input: dict[str, Any]
    """With defaults filled in."""
    time_limit: timedelta | None
    """Applies if the request sets none; None: without limit."""
    route: RouteChoice | None = None


async def validate(services: MediaServices, model: str | None, given: Mapping[str, Any]) -> ValidatedRequest:
    """Check model and input, and select the target of a route.

    Args:
        services: Of the process.
        model: The name of a model or a route; None: the default model.
        given: The input.

    Raises:
        InvalidInputError: The model is unknown, retired or gone, or does not accept the input.
    """
    wanted = find_model(services.registry, model or services.default_model)
    if isinstance(wanted, Offer) and wanted.card.current_status is ModelStatus.RETIRED:
        raise _retired(wanted)
    if wrong := faults(wanted, given):
        raise _invalid_input(wanted, wrong)
    given = normalize_integers(wanted, given)
    unavailable = await services.availability.read()
    if isinstance(wanted, Offer):
        reason = unavailable.models.get(wanted.full_name)
        if reason is not None and reason["code"] == ModelGoneError.code:
            raise _gone(services.registry, wanted, reason["message"])
        return ValidatedRequest(wanted, wanted.complete(given), wanted.card.time_limit)
    step, wrong = first_step(wanted, given, unavailable)
    if step is None and wrong:
        raise _invalid_input(wanted, wrong)
    if step is None:
        raise ModelRetiredInRequestError(f"every target of {wanted.full_name} is retired")
    route = RouteChoice(wanted.full_name, step.number, to_json(given, "input"))
    return ValidatedRequest(step.offer, step.input, wanted.card.time_limit or step.offer.card.time_limit, route)


def _retired(offer: Offer) -> ModelRetiredInRequestError:
    successor = offer.card.successor
    instead = "see /models for others" if successor is None else f"use {successor} instead"
    allowed = [] if successor is None else [successor]
    wrong = {"field": "model", "message": "retired", "given": offer.full_name, "allowed": allowed}
    return ModelRetiredInRequestError(f"{offer.full_name} is retired; {instead}", errors=[wrong])


def _gone(registry: Registry, offer: Offer, reason: str) -> ModelGoneInRequestError:
    others = registry.suggestions(offer.full_name) if offer.card.successor is None else [offer.card.successor]
    wrong = {"field": "model", "message": "gone", "given": offer.full_name, "allowed": others}
    return ModelGoneInRequestError(f"{reason}; use another model: {', '.join(others)}", errors=[wrong])


def _invalid_input(offer: Listing, wrong: Sequence[Fault]) -> InvalidInputError:
    return InvalidInputError(
        f"the input does not fit {offer.full_name}: {wrong[0].field}: {wrong[0].message}",
        errors=[
            {"field": fault.field, "message": fault.message, "given": brief(fault.given), "allowed": fault.allowed}
            for fault in wrong
        ],
    )


def find_model(registry: Registry, name: str) -> Offer | RouteListing:
    """The model or the route that a request names.

    Raises:
        UnknownModelInRequestError: There is none; the error suggests similar names.
    """
    try:
        return registry.resolve(name)
    except UnknownModelError as error:
        raise UnknownModelInRequestError(
            f"there is no model {name!r}; {_hint(registry, error)}",
            errors=[{"field": "model", "message": "unknown model", "given": name, "allowed": error.suggestions}],
        ) from None


def _hint(registry: Registry, error: UnknownModelError) -> str:
    kind = error.name.partition("/")[0]
    if kind in registry.unconfigured:
        return f"{kind} is not configured: set {registry.unconfigured[kind]()} and restart API and workers"
    if kind in registry.load_errors:
        return f"{kind} is configured but unavailable: `fleek doctor` and /tools/ready say why"
    return did_you_mean(error.suggestions)


def to_json(value: Mapping[str, Any], field: str, *, limit: int | None = None) -> str:
    """The value of a field as JSON text that PostgreSQL can store.

    Raises:
        InvalidInputError: It has numbers that are not finite, U+0000, or more than `limit` bytes.
    """
    try:
        text = _encode(value).encode()
    except ValueError as error:
        message = "numbers must be finite"
        raise InvalidInputError(
            f"{field}: {message}", errors=[{"field": field, "message": message, "given": None, "allowed": None}]
        ) from error
    if limit is not None and len(text) > limit:
        message = f"{len(text)} bytes as JSON, at most {limit} are allowed"
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

"""Which models can be requested."""

from datetime import date
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, Field

from app.core.http_server.problems import problems
from app.core.http_server.route import SEVERAL, Route, several
from app.core.pagination import decode_name, encode_name
from app.media import service
from app.media.api.dependencies import media_dependencies
from app.media_generator.media_generator_model import Capabilities
from app.media_generator.model_card import ModelCard, ModelStatus, PriceUnit
from app.media_generator.model_search import ModelQuery, search
from app.media_generator.registry import Offer, RouteListing

router = APIRouter(prefix="/models", tags=["models"], route_class=Route)


Part = Annotated[str, Path(min_length=1, max_length=100, pattern=r"^[\w.:/-]+$")]
"""A part of a model's name."""


class PriceOut(BaseModel):
    """What one unit costs."""

    amount: Decimal = Field(description="A decimal number.", examples=["0.003"])
    per: PriceUnit
    currency: str = Field(examples=["USD"])


class CapabilitiesOut(BaseModel):
    """What its provider can do."""

    cancel: bool = Field(description="A submitted generation can be stopped.")
    cancel_stops_billing: bool = Field(description="A stopped generation costs nothing more.")
    progress: bool = Field(description="`progress` rises during generation.")
    max_outputs: int = Field(description="The most files one media item can have.")
    local: bool = Field(description="It runs on the worker's machine.")


class ModelOut(BaseModel):
    """A model, or a route over several models, with its input schema."""

    name: str = Field(description="The name to request it by.", examples=["dummy/painter"])
    title: str
    description: str
    version: str | None
    output_types: list[str] = Field(examples=[["image/png"]])
    input_schema: dict[str, Any] = Field(description="JSON Schema 2020-12 of `input`.")
    example: dict[str, Any] = Field(description="A body for POST /media/generate.")
    price: PriceOut | None = Field(description="Null: not known, or a route, which costs what its target costs.")
    status: ModelStatus = Field(
        description="`active`; `deprecated`: still available, but to be retired; `retired`: requests are refused."
    )
    retired_at: date | None = Field(description="The day from which requests are refused.")
    successor: str | None = Field(description="The model that replaces it.")
    notice: str | None = Field(
        description="What to do about its status; null: nothing.",
        examples=["acme/one is deprecated, and retired from 2027-01-31; use acme/two"],
    )
    aliases: list[str] = Field(description="Other names for it; media items show `name`.")
    time_limit_seconds: float | None = Field(description="Default time limit of a request; null: without limit.")
    capabilities: CapabilitiesOut | None = Field(description="Null: it is a route.")
    targets: list[str] | None = Field(description="The models of a route, in the order they are tried; null: a model.")


class ModelFilter(BaseModel):
    """Which models; a filter left out matches all."""

    provider: str | None = Field(default=None, description="Only of this provider; `route`: only routes.")
    output_type: str | None = Field(
        default=None, description="Only with this output: `image/png`, or `image` for any image."
    )
    status: Annotated[list[ModelStatus] | None, several(ModelStatus)] = Field(
        default=None, description=f"Only in this status. {SEVERAL}"
    )
    q: str | None = Field(
        default=None,
        max_length=200,
        description="Only with all of these words in name, alias, title or description.",
    )
    limit: int = Field(default=100, ge=1, le=200, description="How many at most.")
    cursor: str | None = Field(default=None, description="`next_cursor` of the previous page.")


class ModelPage(BaseModel):
    """Models and routes, sorted by name."""

    items: list[ModelOut]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page; null: this is the last one.")


def _out(listed: Offer | RouteListing) -> ModelOut:
    card = listed.card
    return ModelOut(
        name=listed.full_name,
        title=card.title,
        description=card.description,
        version=card.version,
        output_types=list(card.output_types),
        input_schema=dict(card.input_schema),
        example={"prompt": "a lighthouse at dawn", "model": listed.full_name, "input": dict(card.example)},
        price=None if card.price is None else PriceOut.model_validate(card.price, from_attributes=True),
        status=card.current_status,
        retired_at=card.retired_at,
        successor=card.successor,
        notice=_notice(listed.full_name, card),
        aliases=list(card.aliases),
        time_limit_seconds=None if card.time_limit is None else card.time_limit.total_seconds(),
        capabilities=None if isinstance(listed, RouteListing) else _capabilities(listed.provider.capabilities, card),
        targets=[offer.full_name for _, offer in listed.targets] if isinstance(listed, RouteListing) else None,
    )


def _capabilities(can: Capabilities, card: ModelCard) -> CapabilitiesOut:
    return CapabilitiesOut(
        cancel=can.cancel,
        cancel_stops_billing=can.cancel_stops_billing,
        progress=can.progress,
        max_outputs=can.max_outputs,
        local=card.local,
    )


def _notice(name: str, card: ModelCard) -> str | None:
    if card.current_status is ModelStatus.ACTIVE and card.retired_at is None:
        return None
    notice = f"{name} is {card.current_status}"
    if card.retired_at is not None and card.current_status is not ModelStatus.RETIRED:
        notice += f", and retired from {card.retired_at}"
    return notice if card.successor is None else f"{notice}; use {card.successor}"


@router.get("", responses=problems(422), summary="List models")
async def models(request: Request, only: Annotated[ModelFilter, Query()]) -> ModelPage:
    """The models and routes that can be requested, with input schema, price and an example."""
    after = decode_name(only.cursor) if only.cursor else ""
    query = ModelQuery(only.provider, only.output_type, frozenset(only.status or ()), only.q, after)
    listed = search(media_dependencies(request).services.registry, query, limit=only.limit + 1)
    more = encode_name(listed[only.limit - 1].full_name) if len(listed) > only.limit else None
    return ModelPage(items=[_out(one) for one in listed[: only.limit]], next_cursor=more)


@router.get("/{provider}/{name:path}", responses=problems(404, 422), summary="A model")
async def model(request: Request, provider: Part, name: Part) -> ModelOut:
    """A model or route, by its name or an alias."""
    return _out(service.model_card(media_dependencies(request).services, f"{provider}/{name}"))

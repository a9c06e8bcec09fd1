"""Which models can be asked for."""

from datetime import date
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, Field

from app.core.http_server.problems import problems
from app.core.pagination import decode_name, encode_name
from app.media import service
from app.media.api.dependencies import media_dependencies
from app.media_generator.media_generator_model import Capabilities
from app.media_generator.model_card import ModelCard, ModelStatus, PriceUnit
from app.media_generator.model_search import ModelQuery, search
from app.media_generator.registry import Offer, RouteListing

router = APIRouter(prefix="/models", tags=["models"])


Part = Annotated[str, Path(min_length=1, max_length=100, pattern=r"^[\w.:/-]+$")]
"""Of a model's name."""


class PriceOut(BaseModel):
    """What one unit costs."""

    amount: Decimal = Field(description="A decimal number.", examples=["0.003"])
    per: PriceUnit
    currency: str = Field(examples=["USD"])


class CapabilitiesOut(BaseModel):
    """What its provider can do."""

    cancel: bool = Field(description="What is bought can be stopped.")
    cancel_stops_billing: bool = Field(description="What is stopped costs nothing more.")
    progress: bool = Field(description="`progress` rises while it is generated.")
    max_outputs: int = Field(description="The most files of one media.")
    local: bool = Field(description="It computes on a worker's machine.")


class ModelOut(BaseModel):
    """A model, or a route over several, and what it takes."""

    name: str = Field(description="As it is asked for.", examples=["dummy/painter"])
    title: str
    description: str
    version: str | None
    output_types: list[str] = Field(examples=[["image/png"]])
    input_schema: dict[str, Any] = Field(description="JSON Schema 2020-12 of `input`.")
    example: dict[str, Any] = Field(description="A body for POST /media/generate.")
    price: PriceOut | None = Field(description="Null: not known; of a route: what its targets cost.")
    status: ModelStatus = Field(
        description="`active`; `deprecated`: still sold, but not for ever; `retired`: requests are refused."
    )
    retired_at: date | None = Field(description="The day from which it is not sold any more.")
    successor: str | None = Field(description="The model that takes its place.")
    notice: str | None = Field(
        description="What to do about its status; null: nothing.",
        examples=["acme/one is deprecated, and retired from 2027-01-31; ask for acme/two"],
    )
    aliases: list[str] = Field(description="Further names for it; a media carries its real one.")
    time_limit_seconds: float | None = Field(description="How long a media may take if its request does not say.")
    capabilities: CapabilitiesOut | None = Field(description="Null: it is a route.")
    targets: list[str] | None = Field(description="Of a route: its models, in the order in which they are tried.")


class ModelFilter(BaseModel):
    """Which models; what is left out does not matter."""

    provider: str | None = Field(default=None, description="Only of this provider; `route` for routes.")
    output_type: str | None = Field(
        default=None, description="Only what makes this: `image/png`, or `image` for any picture."
    )
    status: ModelStatus | None = Field(default=None, description="Only in this status.")
    q: str | None = Field(
        default=None,
        max_length=200,
        description="Only with all of these words in name, alias, title or description.",
    )
    limit: int = Field(default=100, ge=1, le=200, description="How many at most.")
    cursor: str | None = Field(default=None, description="`next_cursor` of the page before.")


class ModelPage(BaseModel):
    """Some models, by name; routes among them."""

    items: list[ModelOut]
    next_cursor: str | None = Field(description="Give it as `cursor` for the page that follows; null: the last page.")


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
    said = f"{name} is {card.current_status}"
    if card.retired_at is not None and card.current_status is not ModelStatus.RETIRED:
        said += f", and retired from {card.retired_at}"
    return said if card.successor is None else f"{said}; ask for {card.successor}"


@router.get("", responses=problems(422), summary="List the models")
async def models(request: Request, asked: Annotated[ModelFilter, Query()]) -> ModelPage:
    """What can be asked for, with input schema, price and an example, by name."""
    after = decode_name(asked.cursor) if asked.cursor else ""
    wanted = ModelQuery(asked.provider, asked.output_type, asked.status, asked.q, after)
    listed = search(media_dependencies(request).services.registry, wanted, limit=asked.limit + 1)
    more = encode_name(listed[asked.limit - 1].full_name) if len(listed) > asked.limit else None
    return ModelPage(items=[_out(one) for one in listed[: asked.limit]], next_cursor=more)


@router.get("/{provider}/{name:path}", responses=problems(404, 422), summary="A model")
async def model(request: Request, provider: Part, name: Part) -> ModelOut:
    """One model or route by its name, or by an alias."""
    return _out(service.model_card(media_dependencies(request).services, f"{provider}/{name}"))

"""Which models can be asked for."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, Field

from app.core.problems import problems
from app.media import service
from app.media.api.desk import desk_of
from app.media_generator.registry import Offer

router = APIRouter(prefix="/models", tags=["models"])


Part = Annotated[str, Path(min_length=1, max_length=100, pattern=r"^[\w.:/-]+$")]
"""Of a model's name."""


class ModelOut(BaseModel):
    """A model and what it takes."""

    name: str = Field(description="As it is asked for.", examples=["dummy/painter"])
    title: str
    description: str
    output_types: list[str] = Field(examples=[["image/png"]])
    input_schema: dict[str, Any] = Field(description="JSON Schema 2020-12 of `input`.")
    example: dict[str, Any] = Field(description="A body for POST /media/generate.")


class ModelList(BaseModel):
    """Every model, by name."""

    items: list[ModelOut]


def _out(offer: Offer) -> ModelOut:
    card = offer.card
    return ModelOut(
        name=offer.full_name,
        title=card.title,
        description=card.description,
        output_types=list(card.output_types),
        input_schema=dict(card.input_schema),
        example={"prompt": "a lighthouse at dawn", "model": offer.full_name, "input": dict(card.example)},
    )


@router.get("", summary="List the models")
async def models(request: Request) -> ModelList:
    """What can be asked for, with input schema and an example."""
    return ModelList(items=[_out(offer) for offer in desk_of(request).services.registry.offers()])


@router.get("/{provider}/{name:path}", responses=problems(404, 422), summary="A model")
async def model(request: Request, provider: Part, name: Part) -> ModelOut:
    """One model by its name."""
    return _out(service.model_card(desk_of(request).services, f"{provider}/{name}"))

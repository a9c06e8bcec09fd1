"""What a request would cost: takes the body of a request and stores nothing."""

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from app.core.http_server.hot_route import HotRoute
from app.core.http_server.problems import problems
from app.media.api.dependencies import media_dependencies
from app.media.api.schemas import MediaIn
from app.media.intake.estimate import estimate
from app.media_generator.costs import CostBasis

router = APIRouter(prefix="/media", tags=["media"], route_class=HotRoute)


class EstimateOut(BaseModel):
    """What a request is expected to cost; afterwards, the media item shows its actual cost."""

    model: str = Field(description="The model that would be used; for a route, its current target.")
    amount: str | None = Field(description="A decimal number; null: not known.", examples=["0.0031"])
    currency: str | None = Field(description="Null: no amount is known.", examples=["USD"])
    basis: CostBasis | None = Field(description="`computed` from price and input; null: no amount is known.")
    units: dict[str, float] | None = Field(
        description="Expected quantity per priced unit; null: not known in advance.", examples=[{"megapixel": 1.048576}]
    )


@router.post(
    "/estimate", response_model=EstimateOut, responses=problems(413, 415, 422, 503), summary="Estimate a request's cost"
)
async def ask(request: Request, body: MediaIn) -> Response:
    """Computed from the catalogue's price and the input. A request that would be refused is refused here too."""
    found = await estimate(media_dependencies(request).services, body.model, body.input)
    answer = EstimateOut(
        model=found.model,
        amount=None if found.amount is None else f"{found.amount.normalize():f}",
        currency=found.currency,
        basis=None if found.amount is None else CostBasis.COMPUTED,
        units=None if found.units is None else dict(found.units),
    )
    return Response(answer.model_dump_json(), media_type="application/json")

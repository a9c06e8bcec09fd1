"""The expected cost of a request; nothing is stored."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from app.media.context import MediaServices
from app.media.intake.validation import validate
from app.media_generator import adapter_calls, costs


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a request is expected to cost."""

    model: str
    """Of a route: its target."""
    amount: Decimal | None
    currency: str | None
    units: Mapping[str, float] | None


async def estimate(services: MediaServices, model: str | None, given: Mapping[str, Any]) -> Estimate:
    """What a request would cost.

    Raises:
        InvalidInputError: The request would be refused.
    """
    validated = await validate(services, model, given)
    price = validated.offer.card.price
    amount = adapter_calls.estimate(validated.offer, validated.input)
    units = None if price is None else costs.expected_units(price, validated.input)
    currency = None if amount is None else ("USD" if price is None else price.currency)
    return Estimate(validated.offer.full_name, amount, currency, units)

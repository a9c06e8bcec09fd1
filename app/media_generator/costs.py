"""The expected cost of a purchase, from price and input, and its actual cost, from what was billed."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final, TypeAlias

from app.core.database.text import storable as storable_text
from app.core.redaction import redacted
from app.media_generator.model_card import ModelCard, Price, PriceUnit

Units: TypeAlias = Mapping[str, float]
"""Billed quantities by unit: `{"megapixel": 1.05}`."""

NUMBER_OF_OUTPUTS: Final = ("num_outputs", "n", "num_images", "number_of_images", "batch_size")
"""Parameters that hold the number of outputs; the first one that is present counts."""
SECONDS: Final = ("duration", "seconds", "duration_seconds")
"""Likewise for the duration of a video or audio file."""
SIZES: Final = ("size", "image_size", "resolution")
"""Likewise for a size, as text (`1024x768`) or as an object with `width` and `height`."""
PRECISION: Final = Decimal("0.000001")
"""Costs are rounded to this many digits."""
MAX_AMOUNT: Final = Decimal(10) ** 11
"""Costs must be below this to be stored."""
LARGEST_FLOAT: Final = sys.float_info.max
MAX_UNIT_CHARS: Final = 64
MAX_UNITS: Final = 20


class CostBasis(StrEnum):
    """Where a cost comes from."""

    REPORTED = "reported"  # by the provider
    COMPUTED = "computed"  # from the billed units and a known price


@dataclass(frozen=True, slots=True)
class Charge:
    """The cost of a purchase."""

    amount: Decimal
    currency: str
    basis: CostBasis


def expected_units(price: Price, given: Mapping[str, Any]) -> Units | None:
    """How many of the price's units an input requests; None: it cannot be derived from the input."""
    unit = price.per
    outputs = _number(given, NUMBER_OF_OUTPUTS)
    if unit is PriceUnit.RUN:
        return {unit: 1.0}
    if unit is PriceUnit.OUTPUT:
        return {unit: 1.0 if outputs is None else outputs}
    if unit is PriceUnit.MEGAPIXEL and (pixels := _pixels(given)) is not None:
        return {unit: round((outputs or 1.0) * pixels / 1_000_000, 6)}
    if unit is PriceUnit.SECOND and (seconds := _number(given, SECONDS)) is not None:
        return {unit: (outputs or 1.0) * seconds}
    return None


def estimate(card: ModelCard, given: Mapping[str, Any]) -> Decimal | None:
    """The expected cost of an input, in the price's currency; None: unknown."""
    if card.price is None or (units := expected_units(card.price, given)) is None:
        return None
    return _priced(card.price, units[card.price.per])


def charge(
    card: ModelCard | None, reported: Decimal | None, units: Units, outputs: int, basis: CostBasis = CostBasis.REPORTED
) -> Charge | None:
    """The cost of a finished purchase; None: unknown.

    Args:
        card: Of the model; None: it is no longer in the catalogue.
        reported: US dollars, by the provider or its adapter.
        units: Billed quantities, as the provider reported them.
        outputs: Number of outputs.
        basis: Where `reported` comes from.
    """
    if reported is not None:
        return Charge(reported, "USD", basis)
    if card is None or card.price is None:
        return None
    counted = {PriceUnit.RUN: 1.0, PriceUnit.OUTPUT: float(outputs), **units}
    if card.price.per not in counted:
        return None
    amount = _priced(card.price, counted[card.price.per])
    return None if amount is None else Charge(amount, card.price.currency, CostBasis.COMPUTED)


def valid_units(units: Any) -> dict[str, float]:
    """The units that can be stored and shown; anything else an adapter reports is dropped."""
    reported: dict[Any, Any] = dict(units) if isinstance(units, Mapping) else {}  # pyright: ignore[reportUnknownArgumentType]
    named = {
        redacted(storable_text(str(name)[:MAX_UNIT_CHARS])): value for name, value in list(reported.items())[:MAX_UNITS]
    }
    return {name: float(value) for name, value in named.items() if _is_amount(value)}


def storable_amount(amount: Decimal | None) -> Decimal | None:
    """An amount rounded for the database; None: it cannot be stored."""
    if amount is None or not amount.is_finite() or not 0 <= amount < MAX_AMOUNT:
        return None
    return amount.quantize(PRECISION)


def _priced(price: Price, units: float) -> Decimal | None:
    return storable_amount(price.amount * Decimal(str(units))) if _is_amount(units) else None


def _number(given: Mapping[str, Any], names: tuple[str, ...]) -> float | None:
    value = next((given[name] for name in names if given.get(name) is not None), None)
    if isinstance(value, str):
        digits = value.strip().removesuffix("s")
        return float(digits) if digits.replace(".", "", 1).isdecimal() and digits.isascii() else None
    return float(value) if value is not None and _is_amount(value) else None


def _pixels(given: Mapping[str, Any]) -> float | None:
    for name in SIZES:
        size = given.get(name)
        if isinstance(size, Mapping):
            return _product(size.get("width"), size.get("height"))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        if isinstance(size, str):
            width, times, height = size.lower().replace("*", "x").partition("x")
            known = times and width.isdecimal() and height.isdecimal() and size.isascii()
            return float(int(width) * int(height)) if known else None
    return _product(given.get("width"), given.get("height"))


def _product(width: Any, height: Any) -> float | None:
    return float(width) * float(height) if _is_amount(width) and _is_amount(height) else None


def _is_amount(value: Any) -> bool:
    # An integer may be too large for a float, and so for `isfinite`.
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= LARGEST_FLOAT

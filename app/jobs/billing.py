"""What an attempt cost, as it is recorded with the attempt's end. The amount comes from `media_generator/costs.py`."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import msgspec

from app.core.database.text import storable
from app.media_generator import costs
from app.media_generator.costs import Charge, CostBasis
from app.media_generator.media_generator_model import Canceled, Succeeded
from app.media_generator.model_card import ModelCard


@dataclass(frozen=True, slots=True)
class AttemptCost:
    """Cost and units of one attempt, as far as they are known."""

    cost: Decimal | None = None
    currency: str | None = None
    """None: the currency of the estimate."""
    basis: CostBasis | None = None
    units: str | None = None
    """JSON text; None: the provider reports none."""

    @property
    def dollars(self) -> Decimal | None:
        """The cost, if it is in US dollars."""
        return self.cost if self.currency == "USD" else None


UNKNOWN_COST: Final = AttemptCost()


def attempt_cost(card: ModelCard | None, outcome: Succeeded | Canceled) -> AttemptCost:
    """The cost of a purchase that has ended.

    Args:
        card: Of the model; None: it is no longer in the catalogue.
        outcome: As `adapter_calls.poll` returns it.
    """
    if isinstance(outcome, Canceled):
        return reported_cost(outcome.cost)
    units = costs.valid_units(outcome.units)
    basis = CostBasis.COMPUTED if outcome.cost_is_computed else CostBasis.REPORTED
    charge = costs.charge(card, outcome.cost, units, len(outcome.outputs), basis)
    units_text = storable(msgspec.json.encode(units).decode()) if units else None
    if charge is None:
        return AttemptCost(units=units_text)
    return AttemptCost(charge.amount, charge.currency, charge.basis, units_text)


def reported_cost(cost: Decimal | None) -> AttemptCost:
    """A cost reported by the provider, in US dollars."""
    if cost is None:
        return UNKNOWN_COST
    charge = Charge(cost, "USD", CostBasis.REPORTED)
    return AttemptCost(charge.amount, charge.currency, charge.basis)


def cost_columns(
    costs_of_items: Iterable[AttemptCost],
) -> tuple[list[Decimal | None], list[str | None], list[str | None], list[str | None]]:
    """The costs as arrays, in the order of `sql.COST_COLUMNS`."""
    items = list(costs_of_items)
    return [c.cost for c in items], [c.currency for c in items], [c.basis for c in items], [c.units for c in items]

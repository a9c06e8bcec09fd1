"""What a try has cost, as it is written down with the try's end. Which amount that is: `costs.py` of the providers."""

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
    """Cost and units of one try, as far as they are known."""

    cost: Decimal | None = None
    currency: str | None = None
    """None: as it was expected."""
    basis: CostBasis | None = None
    units: str | None = None
    """A JSON text; None: the provider tells none."""

    @property
    def dollars(self) -> Decimal | None:
        """The cost, if it is in US dollars."""
        return self.cost if self.currency == "USD" else None


UNKNOWN_COST: Final = AttemptCost()


def bill(card: ModelCard | None, outcome: Succeeded | Canceled) -> AttemptCost:
    """The bill of a purchase that is over.

    Args:
        card: Of the model; None: it is not in the catalogue any more.
        outcome: As `calls.poll` answers it.
    """
    if isinstance(outcome, Canceled):
        return reported(outcome.cost)
    units = costs.sound(outcome.units)
    basis = CostBasis.COMPUTED if outcome.cost_is_computed else CostBasis.REPORTED
    charge = costs.charge(card, outcome.cost, units, len(outcome.outputs), basis)
    told = storable(msgspec.json.encode(units).decode()) if units else None
    if charge is None:
        return AttemptCost(units=told)
    return AttemptCost(charge.amount, charge.currency, charge.basis, told)


def reported(cost: Decimal | None) -> AttemptCost:
    """What the provider says that it has cost, in US dollars."""
    if cost is None:
        return UNKNOWN_COST
    charge = Charge(cost, "USD", CostBasis.REPORTED)
    return AttemptCost(charge.amount, charge.currency, charge.basis)


def columns(
    bills: Iterable[AttemptCost],
) -> tuple[list[Decimal | None], list[str | None], list[str | None], list[str | None]]:
    """The bills as arrays, in the order of `sql.BILL`."""
    told = list(bills)
    return [b.cost for b in told], [b.currency for b in told], [b.basis for b in told], [b.units for b in told]

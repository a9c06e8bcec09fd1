"""Estimates and costs of purchases, and where they are shown."""

import json
from dataclasses import replace
from decimal import Decimal

import pytest

from app.core.ids import new_id
from app.media import operator_queries
from app.media.operator_queries import Filter
from app.media_generator import costs
from app.media_generator.dummy_media_generator.provider import FAULTY, DummyMediaGeneratorModel
from app.media_generator.media_generator_model import Succeeded
from app.media_generator.model_card import Price, PriceUnit
from tests.support import attempts_of

CENT = Decimal("0.01")


def priced(per=PriceUnit.OUTPUT, currency="USD"):
    return replace(FAULTY, price=Price(CENT, per, currency))


class Shop(DummyMediaGeneratorModel):
    """Offers grey pictures, and reports costs as the test sets them."""

    def __init__(self, price=None, **fields):
        super().__init__()
        self.price = price
        self.fields = fields

    def models(self):
        return (replace(FAULTY, price=self.price),)

    async def poll(self, reference):
        outcome = await super().poll(reference)
        return replace(outcome, **self.fields) if isinstance(outcome, Succeeded) else outcome


class FailingEstimate(Shop):
    def estimate(self, card, given):
        raise RuntimeError("no idea")


@pytest.mark.parametrize(
    ("per", "given", "expected"),
    [
        ("run", {"num_outputs": 4}, "0.01"),
        ("output", {}, "0.01"),
        ("output", {"num_outputs": 4}, "0.04"),
        ("output", {"n": 3}, "0.03"),
        ("megapixel", {"width": 1000, "height": 2000}, "0.02"),
        ("megapixel", {"size": "1000x500", "n": 2}, "0.01"),
        ("megapixel", {"image_size": {"width": 1000, "height": 1000}, "num_images": 2}, "0.02"),
        ("megapixel", {"image_size": "square_hd"}, None),
        ("megapixel", {}, None),
        ("second", {"duration": 5}, "0.05"),
        ("second", {"duration": "8s"}, "0.08"),
        ("second", {"duration": True}, None),
        ("second", {}, None),
        ("token", {"n": 2}, None),
    ],
)
def test_estimate_is_computed_from_price_and_input(per, given, expected):
    estimate = costs.estimate(priced(PriceUnit(per)), given)

    assert estimate == (None if expected is None else Decimal(expected))


def test_no_estimate_without_a_price():
    assert costs.estimate(FAULTY, {"num_outputs": 2}) is None


@pytest.mark.parametrize(
    ("per", "units", "expected"),
    [("output", {}, "0.02"), ("run", {}, "0.01"), ("second", {"second": 2.5}, "0.025"), ("second", {"token": 1}, None)],
)
def test_cost_is_computed_from_billed_units_and_price(per, units, expected):
    charge = costs.charge(priced(PriceUnit(per), "EUR"), None, units, 2)

    assert charge == (expected and costs.Charge(Decimal(expected), "EUR", costs.CostBasis.COMPUTED))


@pytest.mark.parametrize("units", [{"second": float("nan")}, {"second": "much"}, {"second": -1.0}])
def test_invalid_units_are_dropped(units):
    assert costs.valid_units({**units, "token": 3}) == {"token": 3.0}


async def test_reported_cost_is_shown_on_media_and_attempt(client, working):
    await working(Shop(Price(CENT), cost=Decimal("0.0125"), units={"second": 1.25}))

    done = await client.until(await client.faulty())

    (attempt,) = await attempts_of(client, done)
    assert done["cost"] == {"amount": "0.0125", "currency": "USD", "basis": "reported", "estimate": "0.01"}
    assert (Decimal(attempt["cost"]), Decimal(attempt["estimate"])) == (Decimal("0.0125"), CENT)
    assert (attempt["currency"], attempt["cost_basis"], attempt["units"]) == ("USD", "reported", {"second": 1.25})


async def test_unreported_cost_is_computed(client, working):
    await working(Shop(Price(CENT, PriceUnit.SECOND, "EUR"), units={"second": 2.0}))

    done = await client.until(await client.faulty())

    assert done["cost"] == {"amount": "0.02", "currency": "EUR", "basis": "computed", "estimate": None}


async def test_cost_computed_by_the_adapter_has_basis_computed(client, working):
    await working(Shop(cost=Decimal("0.0345"), cost_is_computed=True))

    done = await client.until(await client.faulty())

    assert done["cost"] == {"amount": "0.0345", "currency": "USD", "basis": "computed", "estimate": None}


async def test_estimate_in_another_currency_is_omitted(client, working):
    await working(Shop(Price(CENT, currency="EUR"), cost=Decimal(1)))

    done = await client.until(await client.faulty())

    assert done["cost"] == {"amount": "1", "currency": "USD", "basis": "reported", "estimate": None}


async def test_attempt_without_cost_adds_nothing(client, working):
    await working(Shop(Price(CENT)))

    done = await client.until(await client.faulty(fail_times=2, fail_with="busy"))

    assert (done["number_of_tries"], done["cost"]["amount"], done["cost"]["estimate"]) == (3, "0.01", "0.01")


async def test_unknown_cost_is_null(client, working):
    await working(FailingEstimate())

    media = await client.faulty()
    done = await client.until(media)

    assert media["cost"] is None
    assert done["cost"] == {"amount": None, "currency": "USD", "basis": None, "estimate": None}


async def test_costs_in_several_currencies_are_not_summed(client, working, db):
    await working(Shop(Price(CENT, currency="EUR")))
    await client.until(await client.faulty())
    (alone,) = await operator_queries.jobs(db, Filter(), limit=2)
    another = json.dumps({"id": str(new_id()), "number": 2, "currency": "USD", "external_id": "another"})
    await db.execute("INSERT INTO attempts SELECT (jsonb_populate_record(a, $1::jsonb)).* FROM attempts a", another)

    (both,) = await operator_queries.jobs(db, Filter(), limit=2)

    assert (alone.cost, alone.currency) == (CENT, "EUR")
    assert (both.cost, both.currency) == (None, None)

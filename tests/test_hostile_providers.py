"""Providers that answer in bad faith, or badly: nothing that they tell beside it costs a result that was paid for."""

from dataclasses import replace
from decimal import Decimal

import pytest

from app.media.calls import MOST_OUTPUTS
from app.media.settlement import LONGEST_MESSAGE
from app.media_generator.dummy_media_generator.provider import DummyMediaGeneratorModel
from app.media_generator.errors import GenerationFailedError
from app.media_generator.media_generator_model import Failed, Succeeded

HUGE = 10**400


class Tells(DummyMediaGeneratorModel):
    """Its results as the test says."""

    def __init__(self, change):
        super().__init__()
        self.change = change

    async def poll(self, reference):
        outcome = await super().poll(reference)
        return self.change(outcome) if isinstance(outcome, Succeeded) else outcome


@pytest.mark.parametrize(
    "told",
    [
        {"units": {"second": HUGE}},
        {"units": {"a\x00": 1.0, "\ud800": 1.0}},
        {"units": None},
        {"units": [1]},
        {"cost": "dear"},
        {"cost": [1]},
        {"cost": Decimal("sNaN")},
        {"cost": HUGE},
        {"log": 7},
        {"log": ["a"]},
    ],
    ids=repr,
)
async def test_what_is_told_beside_a_result_does_not_cost_it(client, working, told):
    await working(Tells(lambda outcome: replace(outcome, **told)))

    done = await client.until(await client.faulty())

    assert (done["status"], len(done["files"])) == ("COMPLETED", 1), done["error"]


async def test_so_many_outputs_and_no_more(client, working):
    await working(Tells(lambda outcome: replace(outcome, outputs=outcome.outputs * (MOST_OUTPUTS + 2))))

    done = await client.until(await client.faulty(size=1_000))

    assert (done["status"], len(done["files"])) == ("COMPLETED", MOST_OUTPUTS)


async def test_an_error_without_end_is_cut(client, working):
    await working(Tells(lambda _: Failed(GenerationFailedError("x" * 1_000_000))))

    done = await client.until(await client.faulty())

    assert len(done["error"]["message"]) < LONGEST_MESSAGE + 100

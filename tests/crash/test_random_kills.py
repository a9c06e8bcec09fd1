"""Workers killed at moments that nobody chose: the long run (`python -m tests.crash`) in short."""

import os

import pytest

from tests.crash.audit import story
from tests.crash.campaign import Campaign, Plan
from tests.crash.orders import OWN_MODELS
from tests.crash.troubles import ALL

TOO_LONG = frozenset({"long_wait"})
"""For a test suite."""


@pytest.fixture
def plan():
    seed = int(os.environ.get("CRASH_SEED", "1"))
    troubles = frozenset(ALL) - TOO_LONG
    return Plan(jobs=40, deaths=8, workers=3, seed=seed, longest_delay=2.0, troubles=troubles, models=OWN_MODELS)


async def test_40_jobs_survive_8_dead_workers(new_fleet, plan):
    async with new_fleet(simulator=plan.simulator, **plan.environment) as fleet:
        campaign = Campaign(fleet, plan)
        await campaign.run()
        verdict = await campaign.finish(workers=2, seconds=60)
        told = [await story(fleet, one.media) for one in verdict.violations]

    assert (verdict.accepted, campaign.oddities) == (40, [])
    assert verdict.holds, "\n".join([*verdict.culprits, *told])
    assert sum(campaign.kills.values()) >= 8

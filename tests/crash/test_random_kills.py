"""Workers killed at moments that nobody chose: the long run (`python -m tests.crash`) in short."""

import os

from tests.crash.audit import story
from tests.crash.campaign import Campaign, Plan


async def test_40_jobs_survive_8_dead_workers(fleet):
    plan = Plan(jobs=40, deaths=8, workers=3, seed=int(os.environ.get("CRASH_SEED", "1")), longest_delay=2.0)
    campaign = Campaign(fleet, plan)
    await campaign.run()
    verdict = await campaign.finish(workers=2, seconds=60)

    told = [await story(fleet, prompt) for prompt in verdict.bought_twice]
    assert (verdict.accepted, campaign.oddities) == (40, [])
    assert verdict.holds, "\n".join([*verdict.culprits, *told])
    assert sum(campaign.kills.values()) >= 8

"""The order of claims: priority, turns of owners, waiting, open attempts and provider limits."""

import asyncio
from datetime import timedelta

import pytest

from app.core.ids import new_id
from app.jobs.scheduling import provider_circuits
from app.jobs.transitions import claim as claim_transition
from app.jobs.transitions import release
from app.media_generator.errors import CreditError
from app.runtime import open_runtime
from app.worker import build_runner
from tests.jobs import begin_attempt, claim_lease, register_worker, request_media
from tests.support import claim, claim_terms

MINUTE = timedelta(minutes=1)


async def claim_all(db, worker_id, *, limit, **terms):
    """Everything that can be claimed, in the order of the claims, as a runner makes them."""
    claimed = []
    while rows := await claim(db, "network", worker_id=worker_id, limit=limit, **terms):
        terms["last_served_owner"] = rows[-1].owner_id
        claimed += rows
    return claimed


@pytest.mark.parametrize("limit", [1, 3, 100])
async def test_higher_priority_is_claimed_first(db, worker_id, limit):
    priorities = [3, 9, 0, 5, 9, 1]
    priority_of = {await request_media(db, priority=priority): priority for priority in priorities}

    claimed = await claim_all(db, worker_id, limit=limit)

    assert [priority_of[row.id] for row in claimed] == sorted(priorities, reverse=True)


@pytest.mark.parametrize("limit", [1, 2, 7, 200])
async def test_owners_take_turns_however_many_jobs_one_has(db, worker_id, limit):
    busy, first, second = new_id(), new_id(), new_id()
    for _ in range(60):
        await request_media(db, busy)
    for owner in (first, second, first, second):
        await request_media(db, owner)

    claimed = [row.owner_id for row in await claim_all(db, worker_id, limit=limit)]

    assert len(claimed) == 64
    assert max(claimed.index(first), claimed.index(second)) <= 2
    assert {first, second} <= set(claimed[3:6]) | {claimed[2]}


async def test_priority_rises_with_waiting(db, worker_id):
    old = await request_media(db, priority=1, overdue=timedelta(minutes=45))
    new = await request_media(db, priority=7)
    low = await request_media(db, priority=1)

    claimed = await claim_all(db, worker_id, limit=1, ageing=timedelta(minutes=5))

    assert [row.id for row in claimed] == [old, new, low]


async def test_priority_rises_only_for_the_media_that_waited_long(db, worker_id):
    old = [await request_media(db, priority=0, overdue=timedelta(minutes=50)) for _ in range(2)]
    young = await request_media(db, priority=0)
    high = await request_media(db, priority=9)

    claimed = await claim_all(db, worker_id, limit=10, ageing=timedelta(minutes=5))

    assert {row.id for row in claimed[:3]} == {*old, high}
    assert claimed[3].id == young


async def test_all_owners_are_served_where_there_are_more_than_one_claim_reads(db, worker_id):
    await db.execute(
        """INSERT INTO media (id, job_id, owner_id, status, prompt, model, provider, input, metadata, queue)
        SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'IN_QUEUE', 'p', 'a/b', 'a', '{}', '{}',
            'network' FROM generate_series(1, 2500)"""
    )
    claimed, position = set(), {}
    for _ in range(30):
        answer = await claim_transition.claim(db, "network", claim_terms(worker_id, **position), limit=200)
        claimed |= {row.id for row in answer.media}
        position = {"scan_from_owner": answer.next_owner} if answer.next_owner else {}

    assert len(claimed) == 2500


async def test_media_with_an_open_attempt_is_claimed_first_and_outside_every_limit(db, worker_id):
    started = await request_media(db, priority=0)
    lease = await claim_lease(db, worker_id)
    await begin_attempt(db, lease)
    await release.return_held(db, [lease], reason="test", delay=timedelta(0))
    await request_media(db, priority=9)
    await provider_circuits.trip(db, "dummy", CreditError("no credit"), pause=MINUTE)

    claimed = await claim_all(db, worker_id, limit=1, limits={"dummy": 1})

    assert [(row.id, row.attempt_number) for row in claimed] == [(started, 1)]


async def test_provider_limit_holds_over_all_workers(db):
    worker_ids = [await register_worker(db) for _ in range(6)]
    for _ in range(40):
        await request_media(db, new_id())
    await request_media(db, model="other/model")

    claims = await asyncio.gather(
        *(claim(db, "network", worker_id=worker_id, limit=20, limits={"dummy": 7}) for worker_id in worker_ids)
    )

    providers = [row.model.partition("/")[0] for rows in claims for row in rows]
    assert providers.count("dummy") == 7
    assert providers.count("other") == 1


async def test_place_freed_under_a_provider_limit_is_used(client, settings, db, bell):
    async with open_runtime(settings.model_copy(update={"provider_limits": {"dummy": 2}})) as limited:
        runner = bell.runner = build_runner(limited)
        await runner.start()
        media = [await client.faulty(delay=0.3) for _ in range(6)]
        most = 0
        while not all([(await client.media(one))["status"] == "COMPLETED" for one in media]):
            most = max(most, len(await db.fetch("SELECT 1 FROM media WHERE status = 'PROCESSING'")))
        await runner.stop()

    assert most == 2

"""Who comes next: priority, fairness between owners, ageing, limits and closed providers, and what a client sees."""

import asyncio
from datetime import timedelta

import pytest

from app.auth.principal import DEFAULT_OWNER_ID
from app.core.ids import new_id
from app.jobs.scheduling import provider_circuits
from app.jobs.scheduling.queue_position import QueuePositions
from app.jobs.transitions import claim as claiming
from app.jobs.transitions import release
from app.jobs.transitions.attempt import Intent, intend
from app.jobs.transitions.base import Lease
from app.jobs.transitions.request import request
from app.jobs.worker import leases
from app.media import queries
from app.media_generator.dummy_media_generator.provider import DummyMediaGeneratorModel
from app.media_generator.errors import CreditError, UnauthorizedError
from app.media_generator.registry import Registry
from app.runtime import open_runtime
from app.worker import build_runner
from tests.support import claim, claim_terms, eventually, new_media

MINUTE = timedelta(minutes=1)


@pytest.fixture
async def worker_id(db):
    worker_id = new_id()
    await leases.register(db, worker_id, "test")
    return worker_id


async def asked(db, owner, *, priority=5, model="dummy/faulty", waits=None):
    new = new_media(model, owner_id=owner, priority=priority)
    await request(db, new)
    if waits is not None:
        await db.execute("UPDATE media SET next_run = now() - $2::interval WHERE id = $1", new.id, waits)
    return new.id


async def claim_all(db, worker_id, *, limit, **terms):
    """Claims until there is nothing left, as a runner does, in the order in which they came."""
    taken = []
    while rows := await claim(db, "network", worker_id=worker_id, limit=limit, **terms):
        terms["served"] = rows[-1].owner_id
        taken += rows
    return taken


@pytest.mark.parametrize("limit", [1, 3, 100])
async def test_higher_priorities_come_first(db, worker_id, limit):
    given = [3, 9, 0, 5, 9, 1]
    ids = {await asked(db, DEFAULT_OWNER_ID, priority=priority): priority for priority in given}

    taken = await claim_all(db, worker_id, limit=limit)

    assert [ids[row.id] for row in taken] == sorted(given, reverse=True)


@pytest.mark.parametrize("limit", [1, 2, 7, 200])
async def test_owners_take_turns_so_that_ten_thousand_jobs_hold_back_nobody(db, worker_id, limit):
    busy, first, second = new_id(), new_id(), new_id()
    for _ in range(60):
        await asked(db, busy)
    for owner in (first, second, first, second):
        await asked(db, owner)

    taken = [row.owner_id for row in await claim_all(db, worker_id, limit=limit)]

    assert len(taken) == 64
    assert max(taken.index(first), taken.index(second)) <= 2
    assert {first, second} <= set(taken[3:6]) | {taken[2]}


async def test_what_waits_long_overtakes_higher_priorities(db, worker_id):
    old = await asked(db, DEFAULT_OWNER_ID, priority=1, waits=timedelta(minutes=45))
    new = await asked(db, DEFAULT_OWNER_ID, priority=7)
    low = await asked(db, DEFAULT_OWNER_ID, priority=1)

    taken = await claim_all(db, worker_id, limit=1, ageing=timedelta(minutes=5))

    assert [row.id for row in taken] == [old, new, low]


async def test_of_one_stream_only_what_has_waited_long_overtakes(db, worker_id):
    old = [await asked(db, DEFAULT_OWNER_ID, priority=0, waits=timedelta(minutes=50)) for _ in range(2)]
    young = await asked(db, DEFAULT_OWNER_ID, priority=0)
    high = await asked(db, DEFAULT_OWNER_ID, priority=9)

    taken = await claim_all(db, worker_id, limit=10, ageing=timedelta(minutes=5))

    assert {row.id for row in taken[:3]} == {*old, high}
    assert taken[3].id == young


async def test_more_owners_than_one_look_sees_are_all_served(db, worker_id):
    await db.execute(
        """INSERT INTO media (id, job_id, owner_id, status, prompt, model, provider, input, metadata, queue)
        SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'IN_QUEUE', 'p', 'a/b', 'a', '{}', '{}',
            'network' FROM generate_series(1, 2500)"""
    )
    taken, after = set(), {}
    for _ in range(30):
        claimed = await claiming.claim(db, "network", claim_terms(worker_id, **after), limit=200)
        taken |= {row.id for row in claimed.media}
        after = {"after": claimed.next_owner} if claimed.next_owner else {}

    assert len(taken) == 2500


async def test_what_may_be_paid_already_comes_before_every_priority_and_outside_every_limit(db, worker_id):
    bought = await asked(db, DEFAULT_OWNER_ID, priority=0)
    (row,) = await claim(db, "network", worker_id=worker_id, limit=1)
    held = Lease(bought, row.fence)
    await intend.many(db, [Intent(held, new_id(), "dummy/faulty", "1", "00")])
    await release.hand_back(db, [held], reason="test", delay=timedelta(0))
    await asked(db, DEFAULT_OWNER_ID, priority=9)
    await provider_circuits.trip(db, "dummy", CreditError("no credit"), pause=MINUTE)

    taken = await claim_all(db, worker_id, limit=1, limits={"dummy": 1})

    assert [(row.id, row.attempt_number) for row in taken] == [(bought, 1)]


async def test_a_limit_holds_for_all_workers_at_once(db):
    ids = [new_id() for _ in range(6)]
    for worker_id in ids:
        await leases.register(db, worker_id, "test")
    for _ in range(40):
        await asked(db, new_id())
    await asked(db, DEFAULT_OWNER_ID, model="other/model")

    claims = await asyncio.gather(
        *(claim(db, "network", worker_id=worker_id, limit=20, limits={"dummy": 7}) for worker_id in ids)
    )

    taken = [row.model.partition("/")[0] for rows in claims for row in rows]
    assert taken.count("dummy") == 7
    assert taken.count("other") == 1


async def test_a_place_that_becomes_free_is_taken(client, settings, db, bell):
    async with open_runtime(settings.model_copy(update={"provider_limits": {"dummy": 2}})) as limited:
        runner = bell.runner = build_runner(limited)
        await runner.start()
        media = [await client.faulty(delay=0.3) for _ in range(6)]
        most = 0
        while not all([(await client.media(one))["status"] == "COMPLETED" for one in media]):
            most = max(most, len(await db.fetch("SELECT 1 FROM media WHERE status = 'PROCESSING'")))
        await runner.stop()

    assert most == 2


class Keyless(DummyMediaGeneratorModel):
    """Sells nothing until it gets a good key."""

    good = False

    async def submit(self, submission):
        if not self.good:
            raise UnauthorizedError("the key is not valid")
        return await super().submit(submission)


async def test_a_provider_with_a_bad_key_is_closed_and_opens_by_itself_when_the_key_is_good(client, settings, db, bell):
    provider = Keyless()
    first = await client.faulty()
    async with open_runtime(settings, Registry([provider])) as keyless:
        runner = bell.runner = build_runner(keyless)
        await runner.start()
        failed = await client.until(first)
        await eventually(lambda: provider_circuits.tripped(db))
        waiting = [await client.faulty() for _ in range(3)]
        told = await eventually(lambda: client.media(waiting[-1]), lambda media: media["waiting_for"])
        ready = await client.api.get("/tools/ready")
        # Trials fail, and cost none of the jobs that wait its place.
        await eventually(lambda: db.fetch("SELECT 1 FROM media_history WHERE event = 'retry_scheduled'"))
        provider.good = True
        done = [await client.until(media) for media in waiting]
        open_again = await eventually(lambda: provider_circuits.tripped(db), lambda rows: rows == [])
        await runner.stop()

    assert (failed["status"], failed["error"]["code"]) == ("ERROR", "provider_unauthorized")
    assert (told["status"], told["waiting_for"]["code"]) == ("IN_QUEUE", "provider_unauthorized")
    assert ready.status_code == 200
    (check,) = [check for check in ready.json()["checks"] if check["name"] == "providers"]
    assert (check["ok"], "dummy" in check["detail"], "key" in check["detail"]) == (False, True, True)
    assert {media["status"] for media in done} == {"COMPLETED"}
    assert open_again == []


async def test_a_client_sees_how_many_are_before_it(client):
    media = [await client.faulty() for _ in range(3)]
    urgent = await client.generate(model="dummy/faulty", priority=9)
    await asyncio.sleep(1.1)

    seen = [(await client.media(one))["queue_position"] for one in (*media, urgent)]
    light = (await client.api.get(f"/media/jobs/{media[1]['job_id']}")).json()

    assert seen == [1, 2, 3, 0]
    assert light["queue_position"] == 2


async def test_another_owners_long_queue_is_hardly_before_anybody(client, db):
    crowd = new_id()
    for _ in range(30):
        await asked(db, crowd)
    media = await client.faulty()

    assert (await client.media(media))["queue_position"] == 1


async def test_beyond_a_thousand_nobody_counts(client, db):
    await db.execute(
        """INSERT INTO media (id, job_id, owner_id, status, prompt, model, provider, input, metadata, queue, next_run)
        SELECT gen_random_uuid(), gen_random_uuid(), $1, 'IN_QUEUE', 'p', 'dummy/faulty', 'dummy', '{}', '{}',
            'network', now() - interval '1 minute' FROM generate_series(1, 1500)""",
        DEFAULT_OWNER_ID,
    )
    media = await client.faulty()

    assert (await client.media(media))["queue_position"] == "1000+"


async def test_the_etag_changes_with_the_place(client, db):
    media = [await client.faulty() for _ in range(2)]
    path = f"/media/jobs/{media[1]['job_id']}"
    before = await client.api.get(path)
    same = await client.api.get(path, headers={"if-none-match": before.headers["etag"]})
    await db.execute("DELETE FROM media WHERE id = $1", media[0]["id"])

    after = await client.api.get(path, headers={"if-none-match": before.headers["etag"]})

    assert (same.status_code, after.status_code) == (304, 200)
    assert (before.json()["queue_position"], after.json()["queue_position"]) == (1, 0)


async def test_what_is_at_a_closed_provider_is_before_nobody(db):
    for _ in range(5):
        await asked(db, DEFAULT_OWNER_ID, model="closed/model")
    media_id = await asked(db, new_id())
    await provider_circuits.trip(db, "closed", CreditError("no credit"), pause=MINUTE)
    owner = (await db.fetchrow("SELECT owner_id FROM media WHERE id = $1", media_id))["owner_id"]

    waiting = await QueuePositions(db).waiting(await queries.media_by_id(db, media_id, owner))

    assert (waiting.position, waiting.reason) == (0, None)


@pytest.mark.parametrize("priority", [-1, 10, "5", 1.5, None])
async def test_a_priority_that_is_none_is_refused(client, priority):
    answer = await client.api.post("/media/generate", json={"prompt": "x", "priority": priority})

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "priority")

"""The statements that move media: races with real connections, fencing, repeated writes."""

import asyncio
from datetime import timedelta

import msgspec
import pytest

from app.auth.principal import DEFAULT_OWNER_ID
from app.core.ids import new_id
from app.jobs.scheduling import pauses
from app.jobs.states import AttemptStatus
from app.jobs.transitions import claim as claiming
from app.jobs.transitions import failure as failing
from app.jobs.transitions import release, shelving
from app.jobs.transitions.attempt import Intent, Progress, Purchase, intend, record_purchases, report_progress
from app.jobs.transitions.base import Lease
from app.jobs.transitions.completion import Completion, StoredFile, complete
from app.jobs.transitions.failure import Failure
from app.jobs.transitions.request import request
from app.jobs.worker import leases
from app.jobs.worker.slots import NOBODY
from app.media import queries
from tests.support import claim, new_media

NOW = timedelta(0)


@pytest.fixture
async def worker_id(db):
    worker_id = new_id()
    await leases.register(db, worker_id, "test")
    return worker_id


async def requested(db, *, queue="network"):
    new = new_media(queue=queue)
    await request(db, new)
    return new.id


async def claimed(db, worker_id):
    media_id = await requested(db)
    (row,) = await claim(db, "network", worker_id=worker_id, limit=1)
    assert row.id == media_id
    return Lease(media_id, row.fence)


def intent(held, attempt_id=None):
    return Intent(held, attempt_id or new_id(), "dummy/faulty", "1", "00")


def failure(held, attempt_id, *, retry_after=None):
    error = '{"code": "provider_busy", "message": "busy"}'
    return Failure(held, attempt_id, AttemptStatus.FAILED, "NO", error, retry_after)


def completion(held, attempt_id):
    file = StoredFile(new_id(), 0, "media/x/0.png", "image/png", 10, 1, 1, "ab")
    return Completion(held, attempt_id, (file,))


async def status_of(db, held):
    return (await queries.media_by_id(db, held.media_id, DEFAULT_OWNER_ID)).status


async def events_of(db, held):
    rows = await db.fetch("SELECT event FROM media_history WHERE media_id = $1 ORDER BY id", held.media_id)
    return [row["event"] for row in rows]


async def test_of_many_workers_each_media_goes_to_one(db):
    asked = {await requested(db) for _ in range(60)}
    ids = [new_id() for _ in range(8)]
    for worker_id in ids:
        await leases.register(db, worker_id, "test")

    async def claim_all(worker_id):
        got = []
        while rows := await claim(db, "network", worker_id=worker_id, limit=3):
            got += [row.id for row in rows]
        return got

    claims = await asyncio.gather(*(claim_all(worker_id) for worker_id in ids))

    everything = [media_id for got in claims for media_id in got]
    assert len(everything) == 60
    assert set(everything) == asked


async def test_a_worker_without_a_row_gets_nothing(db):
    await requested(db)

    assert await claim(db, "network", worker_id=new_id(), limit=10) == []


async def test_the_oldest_due_media_of_the_queue_comes_first(db, worker_id):
    first = await requested(db)
    await requested(db, queue="local")
    second = await requested(db)

    rows = await claim(db, "network", worker_id=worker_id, limit=10)

    assert [row.id for row in rows] == [first, second]


async def test_what_is_not_due_yet_is_left_alone(db, worker_id):
    held = await claimed(db, worker_id)
    attempt_id = new_id()
    await intend.many(db, [intent(held, attempt_id)])
    await failing.schedule_retries.many(db, [failure(held, attempt_id, retry_after=timedelta(hours=1))])

    assert await claim(db, "network", worker_id=worker_id, limit=10) == []


async def test_a_worker_that_lost_its_lease_can_write_nothing(db, worker_id):
    old = await claimed(db, worker_id)
    attempt_id = new_id()
    await intend.many(db, [intent(old, attempt_id)])
    await release.hand_back(db, [old], reason="test", delay=NOW)
    (row,) = await claim(db, "network", worker_id=worker_id, limit=1)
    assert row.fence == old.fencing_token + 1

    assert await intend.many(db, [intent(old)]) == [None]
    assert await complete.many(db, [completion(old, attempt_id)]) == [False]
    assert await failing.fail.many(db, [failure(old, attempt_id)]) == [False]
    assert await failing.schedule_retries.many(db, [failure(old, attempt_id, retry_after=NOW)]) == [False]
    assert await release.hand_back(db, [old], reason="test", delay=NOW) == [False]
    assert await report_progress.many(db, [Progress(old, 0.5)]) == [False]
    assert await status_of(db, old) == "PROCESSING"
    assert await db.fetch("SELECT 1 FROM files") == []


async def test_what_was_bought_is_recorded_even_after_the_lease_is_lost(db, worker_id):
    held = await claimed(db, worker_id)
    attempt_id = new_id()
    await intend.many(db, [intent(held, attempt_id)])
    await release.hand_back(db, [held], reason="test", delay=NOW)

    assert await record_purchases.many(db, [Purchase(attempt_id, "ext-1", '{"external_id": "ext-1"}')]) == [True]
    (row,) = await claim(db, "network", worker_id=worker_id, limit=1)
    assert (row.attempt_id, row.attempt_number) == (attempt_id, 1)
    assert "ext-1" in row.reference


async def test_an_intent_whose_answer_was_lost_can_be_written_again(db, worker_id):
    held = await claimed(db, worker_id)
    same = intent(held)

    assert await intend.many(db, [same]) == [1]
    assert await intend.many(db, [same]) == [1]
    assert (await queries.media_by_id(db, held.media_id, DEFAULT_OWNER_ID)).number_of_tries == 1


async def test_a_purchase_whose_answer_was_lost_can_be_written_again(db, worker_id):
    held = await claimed(db, worker_id)
    attempt_id = new_id()
    await intend.many(db, [intent(held, attempt_id)])
    fact = Purchase(attempt_id, "ext-1", '{"external_id": "ext-1"}')

    assert await record_purchases.many(db, [fact]) == [True]
    assert await record_purchases.many(db, [fact]) == [True]


async def test_completion_and_failure_that_race_end_in_exactly_one(db, worker_id):
    for _ in range(20):
        held = await claimed(db, worker_id)
        attempt_id = new_id()
        await intend.many(db, [intent(held, attempt_id)])

        (done,), (failed,) = await asyncio.gather(
            complete.many(db, [completion(held, attempt_id)]),
            failing.fail.many(db, [failure(held, attempt_id)]),
        )

        assert done != failed
        assert await status_of(db, held) == ("COMPLETED" if done else "ERROR")
        files = await db.fetch("SELECT 1 FROM files WHERE media_id = $1", held.media_id)
        assert len(files) == done


async def test_a_batch_moves_what_is_held_and_refuses_the_rest(db, worker_id):
    mine = await claimed(db, worker_id)
    lost = Lease((await claimed(db, worker_id)).media_id, 99)
    ids = [new_id(), new_id()]

    assert await intend.many(db, [intent(mine, ids[0]), intent(lost, ids[1])]) == [1, None]
    assert await complete.many(db, [completion(mine, ids[0]), completion(lost, ids[1])]) == [
        True,
        False,
    ]


async def test_every_move_leaves_its_row_in_the_history(db, worker_id):
    held = await claimed(db, worker_id)
    attempt_id = new_id()
    await intend.many(db, [intent(held, attempt_id)])
    await failing.schedule_retries.many(db, [failure(held, attempt_id, retry_after=NOW)])
    (row,) = await claim(db, "network", worker_id=worker_id, limit=1)
    held = Lease(held.media_id, row.fence)
    await release.hand_back(db, [held], reason="test", delay=NOW)
    (row,) = await claim(db, "network", worker_id=worker_id, limit=1)
    held = Lease(held.media_id, row.fence)
    second = new_id()
    assert await intend.many(db, [intent(held, second)]) == [2]
    await complete.many(db, [completion(held, second)])

    assert await events_of(db, held) == [
        "requested",
        "claimed",
        "retry_scheduled",
        "claimed",
        "returned",
        "claimed",
        "completed",
    ]


async def backlog(db, rows, *, owners):
    await db.execute(
        """INSERT INTO media (id, job_id, owner_id, status, prompt, model, provider, input, metadata, queue, rank,
            next_run)
        SELECT gen_random_uuid(), gen_random_uuid(), lpad((n % $2)::text, 32, '0')::uuid, 'IN_QUEUE', 'p', 'a/b', 'a',
            '{}', '{}', 'network', n % 3, now() - make_interval(secs => n / 1000.0) FROM generate_series(1, $1) n""",
        rows,
        owners,
    )
    await db.execute("ANALYZE media")


@pytest.mark.parametrize(("rows", "owners"), [(100_000, 40), (20_000, 1), (20_000, 5000)])
async def test_claiming_from_a_long_queue_reads_no_more_than_it_takes(db, worker_id, rows, owners):
    await backlog(db, rows, owners=owners)

    assert await read_by_claim(db, worker_id) < 2500


async def test_claiming_past_half_a_queue_that_is_paused_reads_no_more(db, worker_id):
    await backlog(db, 100_000, owners=40)
    await db.execute("UPDATE media SET model = 'a/paused' WHERE mod(hashtext(id::text), 2) = 0")
    await db.execute("VACUUM ANALYZE media")
    before = await read_by_claim(db, worker_id)
    await pauses.pause(db, "a/paused", "x", lambda _moved: None)

    assert await read_by_claim(db, worker_id) < before + 200
    assert await read_by(db, shelving.SHELVE.replace("$1", "1000")) < 10
    assert await read_by(db, shelving.UNSHELVE.replace("$1", "1000")) < 10


async def read_by_claim(db, worker_id):
    """How many rows of media a claim of 50 reads."""
    values = (
        "'network'",
        f"'{worker_id}'::uuid",
        "50",
        f"'{NOBODY}'::uuid",
        f"'{NOBODY}'::uuid",
        "300",
        "'{}'",
        "'{}'",
    )
    statement = claiming.CLAIM
    for number, value in enumerate((*values, "interval '30 s'"), start=1):
        statement = statement.replace(f"${number}", value)

    return await read_by(db, statement)


async def read_by(db, statement):
    """How many rows of media a statement reads; not one by reading them all."""
    found = await db.fetch(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, FORMAT JSON) {statement}")
    plan = msgspec.json.decode(found[0][0])[0]["Plan"]
    scans = [node for node in nodes(plan) if node.get("Relation Name") == "media" and node["Actual Loops"]]
    # A hash join begins with one row of either side, to see whether there is any.
    assert all(node["Node Type"] != "Seq Scan" or node["Actual Rows"] <= 1 for node in scans)
    return sum((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"] for node in scans)


def nodes(plan):
    yield plan
    for below in plan.get("Plans", []):
        yield from nodes(below)

"""The claim: each media goes to one worker, in order, and few rows are read for it."""

import asyncio
from datetime import timedelta

import asyncpg
import msgspec
import pytest

from app.core.ids import new_id
from app.jobs.scheduling import pauses
from app.jobs.transitions import claim as claim_transition
from app.jobs.transitions import failure, release, shelving
from app.jobs.worker.slots import NOBODY
from tests.jobs import begin_attempt, claim_lease, failure_of, register_worker, request_and_claim, request_media
from tests.support import claim, eventually


async def test_media_goes_to_exactly_one_of_many_claiming_workers(db):
    requested = {await request_media(db) for _ in range(60)}
    worker_ids = [await register_worker(db) for _ in range(8)]

    async def claim_all(worker_id):
        claimed = []
        while rows := await claim(db, "network", worker_id=worker_id, limit=3):
            claimed += [row.id for row in rows]
        return claimed

    claims = await asyncio.gather(*(claim_all(worker_id) for worker_id in worker_ids))

    claimed_ids = [media_id for claimed in claims for media_id in claimed]
    assert len(claimed_ids) == 60
    assert set(claimed_ids) == requested


async def test_worker_without_a_row_claims_nothing(db):
    await request_media(db)

    assert await claim(db, "network", worker_id=new_id(), limit=10) == []


async def test_oldest_due_media_of_the_queue_is_claimed_first(db, worker_id):
    first = await request_media(db)
    await request_media(db, queue="local")
    second = await request_media(db)

    rows = await claim(db, "network", worker_id=worker_id, limit=10)

    assert [row.id for row in rows] == [first, second]


async def test_media_that_is_not_due_yet_is_not_claimed(db, worker_id):
    lease = await request_and_claim(db, worker_id)
    attempt_id = await begin_attempt(db, lease)
    await failure.schedule_retries.many(db, [failure_of(lease, attempt_id, retry_after=timedelta(hours=1))])

    assert await claim(db, "network", worker_id=worker_id, limit=10) == []


async def insert_backlog(db, rows, *, owners):
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
async def test_claim_from_a_long_queue_reads_few_rows(db, worker_id, rows, owners):
    await insert_backlog(db, rows, owners=owners)

    assert await rows_read_by_claim(db, worker_id) < 2500


async def test_claim_past_a_half_paused_queue_reads_few_rows(db, worker_id):
    await insert_backlog(db, 100_000, owners=40)
    await db.execute("UPDATE media SET model = 'a/paused' WHERE mod(hashtext(id::text), 2) = 0")
    await db.execute("VACUUM ANALYZE media")
    before = await rows_read_by_claim(db, worker_id)
    await pauses.pause(db, "a/paused", "x", lambda _moved: None)

    assert await rows_read_by_claim(db, worker_id) < before + 200
    assert await rows_read_by(db, shelving.SHELVE.replace("$1", "1000")) < 10
    assert await rows_read_by(db, shelving.UNSHELVE.replace("$1", "1000")) < 10


async def rows_read_by_claim(db, worker_id):
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
    statement = claim_transition.CLAIM
    for number, value in enumerate((*values, "interval '30 s'"), start=1):
        statement = statement.replace(f"${number}", value)

    return await rows_read_by(db, statement)


async def rows_read_by(db, statement):
    """How many rows of media a statement reads, none of them by reading the whole table."""
    plans = await db.fetch(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, FORMAT JSON) {statement}")
    plan = msgspec.json.decode(plans[0][0])[0]["Plan"]
    scans = [node for node in plan_nodes(plan) if node.get("Relation Name") == "media" and node["Actual Loops"]]
    # A hash join begins with one row of either side, to see whether there is any.
    assert all(node["Node Type"] != "Seq Scan" or node["Actual Rows"] <= 1 for node in scans)
    return sum((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"] for node in scans)


def plan_nodes(plan):
    yield plan
    for child in plan.get("Plans", []):
        yield from plan_nodes(child)


async def test_advisory_lock_of_a_frozen_process_is_released(settings, db):
    connection = await asyncpg.connect(settings.database_dsn)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(
        f"SET LOCAL idle_in_transaction_session_timeout = '3s'; SELECT pg_advisory_xact_lock({7:d})"
    )

    rows = await eventually(lambda: run_under_lock(db), bool)

    assert rows
    connection.terminate()


async def run_under_lock(db):
    """The answer; empty while another holds the lock."""
    try:
        return await db.fetch_in_turn(7, "SELECT 1")
    except (asyncpg.LockNotAvailableError, OSError):
        return []


async def test_oldest_media_of_an_owner_is_claimed_first_whatever_its_provider(db, worker_id):
    for oldest, others in (("aaa", "zzz"), ("zzz", "aaa")):
        await db.execute("DELETE FROM media")
        for model, number, seconds in ((oldest, 1, 100), (others, 5, 10)):
            for _ in range(number):
                await request_media(db, model=f"{model}/m", overdue=timedelta(seconds=seconds))

        (row,) = await claim(db, "network", worker_id=worker_id, limit=1)

        assert row.model == f"{oldest}/m"


async def test_returned_media_keeps_its_place_in_the_queue(client, db, worker_id):
    requested = [await client.faulty() for _ in range(3)]
    lease = await claim_lease(db, worker_id)

    await release.return_held(db, [lease], reason="test", delay=timedelta(0))
    again = await claim_lease(db, worker_id)

    assert str(again.media_id) == str(lease.media_id) == requested[0]["id"]

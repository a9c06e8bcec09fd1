"""Attempts that are open when their media ends: followed up, and stored once."""

import asyncio
from datetime import timedelta

import asyncpg

from app.core.ids import new_id
from app.jobs.job_errors import DEADLINE_EXCEEDED
from app.jobs.transitions import expiry, late_attempts
from app.jobs.transitions.attempt import _INTEND, PurchaseRecord, record_purchases
from app.jobs.transitions.expiry import _EXPIRE_HELD
from app.jobs.transitions.late_attempts import LateResult
from tests.jobs import (
    claim_lease,
    dummy_purchase,
    media_of_a_dead_worker,
    media_with_open_attempt,
    purchase_of,
    stored_file,
)
from tests.support import claim, eventually


async def test_late_result_racing_with_a_retry_leaves_one_set_of_files(client, db, worker_id):
    for _ in range(10):
        media, lease, attempt_id = await media_with_open_attempt(client, db, worker_id)
        await record_purchases.many(db, [purchase_of(attempt_id)])
        await expiry.expire.many(db, [lease])
        result = LateResult(attempt_id, lease.media_id, (stored_file(),))

        stored, _ = await asyncio.gather(
            late_attempts.store(db, result), client.api.post(f"/media/{media['id']}/retry")
        )

        (row,) = await claim(db, "network", worker_id=worker_id, limit=1)
        assert row.stored == stored
        assert (row.attempt_id is None) == stored
        await db.execute("DELETE FROM media")


async def test_purchase_recorded_while_its_media_ends_is_followed_up(client, db, settings):
    _, attempt_id = await media_of_a_dead_worker(client, db)
    (media,) = await db.fetch("SELECT id, fence FROM media")
    other = await asyncpg.connect(settings.database_dsn)

    async with other.transaction():
        await other.fetch(_EXPIRE_HELD, DEADLINE_EXCEEDED.as_json, [media["id"]], [media["fence"]])
        writing = asyncio.create_task(record_purchases.many(db, [purchase_of(attempt_id)]))
        await eventually(lambda: other.fetch("SELECT FROM pg_locks WHERE NOT granted"))
    await other.close()

    assert await writing == [PurchaseRecord.RECORDED]
    (attempt,) = await db.fetch("SELECT status, look_at IS NOT NULL AS followed_up FROM attempts")
    assert (attempt["status"], attempt["followed_up"]) == ("SUBMITTED", True)


async def test_intent_committed_while_its_media_ends_is_followed_up(client, db, settings, worker_id):
    await client.faulty()
    lease = await claim_lease(db, worker_id)
    other = await asyncpg.connect(settings.database_dsn)
    async with other.transaction():
        intent = ([lease.media_id], [lease.fencing_token], [new_id()], ["dummy/faulty"], ["1"], ["00"], [None], ["USD"])
        await other.fetch(_INTEND, *intent)
        expiring = asyncio.create_task(expiry.expire.many(db, [lease]))
        await asyncio.sleep(0.3)
    await other.close()
    assert await expiring == [True]

    assert await late_attempts.adopt(db, within=timedelta(minutes=5)) == 1
    assert (await db.fetchrow("SELECT look_at, stop FROM attempts"))["stop"]


async def test_late_result_and_retry_do_not_deadlock(client, db, worker_id):
    for _ in range(40):
        media, lease, attempt_id = await media_with_open_attempt(client, db, worker_id)
        await record_purchases.many(db, [dummy_purchase(attempt_id)])
        await expiry.expire.many(db, [lease])

        _, answer = await asyncio.gather(
            late_attempts.store(db, LateResult(attempt_id, lease.media_id, (stored_file(),))),
            client.api.post(f"/media/{media['id']}/retry"),
        )

        assert answer.status_code == 202
        await db.execute("DELETE FROM media")

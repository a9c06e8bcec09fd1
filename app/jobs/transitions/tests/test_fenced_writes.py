"""Writes of workers: fenced by the lease, repeatable after a lost answer, all or nothing."""

import asyncio
from datetime import timedelta

import pytest

from app.auth.principal import DEFAULT_OWNER_ID
from app.core.ids import new_id
from app.jobs.states import MoneySpent
from app.jobs.transitions import failure, release
from app.jobs.transitions.attempt import Progress, PurchaseRecord, intend, record_purchases, report_progress
from app.jobs.transitions.base import Lease, LeaseLostError
from app.jobs.transitions.cancellation import CancelOutcome, cancel
from app.jobs.transitions.completion import complete
from app.jobs.transitions.expiry import expire
from app.media import queries
from tests.jobs import begin_attempt, claim_lease, completion_of, failure_of, intent_of, purchase_of, request_and_claim
from tests.support import claim

NO_DELAY = timedelta(0)


async def status_of(db, lease):
    return (await queries.media_by_id(db, lease.media_id, DEFAULT_OWNER_ID)).status


async def events_of(db, lease):
    rows = await db.fetch("SELECT event FROM media_history WHERE media_id = $1 ORDER BY id", lease.media_id)
    return [row["event"] for row in rows]


async def test_worker_that_lost_its_lease_writes_nothing(db, worker_id):
    lost = await request_and_claim(db, worker_id)
    attempt_id = await begin_attempt(db, lost)
    await release.return_held(db, [lost], reason="test", delay=NO_DELAY)
    (row,) = await claim(db, "network", worker_id=worker_id, limit=1)
    assert row.fence == lost.fencing_token + 1

    assert await intend.many(db, [intent_of(lost)]) == [None]
    assert await complete.many(db, [completion_of(lost, attempt_id)]) == [False]
    assert await failure.fail.many(db, [failure_of(lost, attempt_id)]) == [False]
    assert await failure.schedule_retries.many(db, [failure_of(lost, attempt_id, retry_after=NO_DELAY)]) == [False]
    assert await release.return_held(db, [lost], reason="test", delay=NO_DELAY) == [False]
    assert await report_progress.many(db, [Progress(lost, 0.5)]) == [False]
    assert await status_of(db, lost) == "PROCESSING"
    assert await db.fetch("SELECT 1 FROM files") == []


async def test_worker_is_told_that_its_lease_is_lost(db, worker_id):
    lost = await request_and_claim(db, worker_id)
    attempt_id = await begin_attempt(db, lost)
    await release.return_held(db, [lost], reason="test", delay=NO_DELAY)
    await claim(db, "network", worker_id=worker_id, limit=1)

    for write, item in (
        (intend, intent_of(lost)),
        (complete, completion_of(lost, attempt_id)),
        (failure.fail, failure_of(lost, attempt_id)),
        (failure.schedule_retries, failure_of(lost, attempt_id, retry_after=NO_DELAY)),
        (expire, lost),
        (cancel, CancelOutcome(lost, attempt_id, MoneySpent.YES)),
    ):
        with pytest.raises(LeaseLostError):
            await write(db, item)


async def test_purchase_is_recorded_even_after_the_lease_is_lost(db, worker_id):
    lease = await request_and_claim(db, worker_id)
    attempt_id = await begin_attempt(db, lease)
    await release.return_held(db, [lease], reason="test", delay=NO_DELAY)

    assert await record_purchases.many(db, [purchase_of(attempt_id)]) == [PurchaseRecord.RECORDED]
    (row,) = await claim(db, "network", worker_id=worker_id, limit=1)
    assert (row.attempt_id, row.attempt_number) == (attempt_id, 1)
    assert f"ext-{attempt_id}" in row.reference


async def test_intent_repeated_after_a_lost_answer_is_the_same_attempt(db, worker_id):
    lease = await request_and_claim(db, worker_id)
    intent = intent_of(lease)

    (first,) = await intend.many(db, [intent])
    assert (first.id, first.number) == (intent.attempt_id, 1)
    assert await intend.many(db, [intent]) == [first]
    assert (await queries.media_by_id(db, lease.media_id, DEFAULT_OWNER_ID)).number_of_tries == 1


async def test_purchase_repeated_after_a_lost_answer_is_recorded_once(db, worker_id):
    lease = await request_and_claim(db, worker_id)
    attempt_id = await begin_attempt(db, lease)
    purchase = purchase_of(attempt_id)

    assert await record_purchases.many(db, [purchase]) == [PurchaseRecord.RECORDED]
    assert await record_purchases.many(db, [purchase]) == [PurchaseRecord.RECORDED]


async def test_completion_racing_with_failure_ends_in_exactly_one(db, worker_id):
    for _ in range(20):
        lease = await request_and_claim(db, worker_id)
        attempt_id = await begin_attempt(db, lease)

        (completed,), (failed,) = await asyncio.gather(
            complete.many(db, [completion_of(lease, attempt_id)]),
            failure.fail.many(db, [failure_of(lease, attempt_id)]),
        )

        assert completed != failed
        assert await status_of(db, lease) == ("COMPLETED" if completed else "ERROR")
        files = await db.fetch("SELECT 1 FROM files WHERE media_id = $1", lease.media_id)
        assert len(files) == completed


async def test_batch_applies_valid_leases_and_refuses_lost_ones(db, worker_id):
    lease = await request_and_claim(db, worker_id)
    lost = Lease((await request_and_claim(db, worker_id)).media_id, 99)
    ids = [new_id(), new_id()]

    first, refused = await intend.many(db, [intent_of(lease, ids[0]), intent_of(lost, ids[1])])
    assert (first.number, refused) == (1, None)
    assert await complete.many(db, [completion_of(lease, ids[0]), completion_of(lost, ids[1])]) == [
        True,
        False,
    ]


async def test_every_transition_writes_its_history_row(db, worker_id):
    lease = await request_and_claim(db, worker_id)
    attempt_id = await begin_attempt(db, lease)
    await failure.schedule_retries.many(db, [failure_of(lease, attempt_id, retry_after=NO_DELAY)])
    lease = await claim_lease(db, worker_id)
    await release.return_held(db, [lease], reason="test", delay=NO_DELAY)
    lease = await claim_lease(db, worker_id)
    second = new_id()
    (again,) = await intend.many(db, [intent_of(lease, second)])
    assert again.number == 2
    await complete.many(db, [completion_of(lease, second)])

    assert await events_of(db, lease) == [
        "requested",
        "claimed",
        "retry_scheduled",
        "claimed",
        "returned",
        "claimed",
        "completed",
    ]

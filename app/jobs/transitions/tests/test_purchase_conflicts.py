"""A purchase that turns up after another verdict or another attempt."""

import pytest

from app.jobs.states import AttemptStatus
from app.jobs.transitions import failure, release
from app.jobs.transitions.attempt import PurchaseRecord, record_purchases
from tests.jobs import (
    begin_attempt,
    claim_lease,
    dummy_purchase,
    failure_of,
    media_of_a_dead_worker,
    media_with_open_attempt,
    purchase_of,
    register_worker,
)
from tests.support import attempts_of, claim


async def test_purchase_of_an_older_attempt_is_kept_beside_a_newer_one(client, db):
    media, first = await media_of_a_dead_worker(client, db)
    await release.return_orphans(db)
    lease = await claim_lease(db, await register_worker(db))
    await db.execute("UPDATE attempts SET status = 'UNKNOWN' WHERE id = $1", first)
    await begin_attempt(db, lease)

    assert await record_purchases.many(db, [purchase_of(first)]) == [PurchaseRecord.RECORDED]

    rows = await attempts_of(client, media)
    assert [(row["status"], row["external_id"]) for row in rows] == [("UNKNOWN", f"ext-{first}"), ("INTENDED", None)]


@pytest.mark.parametrize("sent", ["NO", "UNKNOWN"])
async def test_verdict_without_knowledge_is_refused_once_a_purchase_is_known(client, db, worker_id, sent):
    _, lease, attempt_id = await media_with_open_attempt(client, db, worker_id)
    await record_purchases.many(db, [dummy_purchase(attempt_id)])
    status = AttemptStatus.UNKNOWN if sent == "UNKNOWN" else AttemptStatus.FAILED

    uninformed = failure_of(lease, attempt_id, status=status, sent=sent)

    assert await failure.fail.many(db, [uninformed]) == [False]
    assert (await db.fetchrow("SELECT status FROM attempts"))["status"] == "SUBMITTED"


async def test_retry_resumes_a_purchase_that_turned_up(client, db, worker_id):
    media, lease, first = await media_with_open_attempt(client, db, worker_id)
    unknown = failure_of(lease, first, status=AttemptStatus.UNKNOWN, sent="UNKNOWN", code="outcome_unknown")
    await failure.fail.many(db, [unknown])
    await client.api.post(f"/media/{media['id']}/retry")
    lease = await claim_lease(db, worker_id)
    second = await begin_attempt(db, lease)
    await record_purchases.many(db, [dummy_purchase(first)])
    failed = failure_of(lease, second, sent="YES", code="generation_failed")
    await failure.fail.many(db, [failed])

    await client.api.post(f"/media/{media['id']}/retry")

    (row,) = await claim(db, "network", worker_id=worker_id, limit=1)
    assert row.attempt_id == first

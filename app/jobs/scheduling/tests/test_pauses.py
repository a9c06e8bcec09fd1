"""Paused models and providers: no new submission, purchases complete, nothing stays shelved after a resume."""

import asyncio
import contextlib
from datetime import timedelta

import asyncpg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.core.ids import new_id
from app.jobs.scheduling import model_pauses, pauses
from app.jobs.states import DEFAULT_PRIORITY, RESUMED, SHELVED, SUSPECT
from app.jobs.transitions import expiry, release, shelving
from app.jobs.transitions.attempt import record_purchases
from app.jobs.transitions.claim import claim_suspects
from tests.jobs import begin_attempt, purchase_of, register_worker, request_and_claim, request_media
from tests.support import attempts_of, claim, eventually

MODEL = "dummy/faulty"
OTHER_MODEL = "dummy/painter"


def ignore_batch(_moved):
    """For a pause or a resume: how many media a batch moved."""


async def ranks(db):
    return [row["rank"] for row in await db.fetch("SELECT rank FROM media ORDER BY id")]


async def claimed_ids(db, worker_id):
    return [row.id for row in await claim(db, "network", worker_id=worker_id, limit=100)]


@contextlib.asynccontextmanager
async def open_transaction(settings):
    """A transaction of another process."""
    connection = await asyncpg.connect(settings.database_dsn)
    try:
        async with connection.transaction():
            yield connection
    finally:
        await connection.close()


async def lease_with_open_attempt(db, worker_id, *, purchased=True):
    """The lease on a new media whose attempt has begun."""
    lease = await request_and_claim(db, worker_id)
    attempt_id = await begin_attempt(db, lease)
    if purchased:
        await record_purchases.many(db, [purchase_of(attempt_id)])
    return lease


@pytest.mark.parametrize("name", [MODEL, "dummy"])
async def test_paused_model_or_provider_gets_no_submission_until_resumed(product, db, name):
    await pauses.pause(db, name, "the budget is spent", ignore_batch)
    media = await product.faulty()
    other = await product.until(await product.generate(input={"width": 64, "height": 64})) if name == MODEL else None
    waiting = await eventually(lambda: product.media(media), lambda seen: seen["waiting_for"])
    job = (await product.api.get(f"/media/jobs/{media['job_id']}")).json()
    await asyncio.sleep(0.3)
    attempts = await attempts_of(product, media)

    assert await pauses.resume(db, name, ignore_batch)
    done = await product.until(media)

    assert other is None or other["status"] == "COMPLETED"
    assert waiting["waiting_for"] == job["waiting_for"] == {"code": "paused", "message": "the budget is spent"}
    assert (waiting["status"], attempts, done["status"]) == ("IN_QUEUE", [], "COMPLETED")
    assert not await pauses.resume(db, name, ignore_batch)


@pytest.mark.parametrize("name", [MODEL, "dummy"])
async def test_purchase_completes_during_a_pause(product, db, name):
    media = await product.faulty(delay=0.6)
    await eventually(
        lambda: attempts_of(product, media), lambda attempts: attempts and attempts[0]["status"] == "SUBMITTED"
    )

    await pauses.pause(db, name, "x", ignore_batch)

    assert (await product.until(media))["status"] == "COMPLETED"


@pytest.mark.parametrize("purchased", [True, False])
@pytest.mark.parametrize("name", [MODEL, "dummy"])
async def test_open_attempt_is_claimed_during_a_pause(db, worker_id, name, purchased):
    lease = await lease_with_open_attempt(db, worker_id, purchased=purchased)
    await pauses.pause(db, name, "x", ignore_batch)
    await release.return_held(db, [lease], reason="test", delay=timedelta(0))
    await pauses.shelve_and_unshelve(db)

    assert await ranks(db) == [RESUMED]
    assert await claimed_ids(db, worker_id) == [lease.media_id]


async def test_paused_media_holds_up_no_other_of_its_owner_shelved_or_not(db, worker_id):
    await request_media(db)
    other = await request_media(db, model=OTHER_MODEL)
    await db.execute("UPDATE media SET next_run = now() - interval '1 hour' WHERE model = $1", MODEL)

    await model_pauses.pause(db, MODEL, "x")
    before = await claimed_ids(db, worker_id)
    await pauses.shelve_and_unshelve(db)
    last = await request_media(db, model=OTHER_MODEL)
    after = await claimed_ids(db, worker_id)

    assert (before, after) == ([other], [last])
    assert (await ranks(db))[0] == SHELVED


async def test_media_returns_to_its_old_place_on_resume(db, worker_id):
    first, second = await request_media(db, priority=3), await request_media(db, priority=8)
    await pauses.pause(db, MODEL, "x", ignore_batch)
    shelved = await ranks(db)
    later = await request_media(db, model=OTHER_MODEL, priority=3)

    await pauses.resume(db, MODEL, ignore_batch)

    assert shelved == [SHELVED, SHELVED]
    assert [await claimed_ids(db, worker_id) for _ in range(2)] == [[second], [first, later]]


async def test_poison_suspect_is_not_submitted_during_a_pause(db, worker_id):
    await request_media(db)
    await db.execute("UPDATE media SET rank = $1, takeovers = 2", SUSPECT)

    for name in (MODEL, "dummy"):
        await pauses.pause(db, name, "x", ignore_batch)
        assert await claim_suspects(db, "network", worker_id=worker_id, limit=5, below=9) == []
        await pauses.resume(db, name, ignore_batch)
    assert await ranks(db) == [SUSPECT]
    assert len(await claim_suspects(db, "network", worker_id=worker_id, limit=5, below=9)) == 1


async def test_poison_suspect_with_an_open_attempt_continues_during_a_pause(db, worker_id):
    lease = await lease_with_open_attempt(db, worker_id)
    await release.return_held(db, [lease], reason="test", delay=timedelta(0))
    await db.execute("UPDATE media SET rank = $1, takeovers = 2", SUSPECT)
    await pauses.pause(db, MODEL, "x", ignore_batch)
    await pauses.pause(db, "dummy", "x", ignore_batch)

    assert len(await claim_suspects(db, "network", worker_id=worker_id, limit=5, below=9)) == 1


async def test_shelved_media_can_be_canceled_and_expires(client, db):
    canceled, expired = await client.faulty(), await client.generate(model=MODEL, deadline_seconds=0.1)
    await pauses.pause(db, MODEL, "x", ignore_batch)
    answer = await client.api.post(f"/media/{canceled['id']}/cancel")
    await asyncio.sleep(0.15)
    await expiry.expire_waiting(db, "{}")

    assert (answer.status_code, (await client.media(canceled))["status"]) == (200, "CANCELED")
    assert (await client.media(expired))["status"] == "ERROR"

    await client.api.post(f"/media/{canceled['id']}/retry")
    assert (await ranks(db))[0] == DEFAULT_PRIORITY
    await pauses.shelve_and_unshelve(db)
    assert (await ranks(db))[0] == SHELVED


async def test_purchase_that_turns_up_unshelves_its_media(db, worker_id):
    media_id = await request_media(db)
    await pauses.pause(db, MODEL, "x", ignore_batch)
    await db.execute(
        """INSERT INTO attempts (id, media_id, number, status, model, input_hash)
        VALUES ($1, $2, 1, 'SUBMITTED', 'dummy/faulty', '00')""",
        new_id(),
        media_id,
    )

    await shelving.unshelve_purchased(db)

    assert await ranks(db) == [RESUMED]
    assert await claimed_ids(db, worker_id) == [media_id]


async def test_media_shelved_without_a_pause_is_unshelved(db, worker_id):
    for model in (MODEL, OTHER_MODEL, "a/b", "z/z"):
        await request_media(db, model=model)
    for model in (MODEL, "a/b", "z/z"):
        await pauses.pause(db, model, "x", ignore_batch)
    await db.execute("DELETE FROM paused_models WHERE model IN ('a/b', 'z/z')")

    await pauses.shelve_and_unshelve(db)

    assert await ranks(db) == [SHELVED, DEFAULT_PRIORITY, DEFAULT_PRIORITY, DEFAULT_PRIORITY]


async def test_pause_racing_with_claims_lets_nothing_be_claimed_after_it(db):
    worker_ids = [await register_worker(db) for _ in range(3)]
    for _ in range(300):
        await request_media(db)
    paused = asyncio.Event()
    claimed_after_pause = []

    async def keep_claiming(worker_id):
        for _ in range(40):
            was_paused = paused.is_set()
            rows = await claim(db, "network", worker_id=worker_id, limit=2)
            if was_paused:
                claimed_after_pause.extend(rows)

    async def pause():
        await asyncio.sleep(0.02)
        await model_pauses.pause(db, MODEL, "x")
        paused.set()
        await pauses.pause(db, MODEL, "x", ignore_batch)

    await asyncio.gather(*(keep_claiming(worker_id) for worker_id in worker_ids), pause())

    assert claimed_after_pause == []
    waiting = await db.fetch("SELECT rank FROM media WHERE status = 'IN_QUEUE'")
    assert waiting
    assert {row["rank"] for row in waiting} == {SHELVED}


async def test_resume_leaves_nothing_shelved_while_workers_shelve(db):
    for _ in range(200):
        await request_media(db)
    done = asyncio.Event()

    async def keep_shelving():
        while not done.is_set():
            await shelving.shelve(db, limit=7)

    async def keep_requesting():
        while not done.is_set():
            await request_media(db)

    async def pause_and_resume():
        for _ in range(10):
            await pauses.pause(db, MODEL, "x", ignore_batch)
            await pauses.resume(db, MODEL, ignore_batch)
            seen.append(await model_pauses.shelved(db, MODEL))
        done.set()

    seen = []
    await asyncio.gather(keep_shelving(), keep_shelving(), keep_requesting(), pause_and_resume())

    assert seen == [0] * 10


async def test_resume_waits_for_a_batch_that_is_being_shelved(db, settings):
    await request_media(db)
    await model_pauses.pause(db, MODEL, "x")
    async with open_transaction(settings) as other:
        await other.fetch(shelving.SHELVE, 10)
        resuming = asyncio.create_task(pauses.resume(db, MODEL, ignore_batch))
        done, _ = await asyncio.wait([resuming], timeout=0.2)
        held_up = not done

    assert held_up
    assert await resuming
    assert await ranks(db) == [DEFAULT_PRIORITY]


async def test_worker_shelves_new_media_during_a_pause_and_unshelves_what_a_crash_left(product, db):
    await pauses.pause(db, MODEL, "x", ignore_batch)
    media = await product.faulty()
    await eventually(lambda: ranks(db), lambda seen: seen == [SHELVED])

    await db.execute("DELETE FROM paused_models")

    assert (await product.until(media))["status"] == "COMPLETED"


async def test_pause_is_shown_in_readiness_and_metrics_and_is_no_failure(client, db):
    await pauses.pause(db, MODEL, "x", ignore_batch)
    await pauses.pause(db, "acme", "x", ignore_batch)

    ready = await client.api.get("/tools/ready")
    metrics = (await client.api.get("/tools/metrics")).text

    (check,) = [check for check in ready.json()["checks"] if check["name"] == "providers"]
    assert (ready.status_code, check["ok"]) == (200, True)
    assert "paused by the operator: acme, dummy/faulty" in check["detail"]
    seen = {
        (sample.name, *sorted(sample.labels.values()))
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
    }
    assert {("fleek_model_paused", "dummy/faulty", "paused"), ("fleek_provider_unavailable", "acme", "paused")} <= seen

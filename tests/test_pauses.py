"""Pausing a model or a provider: nothing new is bought from it, what is bought goes on, and nothing is left behind."""

import asyncio
import contextlib
from datetime import timedelta

import asyncpg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.auth.principal import DEFAULT_OWNER_ID
from app.core.ids import new_id
from app.jobs.scheduling import model_pauses, pauses, provider_circuits
from app.jobs.scheduling.queue_position import QueuePositions
from app.jobs.states import DEFAULT_PRIORITY, RESUMED, SHELVED, SUSPECT
from app.jobs.transitions import expiry, release
from app.jobs.transitions import shelving as shelves
from app.jobs.transitions.attempt import Intent, Purchase, intend, record_purchases
from app.jobs.transitions.base import Lease
from app.jobs.transitions.claim import claim_suspects
from app.jobs.transitions.request import request
from app.jobs.worker import leases
from app.media import queries
from app.media_generator.errors import CreditError
from tests.support import attempts_of, claim, eventually, new_media

MINUTE = timedelta(minutes=1)
MODEL = "dummy/faulty"
OTHER = "dummy/painter"


def nobody(_moved):
    """Nobody wants to know."""


@pytest.fixture
async def worker_id(db):
    worker_id = new_id()
    await leases.register(db, worker_id, "test")
    return worker_id


async def asked(db, model=MODEL, *, owner=DEFAULT_OWNER_ID, priority=DEFAULT_PRIORITY):
    new = new_media(model, owner_id=owner, priority=priority)
    await request(db, new)
    return new.id


async def ranks(db):
    return [row["rank"] for row in await db.fetch("SELECT rank FROM media ORDER BY id")]


async def taken_by(db, worker_id):
    return [row.id for row in await claim(db, "network", worker_id=worker_id, limit=100)]


async def waiting_for(db, media_id):
    return await QueuePositions(db).waiting(await queries.media_by_id(db, media_id, DEFAULT_OWNER_ID))


@contextlib.asynccontextmanager
async def hot_transaction(settings):
    connection = await asyncpg.connect(settings.database_dsn)
    try:
        async with connection.transaction():
            yield connection
    finally:
        await connection.close()


async def begun(db, worker_id, *, bought=True):
    """A media with an open attempt."""
    media_id = await asked(db)
    (row,) = await claim(db, "network", worker_id=worker_id, limit=1)
    held, attempt_id = Lease(media_id, row.fence), new_id()
    await intend.many(db, [Intent(held, attempt_id, MODEL, "1", "00")])
    if bought:
        await record_purchases.many(db, [Purchase(attempt_id, "x", '{"external_id": "x"}')])
    return held, attempt_id


@pytest.mark.parametrize("name", [MODEL, "dummy"])
async def test_what_is_paused_is_not_bought_until_it_is_resumed(product, db, name):
    await pauses.pause(db, name, "the budget is spent", nobody)
    media = await product.faulty()
    other = await product.until(await product.generate(input={"width": 64, "height": 64})) if name == MODEL else None
    told = await eventually(lambda: product.media(media), lambda seen: seen["waiting_for"])
    light = (await product.api.get(f"/media/jobs/{media['job_id']}")).json()
    await asyncio.sleep(0.3)
    tries = await attempts_of(product, media)

    assert await pauses.resume(db, name, nobody)
    done = await product.until(media)

    assert other is None or other["status"] == "COMPLETED"
    assert told["waiting_for"] == light["waiting_for"] == {"code": "paused", "message": "the budget is spent"}
    assert (told["status"], tries, done["status"]) == ("IN_QUEUE", [], "COMPLETED")
    assert not await pauses.resume(db, name, nobody)


@pytest.mark.parametrize("name", [MODEL, "dummy"])
async def test_what_is_bought_goes_on_during_a_pause(product, db, name):
    media = await product.faulty(delay=0.6)
    await eventually(lambda: attempts_of(product, media), lambda tries: tries and tries[0]["status"] == "SUBMITTED")

    await pauses.pause(db, name, "x", nobody)

    assert (await product.until(media))["status"] == "COMPLETED"


@pytest.mark.parametrize("bought", [True, False])
@pytest.mark.parametrize("name", [MODEL, "dummy"])
async def test_money_that_may_be_spent_is_followed_during_a_pause(db, worker_id, name, bought):
    held, _ = await begun(db, worker_id, bought=bought)
    await pauses.pause(db, name, "x", nobody)
    await release.hand_back(db, [held], reason="test", delay=timedelta(0))
    await pauses.shelve_and_unshelve(db)

    assert await ranks(db) == [RESUMED]
    assert await taken_by(db, worker_id) == [held.media_id]


async def test_the_others_of_an_owner_pass_by_what_is_paused_before_and_after_it_is_shelved(db, worker_id):
    await asked(db)
    other = await asked(db, OTHER)
    await db.execute("UPDATE media SET next_run = now() - interval '1 hour' WHERE model = $1", MODEL)

    await model_pauses.pause(db, MODEL, "x")
    before = await taken_by(db, worker_id)
    await pauses.shelve_and_unshelve(db)
    last = await asked(db, OTHER)
    after = await taken_by(db, worker_id)

    assert (before, after) == ([other], [last])
    assert (await ranks(db))[0] == SHELVED


async def test_a_resumed_media_has_its_old_place(db, worker_id):
    first, second = await asked(db, priority=3), await asked(db, priority=8)
    await pauses.pause(db, MODEL, "x", nobody)
    shelved = await ranks(db)
    later = await asked(db, OTHER, priority=3)

    await pauses.resume(db, MODEL, nobody)

    assert shelved == [SHELVED, SHELVED]
    assert [await taken_by(db, worker_id) for _ in range(2)] == [[second], [first, later]]


async def test_a_suspect_is_not_bought_anew_during_a_pause(db, worker_id):
    await asked(db)
    await db.execute("UPDATE media SET rank = $1, takeovers = 2", SUSPECT)

    for name in (MODEL, "dummy"):
        await pauses.pause(db, name, "x", nobody)
        assert await claim_suspects(db, "network", worker_id=worker_id, limit=5, below=9) == []
        await pauses.resume(db, name, nobody)
    assert await ranks(db) == [SUSPECT]
    assert len(await claim_suspects(db, "network", worker_id=worker_id, limit=5, below=9)) == 1


async def test_a_suspect_with_an_open_attempt_goes_on_during_a_pause(db, worker_id):
    held, _ = await begun(db, worker_id)
    await release.hand_back(db, [held], reason="test", delay=timedelta(0))
    await db.execute("UPDATE media SET rank = $1, takeovers = 2", SUSPECT)
    await pauses.pause(db, MODEL, "x", nobody)
    await pauses.pause(db, "dummy", "x", nobody)

    assert len(await claim_suspects(db, "network", worker_id=worker_id, limit=5, below=9)) == 1


async def test_no_trial_and_no_bad_key_lifts_an_operators_pause(db):
    await provider_circuits.trip(db, "dummy", CreditError("no credit"), pause=MINUTE)
    await pauses.pause(db, "dummy", "by hand", nobody)

    await provider_circuits.reset(db, "dummy")
    found_out = await provider_circuits.trip(db, "dummy", CreditError("no credit"), pause=timedelta(0))

    (gate,) = await provider_circuits.tripped(db)
    assert (gate.code, gate.message, found_out) == ("paused", "by hand", False)
    assert await pauses.resume(db, "dummy", nobody)
    assert await provider_circuits.tripped(db) == []


async def test_resuming_a_provider_leaves_it_closed_for_its_bad_key(db):
    await provider_circuits.trip(db, "dummy", CreditError("no credit"), pause=MINUTE)

    assert not await pauses.resume(db, "dummy", nobody)
    assert [gate.code for gate in await provider_circuits.tripped(db)] == ["provider_credit"]


async def test_a_shelved_media_has_no_place_and_is_before_nobody(db):
    shelved = await asked(db, owner=DEFAULT_OWNER_ID)
    other = await asked(db, OTHER)
    await pauses.pause(db, MODEL, "x", nobody)
    fresh = await asked(db)

    seen = [await waiting_for(db, one) for one in (shelved, fresh, other)]

    assert [one.position for one in seen] == [None, None, 0]
    assert [one.reason and one.reason["code"] for one in seen] == ["paused", "paused", None]


async def test_a_shelved_media_can_be_cancelled_and_its_deadline_holds(client, db):
    canceled, expired = await client.faulty(), await client.generate(model=MODEL, deadline_seconds=0.1)
    await pauses.pause(db, MODEL, "x", nobody)
    answer = await client.api.post(f"/media/{canceled['id']}/cancel")
    await asyncio.sleep(0.15)
    await expiry.expire_waiting(db, "{}")

    assert (answer.status_code, (await client.media(canceled))["status"]) == (200, "CANCELED")
    assert (await client.media(expired))["status"] == "ERROR"

    await client.api.post(f"/media/{canceled['id']}/retry")
    assert (await ranks(db))[0] == DEFAULT_PRIORITY
    await pauses.shelve_and_unshelve(db)
    assert (await ranks(db))[0] == SHELVED


async def test_a_purchase_that_becomes_known_takes_its_media_from_the_shelf(db, worker_id):
    media_id = await asked(db)
    await pauses.pause(db, MODEL, "x", nobody)
    await db.execute(
        """INSERT INTO attempts (id, media_id, number, status, model, input_hash)
        VALUES ($1, $2, 1, 'SUBMITTED', 'dummy/faulty', '00')""",
        new_id(),
        media_id,
    )

    await shelves.unshelve_purchased(db)

    assert await ranks(db) == [RESUMED]
    assert await taken_by(db, worker_id) == [media_id]


async def test_what_is_shelved_without_a_pause_is_put_back(db, worker_id):
    for model in (MODEL, OTHER, "a/b", "z/z"):
        await asked(db, model)
    for model in (MODEL, "a/b", "z/z"):
        await pauses.pause(db, model, "x", nobody)
    await db.execute("DELETE FROM paused_models WHERE model IN ('a/b', 'z/z')")

    await pauses.shelve_and_unshelve(db)

    assert await ranks(db) == [SHELVED, DEFAULT_PRIORITY, DEFAULT_PRIORITY, DEFAULT_PRIORITY]


async def test_pauses_and_claims_that_race_buy_nothing_after_the_pause(db):
    ids = [new_id() for _ in range(3)]
    for worker_id in ids:
        await leases.register(db, worker_id, "test")
    for _ in range(300):
        await asked(db)
    paused = asyncio.Event()
    late = []

    async def take(worker_id):
        for _ in range(40):
            begun_after = paused.is_set()
            rows = await claim(db, "network", worker_id=worker_id, limit=2)
            if begun_after:
                late.extend(rows)

    async def pause():
        await asyncio.sleep(0.02)
        await model_pauses.pause(db, MODEL, "x")
        paused.set()
        await pauses.pause(db, MODEL, "x", nobody)

    await asyncio.gather(*(take(worker_id) for worker_id in ids), pause())

    assert late == []
    left = await db.fetch("SELECT rank FROM media WHERE status = 'IN_QUEUE'")
    assert left
    assert {row["rank"] for row in left} == {SHELVED}


async def test_nothing_stays_shelved_after_a_resume_whoever_was_shelving(db):
    for _ in range(200):
        await asked(db)
    over = asyncio.Event()

    async def workers_tend():
        while not over.is_set():
            await shelves.shelve(db, limit=7)

    async def clients_ask():
        while not over.is_set():
            await asked(db)

    async def operator():
        for _ in range(10):
            await pauses.pause(db, MODEL, "x", nobody)
            await pauses.resume(db, MODEL, nobody)
            seen.append(await model_pauses.shelved(db, MODEL))
        over.set()

    seen = []
    await asyncio.gather(workers_tend(), workers_tend(), clients_ask(), operator())

    assert seen == [0] * 10


async def test_a_batch_that_is_being_shelved_holds_up_the_resume(db, settings):
    await asked(db)
    await model_pauses.pause(db, MODEL, "x")
    async with hot_transaction(settings) as shelving:
        await shelving.fetch(shelves.SHELVE, 10)
        resuming = asyncio.create_task(pauses.resume(db, MODEL, nobody))
        done, _ = await asyncio.wait([resuming], timeout=0.2)
        held_up = not done

    assert held_up
    assert await resuming
    assert await ranks(db) == [DEFAULT_PRIORITY]


async def test_a_worker_shelves_what_comes_during_a_pause_and_puts_back_what_a_crash_left(product, db):
    await pauses.pause(db, MODEL, "x", nobody)
    media = await product.faulty()
    await eventually(lambda: ranks(db), lambda seen: seen == [SHELVED])

    await db.execute("DELETE FROM paused_models")

    assert (await product.until(media))["status"] == "COMPLETED"


async def test_it_is_visible_and_no_fault(client, db):
    await pauses.pause(db, MODEL, "x", nobody)
    await pauses.pause(db, "acme", "x", nobody)

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

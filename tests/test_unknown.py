"""Answers that were lost: looked for until no call can be in the air any more, then the owner's policy decides."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import asyncpg

from app.core.ids import new_id
from app.jobs.job_errors import DEADLINE_EXCEEDED
from app.jobs.transitions import release
from app.jobs.transitions.attempt import Intent, Purchase, intend, record_purchases
from app.jobs.transitions.base import Lease
from app.jobs.transitions.expiry import _EXPIRE_HELD
from app.jobs.worker import leases
from app.media_generator.dummy_media_generator.provider import DummyMediaGeneratorModel
from app.media_generator.errors import AnswerLostError, NotReachedError
from tests.support import attempts_of, claim, eventually

DUMMY = DummyMediaGeneratorModel.capabilities


async def left_by_a_dead_worker(client, db, **plan):
    """A media whose worker died between intent and answer."""
    media = await client.faulty(**plan)
    dead = new_id()
    await leases.register(db, dead, "dead")
    (row,) = await claim(db, "network", worker_id=dead, limit=1)
    attempt_id = new_id()
    await intend.many(db, [Intent(Lease(row.id, row.fence), attempt_id, "dummy/faulty", "1", "00")])
    await db.execute("DELETE FROM workers")
    return media, attempt_id


class Late(DummyMediaGeneratorModel):
    """Has nothing when it is asked at first: a call of a worker that was cut off is still in the air."""

    capabilities = replace(DUMMY, submit_timeout=timedelta(seconds=1.5))

    def __init__(self):
        super().__init__()
        self.asked = 0
        self.sold = 0

    async def submit(self, submission):
        self.sold += 1
        return await super().submit(submission)

    async def find(self, submission, since):
        self.asked += 1


async def test_nobody_is_believed_to_have_nothing_while_a_call_may_be_in_the_air(client, db, working):
    media, attempt_id = await left_by_a_dead_worker(client, db)
    provider = Late()
    await working(provider)
    await eventually(lambda: asyncio.sleep(0, provider.asked), lambda asked: asked >= 2)
    assert provider.sold == 0

    # The cut-off worker's call comes back after all; the fact may be written by anybody.
    fact = '{"external_id": "dummy-x", "data": {"model": "faulty", "number": 1, "input": {}, "submitted_at": 0}}'
    await record_purchases.many(db, [Purchase(attempt_id, "dummy-x", fact)])
    done = await client.until(media)

    assert (done["status"], done["number_of_tries"], provider.sold) == ("COMPLETED", 1, 0)


async def test_a_purchase_that_is_written_down_while_its_media_ends_is_looked_after(client, db, settings):
    _, attempt_id = await left_by_a_dead_worker(client, db)
    (media,) = await db.fetch("SELECT id, fence FROM media")
    other = await asyncpg.connect(settings.database_dsn)

    async with other.transaction():
        await other.fetch(_EXPIRE_HELD, DEADLINE_EXCEEDED.as_json, [media["id"]], [media["fence"]])
        writing = asyncio.create_task(record_purchases.many(db, [Purchase(attempt_id, "dummy-x", "{}")]))
        await eventually(lambda: other.fetch("SELECT FROM pg_locks WHERE NOT granted"))
    await other.close()

    assert await writing == [True]
    (attempt,) = await db.fetch("SELECT status, look_at IS NOT NULL AS looked_after FROM attempts")
    assert (attempt["status"], attempt["looked_after"]) == ("SUBMITTED", True)


async def test_after_that_it_is_bought_by_the_next_worker(client, db, working):
    media, _ = await left_by_a_dead_worker(client, db)
    provider = Late()
    await working(provider)

    done = await client.until(media)

    assert (done["status"], done["number_of_tries"], provider.sold) == ("COMPLETED", 2, 1)
    assert [attempt["status"] for attempt in await attempts_of(client, media)] == ["FAILED", "SUCCEEDED"]


async def test_an_intent_that_took_too_long_to_write_is_not_sent(client, db, working, monkeypatch):
    record, provider = intend.many, Late()

    async def slow(*arguments):
        numbers = await record(*arguments)
        if numbers == [1]:
            await asyncio.sleep(2)  # longer than `submit` may take: another worker may be looking by now
        return numbers

    monkeypatch.setattr(intend, "many", slow)
    await working(provider)

    done = await client.until(await client.faulty())

    first, second = await attempts_of(client, done)
    assert (first["status"], first["sent"], second["status"]) == ("FAILED", "NO", "SUCCEEDED")
    assert provider.sold == 1


class Silent(DummyMediaGeneratorModel):
    """Takes the money and never answers; cannot be asked either."""

    capabilities = replace(DUMMY, submit_timeout=timedelta(seconds=0.5), findable=False)

    def __init__(self):
        super().__init__()
        self.sold = 0

    async def submit(self, submission):
        self.sold += 1
        if self.sold == 1:
            await asyncio.sleep(3600)
        return await super().submit(submission)


async def test_a_call_that_never_answers_is_cut_off_and_held_with_what_to_do_next(client, working):
    provider = Silent()
    await working(provider)

    held = await client.until(await client.faulty())
    await client.api.post(f"/media/{held['id']}/retry")
    done = await client.until(held, "COMPLETED")

    assert (held["status"], held["error"]["code"]) == ("ERROR", "outcome_unknown")
    assert "/retry" in held["error"]["message"]
    assert provider.sold == done["number_of_tries"] == 2
    assert [attempt["status"] for attempt in await attempts_of(client, held)] == ["UNKNOWN", "SUCCEEDED"]


async def test_who_asks_for_it_gets_another_try_at_the_risk_of_paying_twice(client, working):
    provider = Silent()
    await working(provider)

    done = await client.until(await client.generate(model="dummy/faulty", on_unknown="retry"))

    assert (done["status"], done["on_unknown"], provider.sold) == ("COMPLETED", "retry", 2)
    assert [attempt["status"] for attempt in await attempts_of(client, done)] == ["UNKNOWN", "SUCCEEDED"]


async def test_who_wants_none_of_it_gets_an_error_that_nobody_looks_after(client, db, working):
    await working(Silent())

    done = await client.until(await client.generate(model="dummy/faulty", on_unknown="fail"))

    assert (done["status"], done["error"]["code"]) == ("ERROR", "outcome_unknown")
    assert "/retry" not in done["error"]["message"]
    assert await db.fetch("SELECT 1 FROM attempts WHERE look_at IS NOT NULL") == []


class Idempotent(Silent):
    """The same attempt may be sent twice and is bought once."""

    capabilities = replace(DUMMY, submit_timeout=timedelta(seconds=0.5), findable=False, idempotent_submit=True)


async def test_a_provider_that_buys_once_is_simply_asked_again(client, working):
    await working(Idempotent(), reconcile_seconds=10)

    done = await client.until(await client.faulty())

    assert (done["status"], done["number_of_tries"]) == ("COMPLETED", 1)
    assert len({attempt["external_id"] for attempt in await attempts_of(client, done)}) == 1


class Forgetful(DummyMediaGeneratorModel):
    """Loses its first answer, and finds it when it is asked for the third time."""

    def __init__(self):
        super().__init__()
        self.asked = 0

    async def submit(self, submission):
        raise AnswerLostError("connection lost")

    async def find(self, submission, since):
        self.asked += 1
        if self.asked < 3:
            raise NotReachedError("not now")
        return await super().find(submission, since)


async def test_a_provider_that_cannot_say_now_is_asked_again(client, working):
    provider = Forgetful()
    await working(provider, reconcile_seconds=30)

    done = await client.until(await client.faulty())

    assert (done["status"], done["number_of_tries"], provider.asked) == ("COMPLETED", 1, 3)


async def test_a_stop_in_the_middle_of_a_look_up_hands_the_job_over(client, db, working):
    media, _ = await left_by_a_dead_worker(client, db)
    provider = Late()
    runner = await working(provider)
    await eventually(lambda: asyncio.sleep(0, provider.asked))
    await runner.stop()

    assert (await client.media(media))["status"] == "IN_QUEUE"
    ((status,),) = [tuple(row) for row in await db.fetch("SELECT status FROM attempts")]
    assert (status, provider.sold) == ("INTENDED", 0)


async def test_what_is_held_and_turns_out_to_be_bought_is_stored_and_completes_a_retry_for_nothing(client, db, working):
    provider = Silent()
    await working(provider)
    held = await client.until(await client.faulty())
    (row,) = await db.fetch("SELECT id FROM attempts")
    fact = '{"external_id": "dummy-x", "data": {"model": "faulty", "number": 1, "input": {}, "submitted_at": 0}}'

    await record_purchases.many(db, [Purchase(row["id"], "dummy-x", fact)])
    kept = await eventually(lambda: client.media(held), lambda seen: seen["files"])
    await client.api.post(f"/media/{held['id']}/retry")
    done = await client.until(held, "COMPLETED")

    assert (kept["status"], done["number_of_tries"], provider.sold) == ("ERROR", 1, 1)


async def test_a_fact_about_an_older_attempt_is_kept_beside_a_newer_one(client, db):
    media, first = await left_by_a_dead_worker(client, db)
    worker_id = new_id()
    await leases.register(db, worker_id, "test")
    await release.return_orphans(db)
    (row,) = await claim(db, "network", worker_id=worker_id, limit=1)
    held = Lease(row.id, row.fence)
    await db.execute("UPDATE attempts SET status = 'UNKNOWN' WHERE id = $1", first)
    second = new_id()
    assert await intend.many(db, [Intent(held, second, "dummy/faulty", "1", "00")]) == [2]

    fact = Purchase(first, "ext-1", '{"external_id": "ext-1"}')
    assert await record_purchases.many(db, [fact]) == [True]

    rows = await attempts_of(client, media)
    assert [(row["status"], row["external_id"]) for row in rows] == [("UNKNOWN", "ext-1"), ("INTENDED", None)]


async def test_a_provider_that_never_finishes_is_given_up(client, working):
    await working(DummyMediaGeneratorModel(), silence_hours=0.5 / 3600)

    done = await client.until(await client.faulty(hang=True))

    assert (done["status"], done["error"]["code"]) == ("ERROR", "provider_silent")

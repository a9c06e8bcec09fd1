"""Lost answers: the purchase is looked up until no call can be in flight, then `on_unknown` decides."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from app.jobs.transitions.attempt import intend, record_purchases
from app.media_generator.dummy_media_generator.provider import DummyMediaGeneratorModel
from app.media_generator.errors import AnswerLostError, NotReachedError
from app.worker import build_runner
from tests.jobs import attempt_rows, begin_attempt, claim_lease, dummy_purchase, media_of_a_dead_worker, register_worker
from tests.support import attempts_of, eventually

DUMMY = DummyMediaGeneratorModel.capabilities


class FindsNothing(DummyMediaGeneratorModel):
    """Knows no purchase: the call of a worker that was cut off is still in flight."""

    capabilities = replace(DUMMY, submit_timeout=timedelta(seconds=1.5))

    def __init__(self):
        super().__init__()
        self.find_calls = 0
        self.submit_calls = 0

    async def submit(self, submission):
        self.submit_calls += 1
        return await super().submit(submission)

    async def find(self, submission, since):
        self.find_calls += 1


async def test_not_found_is_not_believed_while_a_call_may_be_in_flight(client, db, working):
    media, attempt_id = await media_of_a_dead_worker(client, db)
    provider = FindsNothing()
    await working(provider)
    await eventually(lambda: asyncio.sleep(0, provider.find_calls), lambda calls: calls >= 2)
    assert provider.submit_calls == 0

    # The call of the worker that was cut off returns after all; any worker may record the purchase.
    await record_purchases.many(db, [dummy_purchase(attempt_id)])
    done = await client.until(media)

    assert (done["status"], done["number_of_tries"], provider.submit_calls) == ("COMPLETED", 1, 0)


async def test_attempt_the_provider_never_received_is_submitted_again_by_the_next_worker(client, db, working):
    media, _ = await media_of_a_dead_worker(client, db)
    provider = FindsNothing()
    await working(provider)

    done = await client.until(media)

    assert (done["status"], done["number_of_tries"], provider.submit_calls) == ("COMPLETED", 2, 1)
    assert [attempt["status"] for attempt in await attempts_of(client, media)] == ["FAILED", "SUCCEEDED"]


async def test_intent_committed_too_slowly_is_not_submitted(client, db, working, monkeypatch):
    record, provider = intend.many, FindsNothing()

    async def slow(*arguments):
        committed = await record(*arguments)
        if [attempt.number for attempt in committed] == [1]:
            await asyncio.sleep(2)  # longer than `submit` may take: another worker may look it up by now
        return committed

    monkeypatch.setattr(intend, "many", slow)
    await working(provider)

    done = await client.until(await client.faulty())

    first, second = await attempts_of(client, done)
    assert (first["status"], first["sent"], second["status"]) == ("FAILED", "NO", "SUCCEEDED")
    assert provider.submit_calls == 1


class NeverAnswers(DummyMediaGeneratorModel):
    """Accepts the first submission and never answers; cannot look it up either."""

    capabilities = replace(DUMMY, submit_timeout=timedelta(seconds=0.5), findable=False)

    def __init__(self):
        super().__init__()
        self.submit_calls = 0

    async def submit(self, submission):
        self.submit_calls += 1
        if self.submit_calls == 1:
            await asyncio.sleep(3600)
        return await super().submit(submission)


async def test_submit_that_never_answers_is_cut_off_and_held_with_advice(client, working):
    provider = NeverAnswers()
    await working(provider)

    on_hold = await client.until(await client.faulty())
    await client.api.post(f"/media/{on_hold['id']}/retry")
    done = await client.until(on_hold, "COMPLETED")

    assert (on_hold["status"], on_hold["error"]["code"]) == ("ERROR", "outcome_unknown")
    assert "/retry" in on_hold["error"]["message"]
    assert provider.submit_calls == done["number_of_tries"] == 2
    assert [attempt["status"] for attempt in await attempts_of(client, on_hold)] == ["UNKNOWN", "SUCCEEDED"]


async def test_on_unknown_retry_makes_another_attempt(client, working):
    provider = NeverAnswers()
    await working(provider)

    done = await client.until(await client.generate(model="dummy/faulty", on_unknown="retry"))

    assert (done["status"], done["on_unknown"], provider.submit_calls) == ("COMPLETED", "retry", 2)
    assert [attempt["status"] for attempt in await attempts_of(client, done)] == ["UNKNOWN", "SUCCEEDED"]


async def test_on_unknown_fail_is_not_followed_up(client, db, working):
    await working(NeverAnswers())

    done = await client.until(await client.generate(model="dummy/faulty", on_unknown="fail"))

    assert (done["status"], done["error"]["code"]) == ("ERROR", "outcome_unknown")
    assert "/retry" not in done["error"]["message"]
    assert await db.fetch("SELECT 1 FROM attempts WHERE look_at IS NOT NULL") == []


class IdempotentProvider(NeverAnswers):
    """The same attempt may be submitted twice and is charged once."""

    capabilities = replace(DUMMY, submit_timeout=timedelta(seconds=0.5), findable=False, idempotent_submit=True)


async def test_idempotent_provider_gets_the_same_attempt_again(client, working):
    await working(IdempotentProvider(), reconcile_seconds=10)

    done = await client.until(await client.faulty())

    assert (done["status"], done["number_of_tries"]) == ("COMPLETED", 1)
    assert len({attempt["external_id"] for attempt in await attempts_of(client, done)}) == 1


class FindsAtTheThirdCall(DummyMediaGeneratorModel):
    """Loses its answer, and finds the purchase at the third look-up."""

    def __init__(self):
        super().__init__()
        self.find_calls = 0

    async def submit(self, submission):
        raise AnswerLostError("connection lost")

    async def find(self, submission, since):
        self.find_calls += 1
        if self.find_calls < 3:
            raise NotReachedError("not now")
        return await super().find(submission, since)


async def test_look_up_is_repeated_while_the_provider_cannot_say(client, working):
    provider = FindsAtTheThirdCall()
    await working(provider, reconcile_seconds=30)

    done = await client.until(await client.faulty())

    assert (done["status"], done["number_of_tries"], provider.find_calls) == ("COMPLETED", 1, 3)


async def test_stop_during_a_look_up_returns_the_job(client, db, working):
    media, _ = await media_of_a_dead_worker(client, db)
    provider = FindsNothing()
    runner = await working(provider)
    await eventually(lambda: asyncio.sleep(0, provider.find_calls))
    await runner.stop()

    assert (await client.media(media))["status"] == "IN_QUEUE"
    ((status,),) = [tuple(row) for row in await db.fetch("SELECT status FROM attempts")]
    assert (status, provider.submit_calls) == ("INTENDED", 0)


async def test_purchase_found_while_on_hold_is_stored_and_completes_a_retry_at_no_cost(client, db, working):
    provider = NeverAnswers()
    await working(provider)
    on_hold = await client.until(await client.faulty())
    (row,) = await db.fetch("SELECT id FROM attempts")

    await record_purchases.many(db, [dummy_purchase(row["id"])])
    stored = await eventually(lambda: client.media(on_hold), lambda seen: seen["files"])
    await client.api.post(f"/media/{on_hold['id']}/retry")
    done = await client.until(on_hold, "COMPLETED")

    assert (stored["status"], done["number_of_tries"], provider.submit_calls) == ("ERROR", 1, 1)


class RecordedDuringLookUp(DummyMediaGeneratorModel):
    """While it is looked up, the worker that made the call records the purchase."""

    capabilities = replace(DUMMY, submit_timeout=timedelta(seconds=0.5))
    db = None
    submit_calls = 0

    async def submit(self, submission):
        self.submit_calls += 1
        raise AnswerLostError("lost")

    async def find(self, submission, since):
        await record_purchases.many(self.db, [dummy_purchase(submission.attempt_id)])
        raise NotReachedError("search is down")


@pytest.mark.parametrize("policy", ["hold", "retry"])
async def test_purchase_recorded_during_a_look_up_outranks_its_conclusion(client, db, working, policy):
    provider = RecordedDuringLookUp()
    provider.db = db
    await working(provider)

    done = await client.until(await client.generate(model="dummy/faulty", on_unknown=policy))

    assert (done["status"], done["number_of_tries"], provider.submit_calls) == ("COMPLETED", 1, 1)


async def test_lost_answer_that_the_provider_finds_is_not_submitted_again(product, db):
    done = await product.until(await product.faulty(lose_answer="taken"))

    assert (done["status"], done["number_of_tries"]) == ("COMPLETED", 1)
    assert len(await attempt_rows(db, done)) == 1


async def test_lost_answer_to_a_request_never_received_is_retried(product, db):
    done = await product.until(await product.faulty(lose_answer="not_taken"))

    assert (done["status"], done["number_of_tries"]) == ("COMPLETED", 2)
    assert [(status, sent) for _, status, sent, _, _ in await attempt_rows(db, done)] == [
        ("FAILED", "NO"),
        ("SUCCEEDED", None),
    ]


async def test_unknown_outcome_is_held_and_not_submitted_again(product, db):
    done = await product.until(await product.faulty(lose_answer="unknown"))

    assert (done["status"], done["error"]["code"], done["number_of_tries"]) == ("ERROR", "outcome_unknown", 1)
    ((_, status, sent, _, _),) = await attempt_rows(db, done)
    assert (status, sent) == ("UNKNOWN", "UNKNOWN")


async def test_intent_without_a_purchase_is_looked_up_before_anything_is_submitted(client, runtime, db, bell):
    dead = await register_worker(db, "dead")
    media = await client.faulty(lose_answer="unknown")
    await begin_attempt(db, await claim_lease(db, dead))
    await db.execute("DELETE FROM workers WHERE id = $1", dead)

    runner = bell.runner = build_runner(runtime)
    await runner.start()
    done = await client.until(media)
    await runner.stop()

    assert (done["status"], done["error"]["code"], done["number_of_tries"]) == ("ERROR", "outcome_unknown", 1)

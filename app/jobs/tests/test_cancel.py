"""Cancelling: at once while it waits, by its worker while it is held, and never both canceled and completed."""

import asyncio
from datetime import timedelta

import pytest

from app.core.ids import new_id
from app.jobs.transitions import cancellation, failure
from app.jobs.transitions.attempt import record_purchases
from app.jobs.transitions.cancellation import CancelOutcome
from app.jobs.transitions.completion import complete
from app.media_generator.dummy_media_generator.provider import DummyMediaGeneratorModel
from app.media_generator.errors import NotReachedError
from app.media_generator.media_generator_model import CancelAnswer, Canceled, Running
from app.worker import build_runner
from tests.jobs import begin_attempt, claim_lease, completion_of, failure_of, purchase_of, register_worker
from tests.support import attempts_of, claim, eventually


async def request_cancel(client, media):
    answer = await client.api.post(f"/media/{media['id']}/cancel")
    return answer.status_code, answer.json()


async def events_of(client, media):
    return [event["event"] for event in (await client.api.get(f"/media/{media['id']}/history")).json()["items"]]


async def test_waiting_media_is_canceled_at_once_at_no_cost(client):
    media = await client.faulty()

    status, body = await request_cancel(client, media)
    again = await request_cancel(client, media)

    assert (status, body["answer"], body["money_spent"], body["status"]) == (200, "canceled", "no", "CANCELED")
    assert again == (status, body)
    assert await events_of(client, media) == ["requested", "canceled"]
    assert (await client.media(media))["cancel"] == {"answer": "canceled", "money_spent": "no"}


async def test_canceled_media_is_never_claimed(client, db, worker_id):
    media = await client.faulty()
    await request_cancel(client, media)

    assert await claim(db, "network", worker_id=worker_id, limit=10) == []


@pytest.mark.parametrize(("answer", "money"), [("canceled", "maybe"), ("requested", "no")])
async def test_cancel_stops_the_attempt_at_the_provider(product, answer, money):
    media = await product.faulty(delay=60, on_cancel=answer)
    await eventually(lambda: attempts_of(product, media), lambda items: items and items[0]["status"] == "SUBMITTED")

    status, body = await request_cancel(product, media)
    done = await product.until(media)

    assert (status, body["answer"], body["status"]) == (202, "requested", "PROCESSING")
    assert (done["status"], done["cancel"]) == ("CANCELED", {"answer": "canceled", "money_spent": money})
    assert (await attempts_of(product, media))[0]["status"] == "CANCELED"
    assert (await events_of(product, media))[-2:] == ["cancel_asked", "canceled"]


async def test_cancel_refused_by_the_provider_is_too_late_and_the_media_completes(product):
    media = await product.faulty(delay=1.5, on_cancel="too_late")
    await eventually(lambda: attempts_of(product, media), lambda items: items and items[0]["status"] == "SUBMITTED")

    first = await request_cancel(product, media)
    refused = await eventually(lambda: product.media(media), lambda seen: seen["cancel"]["answer"] == "too_late")
    status, problem = await request_cancel(product, media)
    done = await product.until(media)

    assert first[0] == 202
    assert refused["status"] == "PROCESSING"
    assert (status, problem["code"], problem["answer"], problem["money_spent"]) == (
        409,
        "cancel_too_late",
        "too_late",
        "yes",
    )
    assert (done["status"], done["cancel"]) == ("COMPLETED", {"answer": "too_late", "money_spent": "yes"})


class StoppedBefore(DummyMediaGeneratorModel):
    """Stopped by a worker that is dead by now: another cancel comes too late. At first it is not reached."""

    polls = 0

    async def poll(self, reference):
        self.polls += 1
        if self.polls == 1:
            raise NotReachedError("connection refused")
        return Canceled() if self.polls > 2 else Running()

    async def cancel(self, reference):
        return CancelAnswer.TOO_LATE


async def test_purchase_that_a_worker_before_has_stopped_counts_as_canceled(client, db, working):
    media = await client.faulty(delay=60)
    lease = await claim_lease(db, await register_worker(db, "dying"))
    attempt_id = await begin_attempt(db, lease)
    await record_purchases.many(db, [purchase_of(attempt_id, "stopped")])
    await request_cancel(client, media)
    await db.execute("DELETE FROM workers")

    await working(StoppedBefore())
    done = await client.until(media)

    assert (done["status"], done["cancel"]["answer"], done["error"]) == ("CANCELED", "canceled", None)


async def test_finished_media_cannot_be_canceled(product):
    done = await product.until(await product.faulty())
    failed = await product.until(await product.faulty(fail_times=1, fail_with="input_refused"))

    for media, money in ((done, "yes"), (failed, "no")):
        status, problem = await request_cancel(product, media)
        assert (status, problem["code"], problem["money_spent"]) == (409, "cancel_too_late", money)


async def test_media_of_another_owner_cannot_be_canceled(client):
    answer = await client.api.post(f"/media/{new_id()}/cancel")

    assert (answer.status_code, answer.json()["code"]) == (404, "media_not_found")


async def test_media_with_a_cancel_request_is_canceled_once_it_is_back_in_the_queue(client, db, worker_id):
    media = await client.faulty()
    lease = await claim_lease(db, worker_id)
    attempt_id = await begin_attempt(db, lease)
    assert (await request_cancel(client, media))[0] == 202
    busy = failure_of(lease, attempt_id, retry_after=timedelta(hours=1))
    await failure.schedule_retries.many(db, [busy])

    assert await cancellation.cancel_all_waiting(db) == 1

    canceled = await client.media(media)
    assert (canceled["cancel"], canceled["error"]) == ({"answer": "canceled", "money_spent": "no"}, None)


async def test_cancel_request_survives_worker_death(client, db, runtime, bell):
    media = await client.faulty(delay=60)
    lease = await claim_lease(db, await register_worker(db, "dying"))
    await begin_attempt(db, lease)
    await request_cancel(client, media)
    await db.execute("DELETE FROM workers")

    runner = bell.runner = build_runner(runtime)
    await runner.start()
    done = await client.until(media)
    await runner.stop()

    assert (done["status"], done["cancel"]["answer"]) == ("CANCELED", "canceled")


async def test_cancel_racing_with_completion_ends_in_exactly_one(client, db, worker_id):
    for _ in range(30):
        media = await client.faulty()
        lease = await claim_lease(db, worker_id)
        attempt_id = await begin_attempt(db, lease)

        _, (completed,), (canceled,) = await asyncio.gather(
            request_cancel(client, media),
            complete.many(db, [completion_of(lease, attempt_id)]),
            cancellation.cancel.many(db, [CancelOutcome(lease, attempt_id, "yes")]),
        )

        seen = await client.media(media)
        assert completed != canceled
        assert seen["status"] == ("COMPLETED" if completed else "CANCELED")
        assert len(seen["files"]) == completed
        assert (await attempts_of(client, media))[0]["status"] == ("SUCCEEDED" if completed else "CANCELED")
        assert sum(event in {"completed", "canceled"} for event in await events_of(client, media)) == 1
        assert seen["cancel"] is None or seen["cancel"]["answer"] in {"too_late", "canceled"}


async def test_cancel_racing_with_a_claim_is_never_lost(client, db, runtime, bell):
    media = [await client.faulty(delay=30) for _ in range(20)]
    runner = bell.runner = build_runner(runtime)
    await runner.start()

    answers = await asyncio.gather(*(request_cancel(client, one) for one in media))
    done = [await client.until(one) for one in media]
    await runner.stop()

    assert {status for status, _ in answers} <= {200, 202}
    assert {one["status"] for one in done} == {"CANCELED"}


async def test_canceled_media_can_be_retried(product, client):
    media = await product.faulty(delay=0.5, on_cancel="canceled")
    await product.until(media, "PROCESSING")
    await request_cancel(product, media)
    assert (await product.until(media))["status"] == "CANCELED"

    answer = await client.api.post(f"/media/{media['id']}/retry")
    done = await product.until(media)

    assert (answer.status_code, answer.json()["cancel"]) == (202, None)
    assert (done["status"], done["cancel"]) == ("COMPLETED", None)

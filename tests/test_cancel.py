"""Cancelling: at once while it waits, honestly while it is worked on, and never both cancelled and completed."""

import asyncio
from datetime import timedelta

import pytest

from app.core.ids import new_id
from app.jobs.states import AttemptStatus
from app.jobs.transitions import cancellation, failure
from app.jobs.transitions.attempt import Intent, intend
from app.jobs.transitions.base import Lease
from app.jobs.transitions.cancellation import CancelOutcome
from app.jobs.transitions.completion import Completion, StoredFile, complete
from app.jobs.transitions.failure import Failure
from app.jobs.worker import leases
from app.worker import build_runner
from tests.support import attempts_of, claim, eventually


async def cancel(client, media):
    answer = await client.api.post(f"/media/{media['id']}/cancel")
    return answer.status_code, answer.json()


async def events_of(client, media):
    return [event["event"] for event in (await client.api.get(f"/media/{media['id']}/history")).json()["items"]]


async def test_what_waits_is_cancelled_at_once_and_cost_nothing(client):
    media = await client.faulty()

    status, body = await cancel(client, media)
    again = await cancel(client, media)

    assert (status, body["answer"], body["money_spent"], body["status"]) == (200, "canceled", "no", "CANCELED")
    assert again == (status, body)
    assert await events_of(client, media) == ["requested", "canceled"]
    assert (await client.media(media))["cancel"] == {"answer": "canceled", "money_spent": "no"}


async def test_what_is_cancelled_is_never_claimed(client, db):
    media = await client.faulty()
    await cancel(client, media)
    worker_id = new_id()
    await leases.register(db, worker_id, "test")

    assert await claim(db, "network", worker_id=worker_id, limit=10) == []


@pytest.mark.parametrize(("says", "money"), [("canceled", "maybe"), ("requested", "no")])
async def test_what_is_at_the_provider_is_stopped_there(product, says, money):
    media = await product.faulty(delay=60, on_cancel=says)
    await eventually(lambda: attempts_of(product, media), lambda items: items and items[0]["status"] == "SUBMITTED")

    status, body = await cancel(product, media)
    done = await product.until(media)

    assert (status, body["answer"], body["status"]) == (202, "requested", "PROCESSING")
    assert (done["status"], done["cancel"]) == ("CANCELED", {"answer": "canceled", "money_spent": money})
    assert (await attempts_of(product, media))[0]["status"] == "CANCELED"
    assert (await events_of(product, media))[-2:] == ["cancel_asked", "canceled"]


async def test_what_the_provider_cannot_stop_goes_on_and_says_so(product):
    media = await product.faulty(delay=1.5, on_cancel="too_late")
    await eventually(lambda: attempts_of(product, media), lambda items: items and items[0]["status"] == "SUBMITTED")

    first = await cancel(product, media)
    told = await eventually(lambda: product.media(media), lambda seen: seen["cancel"]["answer"] == "too_late")
    status, problem = await cancel(product, media)
    done = await product.until(media)

    assert first[0] == 202
    assert told["status"] == "PROCESSING"
    assert (status, problem["code"], problem["answer"], problem["money_spent"]) == (
        409,
        "cancel_too_late",
        "too_late",
        "yes",
    )
    assert (done["status"], done["cancel"]) == ("COMPLETED", {"answer": "too_late", "money_spent": "yes"})


async def test_what_is_over_cannot_be_cancelled(product):
    done = await product.until(await product.faulty())
    failed = await product.until(await product.faulty(fail_times=1, fail_with="input_refused"))

    assert [(status, body["code"], body["money_spent"]) for status, body in [await cancel(product, done)]] == [
        (409, "cancel_too_late", "yes")
    ]
    assert [(status, body["code"], body["money_spent"]) for status, body in [await cancel(product, failed)]] == [
        (409, "cancel_too_late", "no")
    ]


async def test_nobody_elses_media_is_cancelled(client):
    answer = await client.api.post(f"/media/{new_id()}/cancel")

    assert (answer.status_code, answer.json()["code"]) == (404, "media_not_found")


async def test_a_media_that_fails_while_it_is_to_be_cancelled_is_canceled_in_the_queue(client, db):
    media = await client.faulty()
    worker_id = new_id()
    await leases.register(db, worker_id, "test")
    (row,) = await claim(db, "network", worker_id=worker_id, limit=1)
    held, attempt_id = Lease(row.id, row.fence), new_id()
    await intend.many(db, [Intent(held, attempt_id, "dummy/faulty", "1", "00")])
    assert (await cancel(client, media))[0] == 202
    busy = Failure(held, attempt_id, AttemptStatus.FAILED, "NO", '{"code": "provider_busy", "message": ""}')
    later = Failure(**{**{name: getattr(busy, name) for name in busy.__slots__}, "retry_after": timedelta(hours=1)})
    await failure.schedule_retries.many(db, [later])

    assert await cancellation.cancel_all_waiting(db) == 1

    over = await client.media(media)
    assert (over["cancel"], over["error"]) == ({"answer": "canceled", "money_spent": "no"}, None)


async def test_a_wish_outlives_the_worker_that_would_have_fulfilled_it(client, db, runtime, bell):
    media = await client.faulty(delay=60)
    worker_id = new_id()
    await leases.register(db, worker_id, "dies")
    (row,) = await claim(db, "network", worker_id=worker_id, limit=1)
    held = Lease(row.id, row.fence)
    await intend.many(db, [Intent(held, new_id(), "dummy/faulty", "1", "00")])
    await cancel(client, media)
    await db.execute("DELETE FROM workers")

    runner = bell.runner = build_runner(runtime)
    await runner.start()
    done = await client.until(media)
    await runner.stop()

    assert (done["status"], done["cancel"]["answer"]) == ("CANCELED", "canceled")


async def test_cancel_and_completion_that_race_end_in_exactly_one(client, db):
    worker_id = new_id()
    await leases.register(db, worker_id, "test")
    ends = []
    for _ in range(30):
        media = await client.faulty()
        (row,) = await claim(db, "network", worker_id=worker_id, limit=1)
        held, attempt_id = Lease(row.id, row.fence), new_id()
        await intend.many(db, [Intent(held, attempt_id, "dummy/faulty", "1", "00")])
        file = StoredFile(new_id(), 0, "media/x/0.png", "image/png", 10, 1, 1, "ab")

        _, (done,), (stopped,) = await asyncio.gather(
            cancel(client, media),
            complete.many(db, [Completion(held, attempt_id, (file,))]),
            cancellation.cancel.many(db, [CancelOutcome(held, attempt_id, "yes")]),
        )

        seen = await client.media(media)
        assert done != stopped
        assert seen["status"] == ("COMPLETED" if done else "CANCELED")
        assert len(seen["files"]) == done
        assert (await attempts_of(client, media))[0]["status"] == ("SUCCEEDED" if done else "CANCELED")
        assert sum(event in {"completed", "canceled"} for event in await events_of(client, media)) == 1
        assert seen["cancel"] is None or seen["cancel"]["answer"] in {"too_late", "canceled"}
        ends.append(seen["status"])
    assert len(ends) == 30


async def test_of_cancel_and_claim_that_race_none_leaves_a_wish_unheard(client, db, runtime, bell):
    media = [await client.faulty(delay=30) for _ in range(20)]
    runner = bell.runner = build_runner(runtime)
    await runner.start()

    answers = await asyncio.gather(*(cancel(client, one) for one in media))
    done = [await client.until(one) for one in media]
    await runner.stop()

    assert {status for status, _ in answers} <= {200, 202}
    assert {one["status"] for one in done} == {"CANCELED"}


async def test_what_was_cancelled_can_be_asked_for_again(product, client):
    media = await product.faulty(delay=0.5, on_cancel="canceled")
    await product.until(media, "PROCESSING")
    await cancel(product, media)
    assert (await product.until(media))["status"] == "CANCELED"

    answer = await client.api.post(f"/media/{media['id']}/retry")
    done = await product.until(media)

    assert (answer.status_code, answer.json()["cancel"]) == (202, None)
    assert (done["status"], done["cancel"]) == ("COMPLETED", None)

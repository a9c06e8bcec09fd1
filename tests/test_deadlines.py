"""Deadlines: the job ends in time, the provider is told, and what is paid and comes late is kept."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from app.core.ids import new_id
from app.jobs.transitions import expiry, late_attempts
from app.jobs.transitions.attempt import Intent, Purchase, intend, record_purchases
from app.jobs.transitions.base import Lease
from app.jobs.transitions.completion import StoredFile
from app.jobs.transitions.late_attempts import LateResult
from app.jobs.worker import leases
from app.media.intake import submit as requesting
from app.media_generator.dummy_media_generator.provider import DummyMediaGeneratorModel
from app.media_generator.media_generator_model import CancelAnswer
from app.media_generator.registry import Registry
from app.runtime import open_runtime
from app.worker import build_runner
from tests.support import attempts_of, claim, eventually


async def timed(client, seconds, **plan):
    """What is to be at the provider by its deadline needs some seconds for that on a machine that is busy."""
    return await client.generate(model="dummy/faulty", input=plan, deadline_seconds=seconds)


async def last_event(client, media):
    return (await client.api.get(f"/media/{media['id']}/history")).json()["items"][-1]["event"]


async def test_what_nobody_has_begun_by_its_deadline_is_over(client, db):
    media = await timed(client, 0.05)
    await asyncio.sleep(0.1)
    worker_id = new_id()
    await leases.register(db, worker_id, "test")

    taken = await claim(db, "network", worker_id=worker_id, limit=10)
    assert (taken, await expiry.expire_waiting(db, '{"code": "x", "message": ""}')) == ([], 1)

    assert (await client.media(media))["status"] == "ERROR"
    assert await last_event(client, media) == "expired"


async def test_the_provider_is_told_to_stop_what_is_not_finished_in_time(product):
    media = await timed(product, 3, hang=True)

    done = await product.until(media)
    attempt = await eventually(lambda: attempts_of(product, media), lambda items: items[0]["status"] == "CANCELED")

    assert (done["status"], done["error"]["code"]) == ("ERROR", "deadline_exceeded")
    assert done["deadline"] is not None
    assert attempt[0]["external_id"]


async def test_a_result_that_is_paid_and_comes_late_is_stored_and_completes_a_retry_without_another_purchase(
    product, client
):
    media = await timed(product, 3, delay=5, on_cancel="too_late")
    expired = await product.until(media)
    assert (expired["error"]["code"], expired["files"]) == ("deadline_exceeded", [])

    late_one = await eventually(lambda: product.media(media), lambda seen: seen["files"])
    content = await client.api.get(late_one["files"][0]["url"])
    await client.api.post(f"/media/{media['id']}/retry")
    done = await product.until(media, "COMPLETED")

    assert (late_one["status"], late_one["error"]["code"]) == ("ERROR", "deadline_exceeded")
    assert content.status_code == 307
    assert (done["number_of_tries"], done["files"]) == (1, late_one["files"])
    assert [attempt["status"] for attempt in await attempts_of(product, media)] == ["SUCCEEDED"]


async def test_a_retry_before_the_late_result_goes_on_with_what_was_bought(product, client):
    media = await timed(product, 3, delay=8, on_cancel="too_late")
    await product.until(media)

    await client.api.post(f"/media/{media['id']}/retry")
    again = await product.until(media)  # the deadline counts anew, and passes again
    await client.api.post(f"/media/{media['id']}/retry")
    await eventually(lambda: product.media(media), lambda seen: seen["files"] or seen["status"] == "ERROR")
    late_one = await eventually(lambda: product.media(media), lambda seen: seen["files"])

    assert again["error"]["code"] == "deadline_exceeded"
    assert late_one["number_of_tries"] == 1
    assert len(await attempts_of(product, media)) == 1


async def test_after_the_time_for_late_results_nobody_asks_the_provider_any_more(client, settings, db, bell):
    hasty = settings.model_copy(update={"late_result_seconds": 0})
    async with open_runtime(hasty) as runtime:
        runner = bell.runner = build_runner(runtime)
        await runner.start()
        media = await timed(client, 3, delay=30, on_cancel="too_late")
        await client.until(media)
        await eventually(lambda: db.fetch("SELECT 1 FROM attempts WHERE look_at IS NOT NULL"), lambda rows: rows == [])
        await runner.stop()

    assert [attempt["status"] for attempt in await attempts_of(client, media)] == ["SUBMITTED"]


class TimedDummy(DummyMediaGeneratorModel):
    """Its models have a default deadline."""

    def models(self):
        return [replace(card, time_limit=timedelta(seconds=0.4)) for card in super().models()]


async def test_a_model_may_have_a_deadline_of_its_own(settings, db, bell):
    async with open_runtime(settings, Registry([TimedDummy()])) as runtime:
        runner = bell.runner = build_runner(runtime)
        await runner.start()
        asked = requesting.MediaRequest(prompt="p", model="dummy/faulty", input={"hang": True}, metadata={})
        owner = new_id()
        media = (await requesting.request_media(runtime.media_services(bell), owner, asked)).media
        row = await eventually(
            lambda: db.fetchrow("SELECT error FROM media WHERE id = $1", media.id), lambda row: row["error"]
        )
        await runner.stop()

    assert "deadline_exceeded" in row["error"]


class Unhurried(DummyMediaGeneratorModel):
    """Takes a while to sell, and cannot be stopped."""

    capabilities = replace(DummyMediaGeneratorModel.capabilities, submit_timeout=timedelta(seconds=10), findable=False)

    async def submit(self, submission):
        await asyncio.sleep(1.5)
        return await super().submit(submission)

    async def cancel(self, reference):
        return CancelAnswer.TOO_LATE


async def test_a_purchase_that_is_made_while_the_deadline_passes_is_kept(client, settings, db, bell):
    async with open_runtime(settings, Registry([Unhurried()])) as runtime:
        runner = bell.runner = build_runner(runtime)
        await runner.start()
        media = await timed(client, 0.5)
        expired = await client.until(media)
        kept = await eventually(lambda: client.media(media), lambda seen: seen["files"])
        await runner.stop()

    assert (expired["status"], kept["status"]) == ("ERROR", "ERROR")
    assert [attempt["status"] for attempt in await attempts_of(client, media)] == ["SUCCEEDED"]


async def test_a_late_result_and_a_retry_that_race_leave_one_set_of_files(client, db):
    worker_id = new_id()
    await leases.register(db, worker_id, "test")
    for _ in range(10):
        media = await timed(client, 60)
        (row,) = await claim(db, "network", worker_id=worker_id, limit=1)
        held, attempt_id = Lease(row.id, row.fence), new_id()
        await intend.many(db, [Intent(held, attempt_id, "dummy/faulty", "1", "00")])
        await record_purchases.many(db, [Purchase(attempt_id, "ext", '{"external_id": "ext"}')])
        await expiry.expire.many(db, [held])
        result = LateResult(attempt_id, held.media_id, (stored_file(),))

        kept, _ = await asyncio.gather(late_attempts.store(db, result), client.api.post(f"/media/{media['id']}/retry"))

        (row,) = await claim(db, "network", worker_id=worker_id, limit=1)
        assert row.stored == kept
        assert (row.attempt_id is None) == kept
        await db.execute("DELETE FROM media")


def stored_file():
    return StoredFile(new_id(), 0, "media/x/0.png", "image/png", 10, 1, 1, "ab")


@pytest.mark.parametrize("seconds", [0, -1, "60", 1e9, True])
async def test_a_deadline_that_is_none_is_refused(client, seconds):
    answer = await client.api.post("/media/generate", json={"prompt": "x", "deadline_seconds": seconds})

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "deadline_seconds")

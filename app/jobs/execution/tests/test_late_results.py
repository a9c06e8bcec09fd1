"""Results that come after their media has ended, and purchases that are to be stopped."""

import asyncio
import hashlib
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import httpx2

from app.jobs.transitions.attempt import record_purchases
from app.media_generator.dummy_media_generator.provider import DummyMediaGeneratorModel
from app.media_generator.errors import AnswerLostError
from app.media_generator.media_generator_model import CancelAnswer, Canceled, Running
from app.runtime import open_runtime
from app.worker import build_runner
from tests.jobs import dummy_purchase
from tests.support import attempts_of, eventually

DUMMY = DummyMediaGeneratorModel.capabilities


async def generate_with_deadline(client, seconds, **plan):
    """A job that is to reach the provider before its deadline needs some seconds on a busy machine."""
    return await client.generate(model="dummy/faulty", input=plan, deadline_seconds=seconds)


async def test_late_result_is_stored_and_completes_a_retry_without_a_second_purchase(product, client):
    media = await generate_with_deadline(product, 3, delay=5, on_cancel="too_late")
    expired = await product.until(media)
    assert (expired["error"]["code"], expired["files"]) == ("deadline_exceeded", [])

    stored = await eventually(lambda: product.media(media), lambda seen: seen["files"])
    content = await client.api.get(stored["files"][0]["url"])
    await client.api.post(f"/media/{media['id']}/retry")
    done = await product.until(media, "COMPLETED")

    assert (stored["status"], stored["error"]["code"]) == ("ERROR", "deadline_exceeded")
    assert content.status_code == 307
    assert (done["number_of_tries"], done["files"]) == (1, stored["files"])
    assert [attempt["status"] for attempt in await attempts_of(product, media)] == ["SUCCEEDED"]


async def test_retry_before_the_late_result_resumes_the_purchase(product, client):
    media = await generate_with_deadline(product, 3, delay=8, on_cancel="too_late")
    await product.until(media)

    await client.api.post(f"/media/{media['id']}/retry")
    again = await product.until(media)  # the deadline starts again, and passes again
    await client.api.post(f"/media/{media['id']}/retry")
    await eventually(lambda: product.media(media), lambda seen: seen["files"] or seen["status"] == "ERROR")
    stored = await eventually(lambda: product.media(media), lambda seen: seen["files"])

    assert again["error"]["code"] == "deadline_exceeded"
    assert stored["number_of_tries"] == 1
    assert len(await attempts_of(product, media)) == 1


async def test_provider_is_not_polled_after_late_result_seconds(client, settings, db, bell):
    no_late_results = settings.model_copy(update={"late_result_seconds": 0})
    async with open_runtime(no_late_results) as runtime:
        runner = bell.runner = build_runner(runtime)
        await runner.start()
        media = await generate_with_deadline(client, 3, delay=30, on_cancel="too_late")
        await client.until(media)
        await eventually(lambda: db.fetch("SELECT 1 FROM attempts WHERE look_at IS NOT NULL"), lambda rows: rows == [])
        await runner.stop()

    assert [attempt["status"] for attempt in await attempts_of(client, media)] == ["SUBMITTED"]


class LosesItsFirstAnswer(DummyMediaGeneratorModel):
    """Its first answer is lost, and it cannot be looked up."""

    capabilities = replace(DUMMY, submit_timeout=timedelta(seconds=0.5), findable=False)
    calls = 0

    async def submit(self, submission):
        self.calls += 1
        if self.calls == 1:
            raise AnswerLostError("lost")
        return await super().submit(submission)


async def test_late_purchase_never_overwrites_the_files_of_another(client, db, working):
    await working(LosesItsFirstAnswer())
    done = await client.until(await client.generate(model="dummy/faulty", on_unknown="retry"))
    (first, _) = await db.fetch("SELECT id FROM attempts ORDER BY number")

    await record_purchases.many(db, [dummy_purchase(first["id"], size=40_000)])
    await asyncio.sleep(2)

    location = (await client.api.get(done["files"][0]["url"])).headers["location"]
    async with httpx2.AsyncClient(trust_env=False) as store:
        body = (await store.get(location)).content
    assert hashlib.sha256(body).hexdigest() == done["files"][0]["sha256"]


class SlowToStop(DummyMediaGeneratorModel):
    """Takes two seconds to stop what it is asked to stop."""

    def __init__(self):
        super().__init__()
        self.stopping_since = {}

    async def cancel(self, reference):
        self.stopping_since[reference.external_id] = asyncio.get_running_loop().time()
        return CancelAnswer.REQUESTED

    async def poll(self, reference):
        stopping_since = self.stopping_since.get(reference.external_id)
        if stopping_since is not None and asyncio.get_running_loop().time() - stopping_since > 2:
            return Canceled(Decimal(0))
        is_retry = self.stopping_since and stopping_since is None
        return await super().poll(reference) if is_retry else Running(wait=timedelta(seconds=0.2))


async def test_retry_of_a_media_being_stopped_submits_again_once_it_has_stopped(client, working):
    provider = SlowToStop()
    await working(provider)
    media = await client.generate(model="dummy/faulty", deadline_seconds=4)
    await client.until(media)
    await eventually(lambda: asyncio.sleep(0, provider.stopping_since))
    await client.api.post(f"/media/{media['id']}/retry")

    done = await client.until(media)

    assert done["status"] == "COMPLETED"
    assert [attempt["status"] for attempt in await attempts_of(client, media)] == ["CANCELED", "SUCCEEDED"]


class HangsOnOne(DummyMediaGeneratorModel):
    """Never answers the request to stop the prompt "hang"."""

    def __init__(self):
        super().__init__()
        self.stopped = set()

    async def cancel(self, reference):
        if reference.data["prompt"] == "hang":
            await asyncio.sleep(3600)
        self.stopped.add(reference.external_id)
        return CancelAnswer.CANCELED


async def test_hanging_stop_request_delays_no_other(client, working):
    provider = HangsOnOne()
    await working(provider)
    for prompt in ("hang", "other"):
        media = await client.generate(prompt=prompt, model="dummy/faulty", input={"hang": True}, deadline_seconds=0.5)
        await client.until(media)

    assert await eventually(lambda: asyncio.sleep(0, provider.stopped))

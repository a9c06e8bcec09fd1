"""Deadlines: the media ends in time, the provider is asked to stop, and what was submitted is kept."""

import asyncio
from dataclasses import replace
from datetime import timedelta

from app.core.ids import new_id
from app.jobs.transitions import expiry
from app.media.intake import submit
from app.media_generator.dummy_media_generator.provider import DummyMediaGeneratorModel
from app.media_generator.errors import InputRefusedError
from app.media_generator.media_generator_model import CancelAnswer
from app.media_generator.registry import Registry
from app.runtime import open_runtime
from app.worker import build_runner
from tests.support import attempts_of, claim, eventually


async def generate_with_deadline(client, seconds, **plan):
    """A job that is to reach the provider before its deadline needs some seconds on a busy machine."""
    return await client.generate(model="dummy/faulty", input=plan, deadline_seconds=seconds)


async def last_event(client, media):
    return (await client.api.get(f"/media/{media['id']}/history")).json()["items"][-1]["event"]


async def test_waiting_media_expires_at_its_deadline(client, db, worker_id):
    media = await generate_with_deadline(client, 0.05)
    await asyncio.sleep(0.1)

    claimed = await claim(db, "network", worker_id=worker_id, limit=10)
    assert (claimed, await expiry.expire_waiting(db, '{"code": "x", "message": ""}')) == ([], 1)

    assert (await client.media(media))["status"] == "ERROR"
    assert await last_event(client, media) == "expired"


async def test_provider_is_asked_to_stop_at_the_deadline(product):
    media = await generate_with_deadline(product, 3, hang=True)

    done = await product.until(media)
    attempt = await eventually(lambda: attempts_of(product, media), lambda items: items[0]["status"] == "CANCELED")

    assert (done["status"], done["error"]["code"]) == ("ERROR", "deadline_exceeded")
    assert done["deadline"] is not None
    assert attempt[0]["external_id"]


class ProviderWithTimeLimit(DummyMediaGeneratorModel):
    """Its models have a default deadline."""

    def models(self):
        return [replace(card, time_limit=timedelta(seconds=0.4)) for card in super().models()]


async def test_model_may_set_a_default_deadline(settings, db, bell):
    async with open_runtime(settings, Registry([ProviderWithTimeLimit()])) as runtime:
        runner = bell.runner = build_runner(runtime)
        await runner.start()
        request = submit.MediaRequest(prompt="p", model="dummy/faulty", input={"hang": True}, metadata={})
        owner = new_id()
        media = (await submit.request_media(runtime.media_services(bell), owner, request)).media
        row = await eventually(
            lambda: db.fetchrow("SELECT error FROM media WHERE id = $1", media.id), lambda row: row["error"]
        )
        await runner.stop()

    assert "deadline_exceeded" in row["error"]


class SlowUnstoppableProvider(DummyMediaGeneratorModel):
    """Takes a while to accept a submission, and cannot be stopped."""

    capabilities = replace(DummyMediaGeneratorModel.capabilities, submit_timeout=timedelta(seconds=10), findable=False)

    async def submit(self, submission):
        await asyncio.sleep(1.5)
        return await super().submit(submission)

    async def cancel(self, reference):
        return CancelAnswer.TOO_LATE


async def test_purchase_made_while_the_deadline_passes_is_kept(client, settings, db, bell):
    async with open_runtime(settings, Registry([SlowUnstoppableProvider()])) as runtime:
        runner = bell.runner = build_runner(runtime)
        await runner.start()
        media = await generate_with_deadline(client, 0.5)
        expired = await client.until(media)
        kept = await eventually(lambda: client.media(media), lambda seen: seen["files"])
        await runner.stop()

    assert (expired["status"], kept["status"]) == ("ERROR", "ERROR")
    assert [attempt["status"] for attempt in await attempts_of(client, media)] == ["SUCCEEDED"]


class RefusesSlowly(DummyMediaGeneratorModel):
    capabilities = replace(DummyMediaGeneratorModel.capabilities, submit_timeout=timedelta(seconds=2), findable=False)

    async def submit(self, submission):
        await asyncio.sleep(1.5)
        raise InputRefusedError("no such style")


async def test_refusal_received_after_the_deadline_is_kept(client, db, working):
    await working(RefusesSlowly())
    media = await client.generate(model="dummy/faulty", deadline_seconds=0.7)
    await client.until(media)
    await db.execute("UPDATE media SET time_limit = NULL")
    await client.api.post(f"/media/{media['id']}/retry")

    done = await client.until(media)

    assert done["error"]["code"] == "input_refused"

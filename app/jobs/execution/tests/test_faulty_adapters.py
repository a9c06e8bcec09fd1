"""Adapters and providers with bugs: the job ends with a reason, others go on."""

import asyncio
from datetime import timedelta
from decimal import Decimal

from app.media_generator.dummy_media_generator.provider import DummyMediaGeneratorModel
from app.media_generator.errors import BusyError, GenerationFailedError, NotReachedError
from app.media_generator.media_generator_model import Failed, Reference, Running, Succeeded
from app.media_generator.registry import Registry
from app.runtime import open_runtime
from app.worker import build_runner
from tests.support import attempts_of, eventually


async def until_submitted(client, media):
    return await eventually(
        lambda: attempts_of(client, media), lambda items: items and items[0]["status"] == "SUBMITTED"
    )


class ErrorWithHalfAnEmoji(DummyMediaGeneratorModel):
    async def poll(self, reference):
        return Failed(GenerationFailedError("prompt 'I love \ud83d' was \x00 flagged"))


async def test_error_with_unstorable_characters_still_ends_the_job(client, working):
    await working(ErrorWithHalfAnEmoji())

    done = await client.until(await client.faulty())

    assert (done["error"]["code"], "I love ?" in done["error"]["message"]) == ("generation_failed", True)


class AbsurdCost(DummyMediaGeneratorModel):
    async def poll(self, reference):
        outcome = await super().poll(reference)
        return Succeeded(outcome.outputs, Decimal("1e15")) if isinstance(outcome, Succeeded) else outcome


async def test_absurd_cost_does_not_lose_the_result(client, working):
    await working(AbsurdCost())

    assert (await client.until(await client.faulty()))["status"] == "COMPLETED"


class InvalidPollAnswer(DummyMediaGeneratorModel):
    async def poll(self, reference):
        return Running(progress="half of it", wait=timedelta(0))


async def test_adapter_with_invalid_answers_is_given_up(client, working):
    await working(InvalidPollAnswer())

    done = await client.until(await client.faulty())

    assert (done["status"], done["error"]["code"]) == ("ERROR", "output_invalid")


class IncompleteReference(DummyMediaGeneratorModel):
    async def submit(self, submission):
        reference = await super().submit(submission)
        return Reference(reference.external_id, None) if submission.prompt == "broken" else reference


async def test_unusable_reference_affects_no_other_job(client, db, working):
    await working(IncompleteReference())
    await client.generate(prompt="broken", model="dummy/faulty")
    good = [await client.faulty() for _ in range(3)]
    unreadable = await client.faulty(delay=30)
    await until_submitted(client, unreadable)
    await db.execute("UPDATE attempts SET reference = '7' WHERE media_id = $1", unreadable["id"])
    await db.execute("DELETE FROM workers")

    more = [await client.faulty() for _ in range(3)]

    assert {(await client.until(one))["status"] for one in (*good, *more)} == {"COMPLETED"}
    broken = await eventually(lambda: client.media(unreadable), lambda seen: seen["error"])
    assert broken["error"]["code"] == "job_broken"


class UnreachableProvider(DummyMediaGeneratorModel):
    """Cannot be asked to stop; counts its calls."""

    def __init__(self):
        super().__init__()
        self.cancels = self.polls = 0

    async def cancel(self, reference):
        self.cancels += 1
        raise NotReachedError("connection refused")

    async def poll(self, reference):
        self.polls += 1
        raise BusyError("slow down", retry_after=timedelta(0))


async def test_provider_is_never_called_without_a_pause(client, working):
    provider = UnreachableProvider()
    await working(provider)
    media = await client.faulty(delay=60)
    await until_submitted(client, media)
    await client.api.post(f"/media/{media['id']}/cancel")
    await asyncio.sleep(3)

    assert provider.cancels < 100
    assert provider.polls < 100


class AbsurdRetryAfter(DummyMediaGeneratorModel):
    async def submit(self, submission):
        raise BusyError("later", retry_after=timedelta(seconds=1e12))


async def test_retry_after_is_limited_to_a_day(client, db, working):
    await working(AbsurdRetryAfter())
    media = await client.faulty()
    await eventually(lambda: client.media(media), lambda seen: seen["error"])

    (row,) = await db.fetch("SELECT next_run - now() AS pause FROM media")

    assert row["pause"] <= timedelta(days=1)
    assert (await client.api.get("/media")).status_code == 200


class BrokenOutput(DummyMediaGeneratorModel):
    """Raises no ProviderError where its results cannot be read."""

    async def open(self, output):
        yield b"\x89PNG"
        raise KeyError("a bug of the plug-in")


async def test_exception_of_an_adapter_ends_the_job_with_a_reason(client, settings, bell):
    async with open_runtime(settings, Registry([BrokenOutput()])) as broken:
        runner = bell.runner = build_runner(broken)
        await runner.start()
        done = await client.until(await client.faulty())
        await runner.stop()

    assert (done["status"], done["error"]["code"]) == ("ERROR", "output_invalid")
    assert "KeyError" in done["error"]["message"]

"""Lost answers of a provider that stores no id of ours: what is like the submission is looked for in its list."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.media_generator.dummy_media_generator.provider import DummyMediaGeneratorModel
from fleek.providers import AnswerLostError, Candidates, NotReachedError, Reference
from tests.support import attempts_of, eventually

WINDOW = timedelta(minutes=2)
"""As of a provider whose clock may be off."""


class ListingProvider(DummyMediaGeneratorModel):
    """Names its purchases itself, and lists them with model, input and time."""

    capabilities = replace(DummyMediaGeneratorModel.capabilities, submit_timeout=timedelta(seconds=1))

    def __init__(self):
        super().__init__()
        self.listed = []
        """Purchases: reference, prompt and time."""
        self.submit_calls = 0
        self.find_calls = 0
        self.loses = set()
        """Prompts whose answers are lost."""
        self.drops = set()
        """The same with the attempt's number; these requests do not arrive either."""
        self.unreachable_finds = 0
        self.unreachable_polls = 0
        self.clock_is_off = timedelta(0)

    async def submit(self, submission):
        self.submit_calls += 1
        if (submission.prompt, submission.number) in self.drops:
            self.drops.discard((submission.prompt, submission.number))
            raise AnswerLostError("nothing came back")
        made = await super().submit(submission)
        reference = replace(made, external_id=f"listed-{len(self.listed)}")
        self.listed.append((reference, submission.prompt, datetime.now(UTC) + self.clock_is_off))
        if submission.prompt in self.loses:
            raise AnswerLostError("the answer was lost")
        return reference

    async def poll(self, reference):
        if self.unreachable_polls:
            self.unreachable_polls -= 1
            raise NotReachedError("down")
        return await super().poll(reference)

    async def find(self, submission, since):
        self.find_calls += 1
        if self.unreachable_finds:
            self.unreachable_finds -= 1
            raise NotReachedError("down")
        alike = tuple(
            reference
            for reference, prompt, at in self.listed
            if prompt == submission.prompt and since - WINDOW <= at <= since + WINDOW
        )
        return Candidates(alike) if alike else None


@pytest.fixture
def provider():
    return ListingProvider()


async def requested(client, prompt):
    return await client.generate(model="dummy/faulty", prompt=prompt)


@pytest.mark.parametrize("clock_is_off", [timedelta(0), timedelta(seconds=110), timedelta(seconds=-110)])
async def test_purchase_of_a_media_that_waited_long_is_found(client, db, provider, working, clock_is_off):
    provider.loses, provider.clock_is_off = {"a"}, clock_is_off
    media = await requested(client, "a")
    await db.execute("UPDATE media SET created_at = created_at - interval '1 hour'")
    await working(provider)

    done = await client.until(media)

    assert (done["status"], done["number_of_tries"], provider.submit_calls) == ("COMPLETED", 1, 1)


async def test_purchase_that_another_attempt_has_is_not_adopted(client, provider, working):
    provider.drops = {("equal", 1)}
    await working(provider)
    first = await requested(client, "equal")
    await eventually(lambda: asyncio.sleep(0, provider.submit_calls))
    second = await requested(client, "equal")

    ended = [await client.until(first), await client.until(second)]

    assert [done["status"] for done in ended] == ["COMPLETED"] * 2
    ids = [[one["external_id"] for one in await attempts_of(client, done)] for done in ended]
    assert ids == [[None, "listed-1"], ["listed-0"]]


async def test_one_purchase_and_two_attempts_that_may_have_made_it_stay_unknown(client, provider, working):
    provider.loses, provider.drops = {"equal"}, {("equal", 1)}
    media = [await requested(client, "equal"), await requested(client, "equal")]
    await working(provider, reconcile_seconds=0.5)

    ended = [await client.until(one) for one in media]

    assert [done["error"]["code"] for done in ended] == ["outcome_unknown"] * 2
    assert (len(provider.listed), provider.submit_calls) == (1, 2)


async def test_retry_does_not_adopt_its_failed_predecessor(client, provider, working):
    provider.drops = {("a", 2)}
    await working(provider)
    plan = {"fail_times": 1, "fail_with": "generation_failed"}
    failed = await client.until(await client.generate(model="dummy/faulty", prompt="a", input=plan))

    await client.api.post(f"/media/{failed['id']}/retry")
    done = await client.until(failed, "COMPLETED")

    attempts = await attempts_of(client, done)
    assert [(one["status"], one["external_id"]) for one in attempts] == [
        ("FAILED", "listed-0"),
        ("FAILED", None),
        ("SUCCEEDED", "listed-1"),
    ]


async def test_outage_of_the_provider_does_not_use_up_the_time_for_looking(client, provider, working):
    provider.loses, provider.unreachable_finds = {"a"}, 4
    media = await requested(client, "a")
    await working(provider, reconcile_seconds=0.1)

    done = await client.until(media)

    assert (done["status"], provider.submit_calls) == ("COMPLETED", 1)
    assert provider.find_calls == 5


class GarbledThenDown(ListingProvider):
    """Its first look-up says nothing of use; then it cannot be asked until long after the time for looking."""

    async def find(self, submission, since):
        if self.find_calls == 0:
            self.find_calls += 1
            raise AnswerLostError("the list cannot be read")
        return await super().find(submission, since)


async def test_look_up_that_failed_is_never_the_one_that_decides(client, working):
    provider = GarbledThenDown()
    provider.loses, provider.unreachable_finds = {"a"}, 4
    await working(provider, reconcile_seconds=0.1)

    done = await client.until(await requested(client, "a"))

    assert (done["status"], provider.submit_calls, provider.find_calls) == ("COMPLETED", 1, 6)


async def test_owner_reads_that_a_lost_answer_is_being_looked_up(client, provider, working):
    provider.loses, provider.unreachable_finds = {"a"}, 10**6
    media = await requested(client, "a")
    await working(provider)

    waiting = await eventually(lambda: client.media(media), lambda seen: seen["waiting_for"])
    job = (await client.api.get(f"/media/jobs/{media['job_id']}")).json()
    provider.unreachable_finds = 0
    done = await client.until(media)

    assert (waiting["status"], waiting["waiting_for"]["code"]) == ("PROCESSING", "outcome_lookup")
    assert job["waiting_for"] == waiting["waiting_for"]
    assert (done["status"], done["waiting_for"], done["warnings"]) == ("COMPLETED", None, [])


async def test_owner_reads_that_the_provider_does_not_answer(client, provider, working, monkeypatch):
    monkeypatch.setattr("app.jobs.execution.progress.UNREACHABLE_SECONDS", 0.0)
    provider.unreachable_polls = 10**6
    media = await requested(client, "a")
    await working(provider)

    waiting = await eventually(lambda: client.media(media), lambda seen: seen["waiting_for"])
    provider.unreachable_polls = 0
    done = await client.until(media)

    assert (waiting["status"], waiting["waiting_for"]["code"]) == ("PROCESSING", "provider_unreachable")
    assert (done["status"], done["waiting_for"]) == ("COMPLETED", None)


class Doubts(ListingProvider):
    """Cannot tell whether what it lists is the one."""

    async def find(self, submission, since):
        found = await super().find(submission, since)
        return found and Candidates((), found.alike, "its input is hidden")


async def test_purchase_that_may_be_the_one_is_neither_adopted_nor_made_again(client, working):
    provider = Doubts()
    provider.loses = {"a"}
    await working(provider, reconcile_seconds=0.1)

    done = await client.until(await requested(client, "a"))

    assert (done["error"]["code"], provider.submit_calls) == ("outcome_unknown", 1)
    assert "its input is hidden" in done["error"]["message"]
    assert (await attempts_of(client, done))[0]["external_id"] is None


async def test_purchases_that_cannot_be_told_apart_stay_unknown(client, provider, working):
    provider.loses = {"a"}
    stranger = Reference("of another program", {})
    provider.listed.append((stranger, "a", datetime.now(UTC)))
    await working(provider, reconcile_seconds=0.1)

    done = await client.until(await requested(client, "a"))

    assert (done["status"], done["error"]["code"]) == ("ERROR", "outcome_unknown")
    assert (await attempts_of(client, done))[0]["external_id"] is None

"""What is said about another attempt's purchase, or by somebody else, settles nothing."""

import time
from dataclasses import replace
from datetime import timedelta

from app.jobs.transitions.attempt import record_purchases
from app.media_generator.dummy_media_generator.provider import DummyMediaGeneratorModel
from app.media_generator.errors import MissingOutputError
from fleek.providers import AnswerLostError, CancelAnswer, Candidates, ModelGoneError, Running
from tests.jobs import dummy_purchase
from tests.support import attempts_of, eventually

DUMMY = DummyMediaGeneratorModel.capabilities


class RepeatsTheFirst(DummyMediaGeneratorModel):
    """Answers every create with the first one's purchase, as a broken gateway does."""

    capabilities = replace(DUMMY, findable=False)

    def __init__(self):
        super().__init__()
        self.first = None

    async def submit(self, submission):
        self.first = self.first or await super().submit(submission)
        return self.first


async def test_answer_that_names_another_attempts_purchase_is_not_its_own(client, working):
    await working(RepeatsTheFirst())
    first = await client.until(await client.faulty(size=3_000))
    second = await client.until(await client.faulty(size=90_000))

    assert (first["status"], second["status"], second["error"]["code"]) == ("COMPLETED", "ERROR", "outcome_unknown")
    assert [one["external_id"] for one in await attempts_of(client, second)] == [None]


class FindsAStranger(DummyMediaGeneratorModel):
    """Loses its answers; a callback names the purchase while the list travels that has only a stranger's."""

    capabilities = replace(DUMMY, submit_timeout=timedelta(seconds=1))

    def __init__(self, db):
        super().__init__()
        self.db = db

    async def submit(self, submission):
        raise AnswerLostError("lost")

    async def find(self, submission, since):
        await record_purchases.many(self.db, [dummy_purchase(submission.attempt_id, size=3_000)])
        large = replace(submission, input={**submission.input, "size": 90_000})
        stranger = await DummyMediaGeneratorModel.submit(self, large)
        return Candidates((replace(stranger, external_id="a stranger's"),))


async def test_purchase_on_record_counts_and_not_what_a_look_up_found_meanwhile(client, db, working):
    await working(FindsAStranger(db))

    done = await client.until(await client.faulty())

    (attempt,) = await attempts_of(client, done)
    assert (done["status"], attempt["external_id"]) == ("COMPLETED", f"dummy-{attempt['id']}")
    assert done["files"][0]["bytes"] < 10_000


class RefusesPolls(DummyMediaGeneratorModel):
    """Answers the first polls like a gateway whose backend is being replaced."""

    def __init__(self, refusals):
        super().__init__()
        self.refusals = refusals
        self.bought = 0

    async def submit(self, submission):
        self.bought += 1
        return await super().submit(submission)

    async def poll(self, reference):
        if self.refusals:
            self.refusals -= 1
            raise ModelGoneError("default backend - 404")
        return await super().poll(reference)


async def test_refused_poll_does_not_end_a_purchase(client, working, monkeypatch):
    monkeypatch.setattr("app.media_generator.adapter_calls.REFUSED_POLL_INTERVAL", timedelta(seconds=0.1))
    provider = RefusesPolls(3)
    await working(provider, output_retry_seconds=60)

    done = await client.until(await client.faulty())

    assert (done["status"], provider.bought) == ("COMPLETED", 1)


async def test_retry_after_polls_were_refused_for_long_resumes_the_purchase(client, working, monkeypatch):
    monkeypatch.setattr("app.media_generator.adapter_calls.REFUSED_POLL_INTERVAL", timedelta(seconds=0.1))
    provider = RefusesPolls(10**6)
    await working(provider, output_retry_seconds=0.3)
    failed = await client.until(await client.faulty())

    provider.refusals = 0
    await client.api.post(f"/media/{failed['id']}/retry")
    done = await client.until(failed, "COMPLETED")

    assert (failed["status"], failed["error"]["code"]) == ("ERROR", "output_invalid")
    assert (done["status"], provider.bought) == ("COMPLETED", 1)


class LateAndMissingAtFirst(DummyMediaGeneratorModel):
    """Finishes when it is told to; its file is not found for a moment."""

    def __init__(self):
        super().__init__()
        self.finished_at = None

    async def cancel(self, reference):
        return CancelAnswer.REQUESTED

    async def poll(self, reference):
        return await super().poll(reference) if self.finished_at else Running()

    async def open(self, output):
        if time.monotonic() < self.finished_at + 2:
            raise MissingOutputError("403 for a moment")
        async for chunk in super().open(output):
            yield chunk


async def test_late_result_that_is_missing_at_first_is_fetched_again(client, db, working):
    provider = LateAndMissingAtFirst()
    await working(provider, output_retry_seconds=60)
    media = await client.generate(model="dummy/faulty", deadline_seconds=1)
    await client.until(media, "ERROR")
    await db.execute("UPDATE media SET completed_at = now() - interval '16 minutes'")
    provider.finished_at = time.monotonic()

    late = await eventually(lambda: client.media(media), lambda seen: seen["files"])

    assert late["status"] == "ERROR"
    assert [one["status"] for one in await attempts_of(client, late)] == ["SUCCEEDED"]

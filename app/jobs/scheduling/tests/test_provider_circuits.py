"""Circuit breakers: opened by a bad key, closed by a trial, never by an operator's pause."""

import asyncio
from datetime import timedelta

from app.core.ids import new_id
from app.jobs.scheduling import pauses, provider_circuits
from app.media_generator.dummy_media_generator.provider import DummyMediaGeneratorModel
from app.media_generator.errors import BusyError, CreditError, UnauthorizedError
from app.media_generator.registry import Registry
from app.runtime import open_runtime
from app.worker import build_runner
from tests.jobs import register_worker, request_media
from tests.support import claim, eventually

MINUTE = timedelta(minutes=1)


def ignore_batch(_moved):
    """For a pause or a resume: how many media a batch moved."""


class UnauthorizedProvider(DummyMediaGeneratorModel):
    """Accepts nothing until its key is good."""

    key_is_good = False

    async def submit(self, submission):
        if not self.key_is_good:
            raise UnauthorizedError("the key is not valid")
        return await super().submit(submission)


async def test_circuit_opens_on_a_bad_key_and_closes_once_the_key_is_good(client, settings, db, bell):
    provider = UnauthorizedProvider()
    first = await client.faulty()
    async with open_runtime(settings, Registry([provider])) as unauthorized:
        runner = bell.runner = build_runner(unauthorized)
        await runner.start()
        failed = await client.until(first)
        await eventually(lambda: provider_circuits.tripped(db))
        waiting = [await client.faulty() for _ in range(3)]
        seen = await eventually(lambda: client.media(waiting[-1]), lambda media: media["waiting_for"])
        ready = await client.api.get("/tools/ready")
        # Trials fail, and no job that waits loses its place.
        await eventually(lambda: db.fetch("SELECT 1 FROM media_history WHERE event = 'retry_scheduled'"))
        provider.key_is_good = True
        done = [await client.until(media) for media in waiting]
        tripped = await eventually(lambda: provider_circuits.tripped(db), lambda rows: rows == [])
        await runner.stop()

    assert (failed["status"], failed["error"]["code"]) == ("ERROR", "provider_unauthorized")
    assert (seen["status"], seen["waiting_for"]["code"]) == ("IN_QUEUE", "provider_unauthorized")
    assert ready.status_code == 200
    (check,) = [check for check in ready.json()["checks"] if check["name"] == "providers"]
    assert (check["ok"], "dummy" in check["detail"], "key" in check["detail"]) == (False, True, True)
    assert {media["status"] for media in done} == {"COMPLETED"}
    assert tripped == []


async def test_operator_pause_survives_trials_and_bad_keys(db):
    await provider_circuits.trip(db, "dummy", CreditError("no credit"), pause=MINUTE)
    await pauses.pause(db, "dummy", "by hand", ignore_batch)

    await provider_circuits.reset(db, "dummy")
    first = await provider_circuits.trip(db, "dummy", CreditError("no credit"), pause=timedelta(0))

    (tripped,) = await provider_circuits.tripped(db)
    assert (tripped.code, tripped.message, first) == ("paused", "by hand", False)
    assert await pauses.resume(db, "dummy", ignore_batch)
    assert await provider_circuits.tripped(db) == []


async def test_resume_does_not_close_a_circuit_opened_by_a_bad_key(db):
    await provider_circuits.trip(db, "dummy", CreditError("no credit"), pause=MINUTE)

    assert not await pauses.resume(db, "dummy", ignore_batch)
    assert [tripped.code for tripped in await provider_circuits.tripped(db)] == ["provider_credit"]


class SlowlyUnauthorizedProvider(DummyMediaGeneratorModel):
    async def submit(self, submission):
        await asyncio.sleep(0.2)
        raise UnauthorizedError("the key is not valid")


async def test_bad_key_fails_one_job_and_the_others_wait(client, db, working):
    media = [await client.faulty() for _ in range(30)]
    await working(SlowlyUnauthorizedProvider(), provider_pause_seconds=60)
    await eventually(lambda: db.fetch("SELECT 1 FROM attempts WHERE status = 'FAILED'"), lambda rows: len(rows) == 30)

    statuses = [(await client.media(one))["status"] for one in media]

    assert sorted(statuses) == ["ERROR", *["IN_QUEUE"] * 29]


class BadKeyThenBusy(DummyMediaGeneratorModel):
    calls = 0

    async def submit(self, submission):
        self.calls += 1
        if self.calls <= 7:
            raise UnauthorizedError("the key is not valid")
        if self.calls == 8:
            raise BusyError("busy")
        return await super().submit(submission)


async def test_failed_trials_do_not_count_as_attempts_of_the_job(client, working):
    await working(BadKeyThenBusy(), provider_pause_seconds=0.2)
    await client.until(await client.faulty())

    done = await client.until(await client.faulty())

    assert done["status"] == "COMPLETED"


async def test_trial_is_made_by_one_of_many_workers(db):
    worker_ids = [await register_worker(db) for _ in range(8)]
    for _ in range(30):
        await request_media(db, new_id())
    await provider_circuits.trip(db, "dummy", CreditError("no credit"), pause=timedelta(0))

    claims = await asyncio.gather(*(claim(db, "network", worker_id=worker_id, limit=20) for worker_id in worker_ids))

    assert sum(len(rows) for rows in claims) == 1

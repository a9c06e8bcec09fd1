"""The runner: it stops without losing a purchase, and survives errors of the database and bugs."""

import asyncio
import threading
from dataclasses import replace
from datetime import timedelta

import asyncpg

from app.jobs.worker import runner as runners
from app.media_generator.dummy_media_generator.provider import DummyMediaGeneratorModel
from app.media_generator.registry import Registry
from app.runtime import open_runtime
from app.worker import build_runner
from tests.jobs import attempt_rows
from tests.support import eventually


def with_settings(runtime, **changes):
    return replace(runtime, settings=runtime.settings.model_copy(update=changes))


async def test_stopping_runner_returns_its_jobs_and_the_next_resumes_them(client, runtime, db, bell):
    first = bell.runner = build_runner(runtime)
    await first.start()
    requested = [await client.faulty(delay=1) for _ in range(5)]
    for media in requested:
        await client.until(media, "PROCESSING")
    await eventually(lambda: db.fetch("SELECT 1 FROM attempts WHERE status = 'SUBMITTED'"), lambda rows: len(rows) == 5)

    await first.stop()

    assert {(await client.media(media))["status"] for media in requested} == {"IN_QUEUE"}
    second = build_runner(runtime)
    await second.start()
    done = [await client.until(media) for media in requested]
    await second.stop()
    assert {(media["status"], media["number_of_tries"]) for media in done} == {("COMPLETED", 1)}


async def test_claim_whose_answer_was_lost_is_returned(client, runtime, db, bell):
    runner = bell.runner = build_runner(with_settings(runtime, lease_seconds=1))
    await runner.start()
    await eventually(lambda: db.fetch("SELECT 1 FROM workers WHERE id = $1", runner.worker_id))
    bell.runner = None
    media = await client.faulty()
    await db.execute(
        "UPDATE media SET status = 'PROCESSING', worker_id = $2, fence = fence + 1 WHERE id = $1",
        media["id"],
        runner.worker_id,
    )

    done = await client.until(media)
    await runner.stop()

    assert done["status"] == "COMPLETED"


async def test_runner_holds_many_jobs_without_a_thread_each(client, runtime, bell):
    # Before there is a worker: one claim takes them all, however long the requests take.
    requested = [await client.faulty(delay=4) for _ in range(200)]
    before = threading.active_count()
    runner = bell.runner = build_runner(runtime)
    await runner.start()
    try:
        await eventually(lambda: asyncio.sleep(0, runner.in_flight), lambda count: count == 200)

        assert threading.active_count() <= before + 4
        assert {(await client.until(media))["status"] for media in requested} == {"COMPLETED"}
    finally:
        await runner.stop()


class SlowToAccept(DummyMediaGeneratorModel):
    """Takes a second to accept a submission."""

    capabilities = replace(DummyMediaGeneratorModel.capabilities, submit_timeout=timedelta(seconds=10))

    async def submit(self, submission):
        await asyncio.sleep(1)
        return await super().submit(submission)


async def test_stop_waits_for_submit_and_records_the_purchase(client, settings, db, bell):
    async with open_runtime(settings, Registry([SlowToAccept()])) as slow:
        runner = bell.runner = build_runner(slow)
        await runner.start()
        media = await client.faulty()
        await eventually(lambda: db.fetch("SELECT 1 FROM attempts WHERE status = 'INTENDED'"))

        await runner.stop()

    assert (await client.media(media))["status"] == "IN_QUEUE"
    ((_, status, _, external_id, _),) = await attempt_rows(db, media)
    assert status == "SUBMITTED"
    assert external_id.startswith("dummy-")


async def test_runner_survives_a_read_only_database(client, settings, db, runtime, bell):
    runner = bell.runner = build_runner(with_settings(runtime, lease_seconds=1))
    await runner.start()
    name = settings.database_dsn.rpartition("/")[2]
    admin = await asyncpg.connect(settings.database_dsn.rpartition("/")[0] + "/postgres")
    terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1"
    await admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    await admin.execute(terminate, name)
    await asyncio.sleep(2)
    refused = await client.api.post("/media/generate", json={"prompt": "x"})
    await admin.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    await admin.execute(terminate, name)
    await admin.close()

    async def request():
        return await client.api.post("/media/generate", json={"prompt": "x", "model": "dummy/faulty"})

    answer = await eventually(request, lambda answer: answer.status_code == 202)
    done = await client.until(answer.json())
    await runner.stop()

    assert (refused.status_code, refused.json()["code"]) == (503, "database_unavailable")
    assert done["status"] == "COMPLETED"


async def test_runner_survives_unexpected_errors_of_a_claim(client, runtime, bell, monkeypatch):
    real, errors = runners.claim, iter([ValueError("once"), ValueError("twice")])

    async def failing_claim(*args, **more):
        for error in errors:
            raise error
        return await real(*args, **more)

    monkeypatch.setattr(runners, "claim", failing_claim)
    runner = bell.runner = build_runner(runtime)
    await runner.start()

    done = await client.until(await client.faulty())
    await runner.stop()

    assert done["status"] == "COMPLETED"


async def test_runner_loop_that_ends_is_noticed(runtime):
    runner = build_runner(runtime)
    await runner.start()
    watching = asyncio.create_task(runner.watch())
    await asyncio.sleep(0.1)
    assert not watching.done()

    runner._loops[1].cancel()

    await asyncio.wait_for(watching, 5)
    await runner.stop()


async def test_a_job_in_hand_that_nobody_works_on_is_found_and_given_back(client, working, db):
    runner = await working(DummyMediaGeneratorModel(), lease_seconds=0.6)
    media = await client.faulty(delay=0.5)
    await client.until(media, "PROCESSING")
    slots = runner._queues["network"]
    ((lease, (job, task)),) = slots.jobs.items()
    await eventually(lambda: attempt_rows(db, media), lambda rows: rows and rows[0][1] == "SUBMITTED")
    task.cancel()
    await asyncio.wait([task])
    slots.jobs[lease] = job, task

    done = await client.until(media)

    assert (done["status"], done["number_of_tries"]) == ("COMPLETED", 1)
    assert await db.fetch("SELECT FROM tallies WHERE name = 'jobs_broken' AND count = 1")


class Panic(BaseException):
    """As libraries in Rust raise it: no Exception."""


class Panicking(DummyMediaGeneratorModel):
    async def poll(self, reference):
        raise Panic("called `Result::unwrap()` on an `Err` value")


async def test_a_panic_of_a_library_is_counted_and_ends_the_job(client, working, db):
    await working(Panicking(), max_takeovers=1)

    done = await client.until(await client.faulty())

    assert (done["status"], done["error"]["code"]) == ("ERROR", "job_broken")

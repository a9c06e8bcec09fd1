"""The runner on real engines: what becomes of jobs when things fail, stop, or disappear."""

import asyncio
import threading
from dataclasses import replace
from datetime import timedelta

import asyncpg
import pytest

from app.auth.principal import DEFAULT_OWNER_ID
from app.core.ids import new_id
from app.jobs.execution.job import Job
from app.jobs.transitions import release
from app.jobs.transitions.attempt import Intent, intend
from app.jobs.worker import leases
from app.jobs.worker import runner as runners
from app.media_generator.dummy_media_generator.provider import DummyMediaGeneratorModel
from app.media_generator.registry import Registry
from app.runtime import open_runtime
from app.worker import build_runner
from tests.support import claim, eventually


async def attempts_of(db, media):
    rows = await db.fetch(
        """SELECT number, status, sent, external_id, error->>'code' AS code FROM attempts
        WHERE media_id = $1 ORDER BY number""",
        media["id"],
    )
    return [tuple(row) for row in rows]


async def test_what_never_reached_the_provider_is_tried_again(product, db):
    done = await product.until(await product.faulty(fail_times=2, fail_with="unreachable"))

    assert (done["status"], done["number_of_tries"], done["error"]) == ("COMPLETED", 3, None)
    assert [(status, sent) for _, status, sent, _, _ in await attempts_of(db, done)] == [
        ("FAILED", "NO"),
        ("FAILED", "NO"),
        ("SUCCEEDED", None),
    ]


async def test_after_the_last_try_the_media_ends_with_the_reason(product, settings):
    done = await product.until(await product.faulty(fail_times=100, fail_with="busy"))

    assert (done["status"], done["number_of_tries"]) == ("ERROR", settings.max_tries)
    assert done["error"] == {"code": "provider_busy", "message": "simulated failure, as the input requests"}
    assert done["completed_at"] is not None


@pytest.mark.parametrize(
    ("error", "code", "sent"),
    [
        ("input_refused", "input_refused", "NO"),
        ("unauthorized", "provider_unauthorized", "NO"),
        ("credit", "provider_credit", "NO"),
        ("model_gone", "model_gone", "NO"),
        ("generation_failed", "generation_failed", "YES"),
        ("output_gone", "output_invalid", "YES"),
    ],
)
async def test_what_would_fail_again_or_was_paid_is_not_tried_again(product, db, error, code, sent):
    done = await product.until(await product.faulty(fail_times=1, fail_with=error))

    assert (done["status"], done["number_of_tries"], done["error"]["code"]) == ("ERROR", 1, code)
    ((_, status, said, _, why),) = await attempts_of(db, done)
    assert (status, said, why) == ("FAILED", sent, code)


async def test_a_lost_answer_that_the_provider_finds_is_not_bought_again(product, db):
    done = await product.until(await product.faulty(lose_answer="taken"))

    assert (done["status"], done["number_of_tries"]) == ("COMPLETED", 1)
    assert len(await attempts_of(db, done)) == 1


async def test_a_lost_answer_that_the_provider_never_got_is_tried_again(product, db):
    done = await product.until(await product.faulty(lose_answer="not_taken"))

    assert (done["status"], done["number_of_tries"]) == ("COMPLETED", 2)
    assert [(status, sent) for _, status, sent, _, _ in await attempts_of(db, done)] == [
        ("FAILED", "NO"),
        ("SUCCEEDED", None),
    ]


async def test_an_outcome_that_nobody_knows_is_held_and_never_bought_again(product, db):
    done = await product.until(await product.faulty(lose_answer="unknown"))

    assert (done["status"], done["error"]["code"], done["number_of_tries"]) == ("ERROR", "outcome_unknown", 1)
    ((_, status, sent, _, _),) = await attempts_of(db, done)
    assert (status, sent) == ("UNKNOWN", "UNKNOWN")


@pytest.mark.parametrize(("wrong", "says"), [("text", "no picture"), ("truncated", "cut off")])
async def test_bytes_that_are_no_whole_picture_are_not_completed(product, wrong, says):
    done = await product.until(await product.faulty(wrong_bytes=wrong))

    assert (done["status"], done["error"]["code"], done["files"]) == ("ERROR", "output_invalid", [])
    assert says in done["error"]["message"]


async def test_progress_is_shown_while_the_provider_works(product):
    asked = await product.faulty(delay=3)

    seen = await eventually(lambda: product.media(asked), lambda media: media["progress"])

    assert 0 < seen["progress"] < 1
    assert seen["status"] == "PROCESSING"


async def test_large_results_are_stored_whole(product):
    done = await product.until(await product.faulty(size=20_000_000))

    assert done["status"] == "COMPLETED"
    assert done["files"][0]["bytes"] > 19_000_000


async def test_a_stopping_runner_hands_its_jobs_to_the_next_one_which_buys_nothing_again(client, runtime, db, bell):
    first = bell.runner = build_runner(runtime)
    await first.start()
    asked = [await client.faulty(delay=1) for _ in range(5)]
    for media in asked:
        await client.until(media, "PROCESSING")
    await eventually(lambda: db.fetch("SELECT 1 FROM attempts WHERE status = 'SUBMITTED'"), lambda rows: len(rows) == 5)

    await first.stop()

    assert {(await client.media(media))["status"] for media in asked} == {"IN_QUEUE"}
    second = build_runner(runtime)
    await second.start()
    done = [await client.until(media) for media in asked]
    await second.stop()
    assert {(media["status"], media["number_of_tries"]) for media in done} == {("COMPLETED", 1)}


async def test_the_jobs_of_a_dead_worker_are_taken_over(client, settings, db, runtime, bell):
    dead = new_id()
    await leases.register(db, dead, "dead")
    asked = await client.faulty()
    await claim(db, "network", worker_id=dead, limit=1)
    await db.execute("UPDATE workers SET seen_at = now() - interval '1 hour' WHERE id = $1", dead)
    quick = build_runner(_with(runtime, lease_seconds=1))

    await quick.start()
    done = await client.until(asked)
    await quick.stop()

    assert done["status"] == "COMPLETED"
    assert await db.fetch("SELECT 1 FROM workers WHERE id = $1", dead) == []


async def test_after_an_outage_nobody_is_declared_dead_before_everybody_could_report(db):
    me, other = new_id(), new_id()
    for worker_id in (me, other):
        await leases.register(db, worker_id, "test")
    lease = timedelta(seconds=30)
    await db.execute("UPDATE workers SET seen_at = now() - interval '5 min', steady_since = now() - interval '1 h'")

    assert await leases.heartbeat(db, me, lease=lease)
    assert await leases.remove_expired(db, me, lease=lease) == []

    await db.execute("UPDATE workers SET steady_since = now() - interval '31 s' WHERE id = $1", me)
    assert await leases.remove_expired(db, me, lease=lease) == ["test"]


async def test_a_worker_that_was_silent_itself_buries_nobody_before_it_has_reported_again(db):
    me, other = new_id(), new_id()
    for worker_id in (me, other):
        await leases.register(db, worker_id, "test")
    lease = timedelta(seconds=30)
    await db.execute("UPDATE workers SET seen_at = now() - interval '5 min', steady_since = now() - interval '1 h'")

    # A machine that stalled may go on with the sweep, and not with the heartbeat.
    assert await leases.remove_expired(db, me, lease=lease) == []
    assert await leases.heartbeat(db, me, lease=lease)


async def test_a_runner_that_was_declared_dead_drops_its_jobs_and_goes_on_under_a_new_name(client, runtime, db, bell):
    runner = bell.runner = build_runner(_with(runtime, lease_seconds=1))
    await runner.start()
    asked = await client.faulty(delay=1)
    await client.until(asked, "PROCESSING")
    before = runner.worker_id

    await db.execute("DELETE FROM workers")
    done = await client.until(asked)
    await runner.stop()

    assert runner.worker_id != before
    assert (done["status"], done["number_of_tries"]) == ("COMPLETED", 1)


async def test_a_claim_whose_answer_was_lost_comes_back(client, runtime, db, bell):
    runner = bell.runner = build_runner(_with(runtime, lease_seconds=1))
    await runner.start()
    await eventually(lambda: db.fetch("SELECT 1 FROM workers WHERE id = $1", runner.worker_id))
    bell.runner = None
    asked = await client.faulty()
    await db.execute(
        "UPDATE media SET status = 'PROCESSING', worker_id = $2, fence = fence + 1 WHERE id = $1",
        asked["id"],
        runner.worker_id,
    )

    done = await client.until(asked)
    await runner.stop()

    assert done["status"] == "COMPLETED"


async def test_an_intent_without_a_purchase_is_looked_up_before_anything_is_bought(client, runtime, db, bell):
    dead = new_id()
    await leases.register(db, dead, "dead")
    asked = await client.faulty(lose_answer="unknown")
    (row,) = await claim(db, "network", worker_id=dead, limit=1)
    job = Job.of(row)
    await intend.many(db, [Intent(job.lease, new_id(), "dummy/faulty", "1", "00")])
    await db.execute("DELETE FROM workers WHERE id = $1", dead)

    runner = bell.runner = build_runner(runtime)
    await runner.start()
    done = await client.until(asked)
    await runner.stop()

    assert (done["status"], done["error"]["code"], done["number_of_tries"]) == ("ERROR", "outcome_unknown", 1)


async def test_a_model_that_this_worker_lacks_ends_the_job_with_a_reason(product, db):
    await db.execute(
        """INSERT INTO media (id, job_id, owner_id, status, prompt, model, provider, input, metadata, queue)
        VALUES ($1, $2, $3, 'IN_QUEUE', 'p', 'gone/model', 'gone', '{}', '{}', 'network')""",
        media_id := new_id(),
        new_id(),
        DEFAULT_OWNER_ID,
    )

    done = await product.until({"id": media_id})

    assert (done["status"], done["error"]["code"]) == ("ERROR", "model_gone")
    assert "gone/model" in done["error"]["message"]


async def test_what_may_be_paid_waits_for_a_worker_that_has_the_model(client, db, runtime, settings, bell):
    asked = await client.faulty()
    dead = new_id()
    await leases.register(db, dead, "dead")
    (row,) = await claim(db, "network", worker_id=dead, limit=1)
    await intend.many(db, [Intent(Job.of(row).lease, new_id(), "dummy/faulty", "1", "00")])
    await db.execute("DELETE FROM workers")

    async with open_runtime(settings, Registry([])) as bare:
        runner = bell.runner = build_runner(bare)
        await runner.start()
        await eventually(lambda: db.fetch("SELECT 1 FROM media_history WHERE detail->>'reason' = 'model_missing_here'"))
        await runner.stop()

    ((_, status, *_),) = await attempts_of(db, asked)
    assert ((await client.media(asked))["status"], status) == ("IN_QUEUE", "INTENDED")


async def test_a_store_that_is_away_costs_time_and_no_second_purchase(client, settings, db, bell):
    away = settings.model_copy(update={"s3_endpoint_url": "http://127.0.0.1:9"})
    asked = await client.faulty()
    async with open_runtime(away) as broken:
        runner = bell.runner = build_runner(broken)
        await runner.start()
        await eventually(lambda: db.fetch("SELECT 1 FROM media_history WHERE event = 'returned'"))
        await runner.stop()
    assert (await client.media(asked))["status"] in {"IN_QUEUE", "PROCESSING"}

    async with open_runtime(settings) as whole:
        runner = bell.runner = build_runner(whole)
        await runner.start()
        done = await client.until(asked)
        await runner.stop()

    assert (done["status"], done["number_of_tries"]) == ("COMPLETED", 1)


async def test_many_jobs_wait_at_once_without_a_thread_each(client, runtime, bell):
    # Before there is a worker: one claim takes them all, however long it takes to ask for them.
    asked = [await client.faulty(delay=4) for _ in range(200)]
    before = threading.active_count()
    runner = bell.runner = build_runner(runtime)
    await runner.start()
    try:
        await eventually(lambda: asyncio.sleep(0, runner.in_flight), lambda count: count == 200)

        assert threading.active_count() <= before + 4
        assert {(await client.until(media))["status"] for media in asked} == {"COMPLETED"}
    finally:
        await runner.stop()


def _with(runtime, **changes):
    return replace(runtime, settings=runtime.settings.model_copy(update=changes))


class SlowDummy(DummyMediaGeneratorModel):
    """Takes a second to sell."""

    capabilities = replace(DummyMediaGeneratorModel.capabilities, submit_timeout=timedelta(seconds=10))

    async def submit(self, submission):
        await asyncio.sleep(1)
        return await super().submit(submission)


class BrokenDummy(DummyMediaGeneratorModel):
    """Its results cannot be opened, and it does not say why."""

    async def open(self, output):
        yield b"\x89PNG"
        raise KeyError("a defect of the plug-in")


async def test_a_stop_waits_for_the_call_that_spends_money_and_hands_the_purchase_over(client, settings, db, bell):
    async with open_runtime(settings, Registry([SlowDummy()])) as slow:
        runner = bell.runner = build_runner(slow)
        await runner.start()
        asked = await client.faulty()
        await eventually(lambda: db.fetch("SELECT 1 FROM attempts WHERE status = 'INTENDED'"))

        await runner.stop()

    assert (await client.media(asked))["status"] == "IN_QUEUE"
    ((_, status, _, external_id, _),) = await attempts_of(db, asked)
    assert status == "SUBMITTED"
    assert external_id.startswith("dummy-")


async def test_a_defect_of_a_plug_in_ends_the_job_with_a_reason(client, settings, bell):
    async with open_runtime(settings, Registry([BrokenDummy()])) as broken:
        runner = bell.runner = build_runner(broken)
        await runner.start()
        done = await client.until(await client.faulty())
        await runner.stop()

    assert (done["status"], done["error"]["code"]) == ("ERROR", "output_invalid")
    assert "KeyError" in done["error"]["message"]


async def test_what_is_handed_back_keeps_its_place_in_the_queue(client, db):
    worker_id = new_id()
    await leases.register(db, worker_id, "test")
    asked = [await client.faulty() for _ in range(3)]
    (row,) = await claim(db, "network", worker_id=worker_id, limit=1)

    await release.hand_back(db, [Job.of(row).lease], reason="test", delay=timedelta(0))
    (again,) = await claim(db, "network", worker_id=worker_id, limit=1)

    assert str(again["id"]) == str(row["id"]) == asked[0]["id"]


async def test_a_database_that_turns_read_only_for_a_while_stops_no_runner(client, settings, db, runtime, bell):
    runner = bell.runner = build_runner(_with(runtime, lease_seconds=1))
    await runner.start()
    name = settings.database_dsn.rpartition("/")[2]
    admin = await asyncpg.connect(settings.database_dsn.rpartition("/")[0] + "/postgres")
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1"
    await admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    await admin.execute(end, name)
    await asyncio.sleep(2)
    refused = await client.api.post("/media/generate", json={"prompt": "x"})
    await admin.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    await admin.execute(end, name)
    await admin.close()

    async def accepted():
        return await client.api.post("/media/generate", json={"prompt": "x", "model": "dummy/faulty"})

    answer = await eventually(accepted, lambda answer: answer.status_code == 202)
    done = await client.until(answer.json())
    await runner.stop()

    assert (refused.status_code, refused.json()["code"]) == (503, "database_unavailable")
    assert done["status"] == "COMPLETED"


async def test_a_defect_in_one_round_stops_no_runner(client, runtime, bell, monkeypatch):
    real, stumbles = runners.claim, iter([ValueError("once"), ValueError("twice")])

    async def stumbling(*args, **more):
        for error in stumbles:
            raise error
        return await real(*args, **more)

    monkeypatch.setattr(runners, "claim", stumbling)
    runner = bell.runner = build_runner(runtime)
    await runner.start()

    done = await client.until(await client.faulty())
    await runner.stop()

    assert done["status"] == "COMPLETED"


async def test_a_runner_that_ceases_to_work_is_noticed(runtime):
    runner = build_runner(runtime)
    await runner.start()
    watching = asyncio.create_task(runner.watch())
    await asyncio.sleep(0.1)
    assert not watching.done()

    runner._loops[1].cancel()

    await asyncio.wait_for(watching, 5)
    await runner.stop()

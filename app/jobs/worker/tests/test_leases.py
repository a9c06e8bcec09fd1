"""Leases: jobs of dead workers are taken over, and nobody is declared dead too soon."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import asyncpg

from app.jobs.transitions import claim as claim_transition
from app.jobs.worker import leases
from app.media_generator.dummy_media_generator.provider import DummyMediaGeneratorModel
from app.worker import build_runner
from tests.jobs import register_worker
from tests.support import claim


def with_settings(runtime, **changes):
    return replace(runtime, settings=runtime.settings.model_copy(update=changes))


async def test_heartbeat_continues_while_a_claim_waits_for_its_lock(client, db, settings, working):
    other = await asyncpg.connect(settings.database_dsn)
    async with other.transaction():
        await other.execute("SELECT pg_advisory_xact_lock($1)", claim_transition._CLAIM_LOCK)
        runner = await working(DummyMediaGeneratorModel(), provider_limits={"dummy": 5}, lease_seconds=3)
        media = await client.faulty()
        await asyncio.sleep(5)
        row = await db.fetchrow("SELECT now() - seen_at AS silent FROM workers WHERE id = $1", runner.worker_id)
    await other.close()

    done = await client.until(media)

    assert row["silent"] < timedelta(seconds=3)
    assert done["status"] == "COMPLETED"


async def test_jobs_of_a_dead_worker_are_taken_over(client, settings, db, runtime, bell):
    dead = await register_worker(db, "dead")
    media = await client.faulty()
    await claim(db, "network", worker_id=dead, limit=1)
    await db.execute("UPDATE workers SET seen_at = now() - interval '1 hour' WHERE id = $1", dead)
    runner = build_runner(with_settings(runtime, lease_seconds=1))

    await runner.start()
    done = await client.until(media)
    await runner.stop()

    assert done["status"] == "COMPLETED"
    assert await db.fetch("SELECT 1 FROM workers WHERE id = $1", dead) == []


async def test_no_worker_is_declared_dead_right_after_an_outage(db):
    me, _other = await register_worker(db, "me"), await register_worker(db, "other")
    lease = timedelta(seconds=30)
    await db.execute("UPDATE workers SET seen_at = now() - interval '5 min', steady_since = now() - interval '1 h'")

    assert await leases.heartbeat(db, me, lease=lease)
    assert await leases.remove_expired(db, me, lease=lease) == []

    await db.execute("UPDATE workers SET steady_since = now() - interval '31 s' WHERE id = $1", me)
    assert await leases.remove_expired(db, me, lease=lease) == ["other"]


async def test_worker_that_was_silent_itself_declares_no_other_dead(db):
    me, _other = await register_worker(db, "me"), await register_worker(db, "other")
    lease = timedelta(seconds=30)
    await db.execute("UPDATE workers SET seen_at = now() - interval '5 min', steady_since = now() - interval '1 h'")

    # After a stall of the machine the sweep may run before the heartbeat.
    assert await leases.remove_expired(db, me, lease=lease) == []
    assert await leases.heartbeat(db, me, lease=lease)


async def test_runner_declared_dead_drops_its_jobs_and_continues_under_a_new_id(client, runtime, db, bell):
    runner = bell.runner = build_runner(with_settings(runtime, lease_seconds=1))
    await runner.start()
    media = await client.faulty(delay=1)
    await client.until(media, "PROCESSING")
    before = runner.worker_id

    await db.execute("DELETE FROM workers")
    done = await client.until(media)
    await runner.stop()

    assert runner.worker_id != before
    assert (done["status"], done["number_of_tries"]) == ("COMPLETED", 1)

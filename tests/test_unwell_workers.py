"""A worker that gets nothing done ends itself; one whose clock is off says so and signs with the right time."""

import asyncio
import time
from contextlib import contextmanager
from datetime import timedelta

import httpx2
import pytest
from standardwebhooks.webhooks import Webhook

from app.core.config import Settings
from app.core.telemetry.metrics import Timed
from app.jobs.worker.watchdog import LONGEST_PAUSE, Watchdog
from app.media_generator.dummy_media_generator.provider import DummyMediaGeneratorModel
from tests.jobs import request_media
from tests.receiver import Receiver
from tests.support import Client, Forked, environment_of, eventually, on_server, served, worker
from tests.webhook_delivery import register

CELERY = ("celery", "-A", "app.tasks.celery", "worker", "-l", "INFO", "-n", "odd@%h")


@contextmanager
def odd_worker(settings: Settings, log, *program, **changes):
    with Forked(*program, environment=environment_of(settings, **changes), log=log) as running:
        yield running


async def checks_of(api):
    answer = (await api.get("/tools/ready")).json()
    return {check["name"]: check for check in answer["checks"]}


@pytest.fixture
async def client(settings, tmp_path):
    with served(settings, tmp_path / "api.log", ALLOW_PRIVATE_ADDRESSES="true") as address:
        async with httpx2.AsyncClient(base_url=address, timeout=30, trust_env=False) as api:
            client = Client(api)
            await eventually(client.answers)
            yield client


async def test_a_worker_that_gets_nothing_done_is_seen_ends_itself_and_its_jobs_go_on(client, settings, tmp_path):
    quick = {"STUCK_SECONDS": "1", "LEASE_SECONDS": "1", "CLAIM_INTERVAL_SECONDS": "0.1"}
    with odd_worker(settings, tmp_path / "odd.log", "tests.stuck_worker", *CELERY, **quick) as stuck:
        held = await client.faulty(delay=4)
        await client.until(held, "PROCESSING")
        waiting = await client.faulty()
        await eventually(lambda: asyncio.sleep(0, stuck.process.poll()), lambda status: status is not None)
        output = stuck.output
    seen = (await checks_of(client.api))["workers"]
    with worker(settings, tmp_path / "w.log", **quick):
        ended = [await client.until(one) for one in (held, waiting)]
        metrics = await eventually(
            lambda: client.api.get("/tools/metrics"), lambda page: "fleek_workers_stuck_total{" in page.text
        )

    assert '"worker_stuck"' in output
    assert (seen["ok"], "claims of network" in seen["detail"]) == (False, True)
    assert [one["status"] for one in ended] == ["COMPLETED", "COMPLETED"]
    assert 'what="claims of network"' in metrics.text


async def test_slow_providers_and_a_database_that_is_away_are_no_reason_to_end(settings, working, db):
    quick = {"worker_slots": 1, "stuck_seconds": 0.8, "lease_seconds": 0.4, "claim_interval_seconds": 0.1}
    runner = await working(DummyMediaGeneratorModel(), **quick)
    for _ in range(2):
        await request_media(db, input='{"hang": true}')
    watching = asyncio.create_task(runner.watch())
    name = settings.database_dsn.rpartition("/")[2]

    await asyncio.sleep(1.5)
    await on_server(settings, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    await on_server(settings, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    await asyncio.sleep(1.5)
    await on_server(settings, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    await asyncio.sleep(1)

    assert not watching.done()
    watching.cancel()


class Pool:
    failed_at = 0.0


@pytest.fixture
def watched(monkeypatch):
    """A watchdog, and a function that lets time pass for it while the worker reports."""
    now = [1000.0]
    monkeypatch.setattr("app.core.clock.seconds", lambda: now[0])
    monkeypatch.setattr(Timed, "ended_at", 0.0)
    pool = Pool()
    dog = Watchdog(pool, limit=timedelta(seconds=300), lease=timedelta(seconds=30))

    def passes(seconds, *, rounds=(), jobs=0, step=5.0):
        for _ in range(int(seconds / step)):
            now[0] += step
            for loop in rounds:
                dog.came_round(loop)
            if stuck := dog.reported(jobs=jobs):
                return stuck
        return []

    return dog, passes, now, pool


def test_what_stands_still_is_named(watched):
    dog, passes, *_ = watched
    dog.came_round("sweep")

    assert passes(290, rounds=["claims"]) == []
    assert passes(20, rounds=["claims"]) == ["sweep"]


def test_jobs_that_never_move_are_noticed_unless_a_provider_is_being_asked(watched, monkeypatch):
    _, passes, *_ = watched
    with monkeypatch.context() as patch:
        patch.setattr(Timed, "running", 1)
        assert passes(2 * LONGEST_PAUSE, rounds=["claims"], jobs=3) == []
    assert passes(2 * LONGEST_PAUSE, rounds=["claims"]) == []
    assert passes(2 * LONGEST_PAUSE, rounds=["claims"], jobs=3) == ["jobs"]


def test_what_has_an_explanation_raises_no_alarm(watched):
    dog, passes, now, pool = watched
    dog.came_round("claims")
    for _ in range(3):
        assert passes(200) == []
        pool.failed_at = now[0]  # a statement failed: the database is away, full or locked
    for _ in range(3):
        assert passes(200) == []
        now[0] += 100  # the machine slept, or the process was stopped


async def test_a_worker_whose_clock_is_off_says_so_and_signs_rightly(client, settings, tmp_path):
    async with Receiver() as receiver:
        webhook = await register(client, receiver.url, events=["media.completed"])
        program = ("tests.shifted_clock", "-400", *CELERY)
        with odd_worker(settings, tmp_path / "odd.log", *program, ALLOW_PRIVATE_ADDRESSES="true") as odd:
            media = await client.until(await client.faulty())
            (got, *_) = await eventually(lambda: asyncio.sleep(0, receiver.got))
            seen = await eventually(lambda: checks_of(client.api), lambda checks: not checks["workers"]["ok"])

    assert media["status"] == "COMPLETED"
    assert abs(int(got.headers["webhook-timestamp"]) - time.time()) < 60
    assert Webhook(webhook["secret"]).verify(got.body, got.headers)
    assert '"clock_off"' in odd.output
    assert "400 s behind" in seen["workers"]["detail"]
    assert seen["clock"]["ok"]


async def test_a_worker_whose_signatures_s3_would_refuse_claims_nothing(client, settings, tmp_path, db):
    with odd_worker(settings, tmp_path / "odd.log", "tests.shifted_clock", "3600", *CELERY):
        seen = await eventually(lambda: checks_of(client.api), lambda checks: not checks["workers"]["ok"])
        media = await client.faulty()
        await asyncio.sleep(1)
        status = (await client.media(media))["status"]
        with worker(settings, tmp_path / "w.log"):
            done = await client.until(media)

    assert "3600 s ahead" in seen["workers"]["detail"]
    assert (status, done["status"]) == ("IN_QUEUE", "COMPLETED")

"""`GET /tools/metrics`: what is counted where, and that counts of several processes add up."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.core.database.pool import UNAVAILABLE, DatabasePool
from app.core.ids import new_id
from app.core.telemetry import metrics
from app.core.telemetry.metrics import Counter
from app.embedded.engines import VALKEY, Engines
from app.jobs.metrics import counters
from app.jobs.metrics.reporter import MetricsReporter
from app.jobs.scheduling import provider_circuits
from app.jobs.worker import leases
from app.main import create_app
from app.media_generator.dummy_media_generator.provider import DummyMediaGeneratorModel
from app.media_generator.errors import UnauthorizedError
from app.media_generator.media_generator_model import Succeeded
from app.tools import metrics as page
from app.tools.exposition import Family, Sample, text
from app.tools.families import families_of
from app.webhooks.delivery_queries import Outcome
from app.worker import build_runner
from tests.support import PUBLIC_URL, Client, claim, eventually, make_settings, worker


@pytest.fixture(autouse=True)
def fresh_metrics(monkeypatch):
    """No counts are left from earlier tests, and every scrape reads again."""
    dict(metrics.take_all())
    monkeypatch.setattr(page, "CACHE_SECONDS", 0)
    monkeypatch.setattr(page, "REST_PER_READ", 0)


def samples(text):
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def numbers(client):
    answer = await client.api.get("/tools/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return samples(answer.text)


async def numbers_after_flush(client, db):
    """The metrics, including what this process has counted so far."""
    await counters.add_all(db, dict(metrics.take_all()))
    # Counts that a reporter has just taken are still being written.
    await asyncio.sleep(0.3)
    return await numbers(client)


async def test_queued_and_running_jobs_are_counted_by_model(client, db):
    worker_id = new_id()
    await leases.register(db, worker_id, "test")
    for _ in range(3):
        await client.faulty()
    await client.generate()
    await claim(db, "network", worker_id=worker_id, limit=1)
    await db.execute("UPDATE media SET next_run = now() - interval '90 s' WHERE status = 'IN_QUEUE'")

    seen = await numbers(client)

    assert (seen["fleek_queue_depth", "dummy/faulty"], seen["fleek_queue_depth", "dummy/painter"]) == (2, 1)
    assert (seen["fleek_running", "dummy/faulty"], seen["fleek_running", "dummy/painter"]) == (1, 0)
    assert 90 <= seen["fleek_queue_oldest_seconds", "dummy/faulty"] < 120
    assert (seen["fleek_workers",], seen["fleek_database_up",]) == (1, 1)


async def test_unknown_attempts_and_unavailable_providers_are_counted(product, db):
    await product.until(await product.faulty(lose_answer="unknown"))
    await provider_circuits.trip(db, "acme", UnauthorizedError("bad key"), pause=timedelta(hours=1))

    seen = await numbers(product)

    assert seen["fleek_attempts_unknown",] == 1
    assert seen["fleek_provider_unavailable", "provider_unauthorized", "acme"] == 1
    assert seen["fleek_leases_expired_total",] == 0


async def test_dead_worker_is_counted(client, db, runtime, bell):
    dead = new_id()
    await leases.register(db, dead, "dead")
    media = await client.faulty()
    await claim(db, "network", worker_id=dead, limit=1)
    await db.execute("UPDATE workers SET seen_at = now() - interval '1 hour'")
    quick = runtime.settings.model_copy(update={"lease_seconds": 1})
    runner = bell.runner = build_runner(type(runtime)(**{**fields(runtime), "settings": quick}))
    await runner.start()
    await client.until(media)
    await runner.stop()

    seen = await numbers(client)

    assert seen["fleek_leases_expired_total",] == 1
    assert seen["fleek_sweep_found_total", "taken_over"] == 1


def fields(runtime):
    return {name: getattr(runtime, name) for name in runtime.__slots__}


async def test_expired_media_are_counted(product):
    media = await product.generate(model="dummy/faulty", input={"hang": True}, deadline_seconds=0.1)
    await product.until(media)

    await eventually(lambda: numbers(product), lambda seen: seen["fleek_sweep_found_total", "expired"] == 1)


async def test_requests_are_counted_by_route_template(client, db):
    media = await client.faulty()
    for _ in range(3):
        await client.api.get(f"/media/status/{media['job_id']}")
        await client.api.get(f"/media/{media['id']}/history")
    await client.api.head(f"/media/status/{media['job_id']}")
    await client.api.get(f"/media/status/{media['job_id']}", headers={"Prefer": "wait=1"})
    await client.api.get(f"/media/status/{new_id()}")
    for _ in range(5):
        await client.api.get(f"/nothing/{new_id()}")
    await client.api.request("BREW", "/media")

    seen = await numbers_after_flush(client, db)

    # Labels in the order of their names: method, route, status, wait.
    count = "fleek_http_request_duration_seconds_count"
    assert {key[1:]: value for key, value in seen.items() if key[0] == count} == {
        ("POST", "/media/generate", "2xx", "no"): 1,
        ("GET", "/media/status/{job_id}", "2xx", "no"): 3,
        ("GET", "/media/status/{job_id}", "2xx", "yes"): 1,
        ("GET", "/media/status/{job_id}", "4xx", "no"): 1,
        ("HEAD", "/media/status/{job_id}", "2xx", "no"): 1,
        ("GET", "/media/{media_id}/history", "2xx", "no"): 3,
        ("GET", "none", "4xx", "no"): 5,
        ("other", "/media", "4xx", "no"): 1,
    }


async def test_pending_webhook_deliveries_are_counted(client, db):
    paused, active = new_id(), new_id()
    for endpoint, status in ((paused, "paused"), (active, "active")):
        await db.execute(
            """INSERT INTO webhook_endpoints (id, owner_id, url, events, secret, status)
            VALUES ($1, $1, 'x', '{}', 's', $2)""",
            endpoint,
            status,
        )
    for endpoint, due in ((paused, timedelta(hours=-1)), (active, timedelta(minutes=-5)), (active, timedelta(hours=1))):
        await db.execute(
            """INSERT INTO webhook_deliveries (endpoint_id, receiver, type, sequence, next_at)
            VALUES ($1, 'r', 'media.completed', 1, now() + $2::interval)""",
            endpoint,
            due,
        )

    seen = await numbers(client)

    assert seen["fleek_webhook_deliveries_pending", "active"] == 2
    assert seen["fleek_webhook_deliveries_pending", "paused"] == 1
    assert 300 <= seen["fleek_webhook_oldest_due_seconds",] < 360
    assert [seen["fleek_webhook_endpoints", status] for status in ("active", "paused", "disabled")] == [1, 1, 0]


def test_webhook_outcome_label_has_few_values():
    outcome = Outcome(*(None,) * 12)

    assert outcome.word == "ok"
    assert replace(outcome, status_code=503, error="503").word == "5xx"
    assert replace(outcome, error="no answer").word == "unanswered"


class PricedDummy(DummyMediaGeneratorModel):
    async def poll(self, reference):
        outcome = await super().poll(reference)
        return replace(outcome, cost=Decimal("0.25")) if isinstance(outcome, Succeeded) else outcome


async def test_attempts_are_counted_with_outcome_cost_duration_and_bytes(client, working, db):
    await working(PricedDummy())
    painted = await client.until(await client.faulty(size=5000))
    await client.until(await client.faulty(fail_times=1, fail_with="input_refused"))
    await client.until(await client.faulty(lose_answer="unknown"))
    running = await client.until(await client.faulty(hang=True), "PROCESSING")
    await client.api.post(f"/media/{running['id']}/cancel")
    await client.until(running)

    seen = await numbers_after_flush(client, db)

    attempts = {key[1:]: value for key, value in seen.items() if key[0] == "fleek_attempts_total"}
    assert attempts == {
        ("", "SUCCEEDED", "dummy"): 1,
        ("input_refused", "FAILED", "dummy"): 1,
        ("outcome_unknown", "UNKNOWN", "dummy"): 1,
        ("", "CANCELED", "dummy"): 1,
    }
    assert seen["fleek_cost_dollars_total", "dummy/faulty", "dummy"] == 0.25
    assert seen["fleek_stored_bytes_total", "dummy"] == painted["files"][0]["bytes"]
    assert seen["fleek_media_duration_seconds_count", "dummy/faulty", "dummy"] == 1
    assert seen["fleek_store_call_duration_seconds_count", "put", "ok"] == 1
    calls = "fleek_provider_call_duration_seconds_count"
    assert seen[calls, "submit", "ok", "dummy"] == 2
    assert seen[calls, "submit", "input_refused", "dummy"] == 1
    assert seen[calls, "cancel", "ok", "dummy"] == 1


async def test_counts_of_several_processes_add_up(settings, db, client, tmp_path):
    """Two workers in processes of their own; this process's API answers for them."""
    with worker(settings, tmp_path / "w1.log", "w1"), worker(settings, tmp_path / "w2.log", "w2"):
        await eventually(lambda: numbers(client), lambda seen: seen["fleek_workers",] == 2)
        for media in [await client.faulty() for _ in range(20)]:
            await client.until(media)
    seen = await numbers(client)

    assert seen["fleek_attempts_total", "", "SUCCEEDED", "dummy"] == 20
    assert seen["fleek_event_loop_lag_seconds_count", "worker"] >= 1


async def test_counts_survive_a_database_outage(settings, db, runtime):
    measured = Counter("fleek_outage", "Of this test.")
    reporter = MetricsReporter("api", runtime.db, runtime.changes)
    before, runtime.db._dsn = runtime.db._dsn, "postgresql://nobody@127.0.0.1:9/none"
    await runtime.db.close()
    measured.add(number=3)
    reporter._pending.update(measured.take())

    with pytest.raises(UNAVAILABLE):
        await reporter.flush()
    runtime.db._dsn = before
    await reporter.flush()
    await reporter.flush()

    assert (await counters.read(db))['["fleek_outage",""]'] == 3


async def test_lost_wake_up_signals_and_change_messages_are_counted(database, tmp_path):
    with Engines(tmp_path / "broker", only=[VALKEY], durable=False) as engines:
        settings = make_settings(engines, database_url=database)
        app = create_app(settings)
        transport = httpx2.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx2.AsyncClient(transport=transport, base_url=PUBLIC_URL) as api,
        ):
            client = Client(api)
            engines.valkey.stop()
            await client.faulty()

            def lost(seen):
                names = ("broker_publish_failures", "change_publish_failures", "change_channel_down_seconds")
                return all(seen[f"fleek_{name}_total",] > 0 for name in names)

            await eventually(lambda: numbers_after_flush(client, app.state.runtime.db), lost)


def test_counts_of_other_versions_are_ignored():
    kept = {
        '["fleek_gone","x",""]': 4,
        '["fleek_attempts","label missing",""]': 5,
        '["fleek_event_loop_lag_seconds","api","0.003"]': 2,
        '["fleek_event_loop_lag_seconds","api","0.005"]': 1,
        "leases_expired": 3,
        "something_else": 1,
    }
    found = samples(text(families_of(kept)).decode())

    assert found["fleek_leases_expired_total",] == 3
    assert found["fleek_event_loop_lag_seconds_bucket", "0.0025", "api"] == 0
    assert found["fleek_event_loop_lag_seconds_bucket", "0.005", "api"] == 3
    assert found["fleek_event_loop_lag_seconds_count", "api"] == 3
    assert found["fleek_broker_publish_failures_total",] == 0
    assert not [key for key in found if key[0].startswith(("fleek_gone", "fleek_attempts"))]


def test_any_label_value_is_escaped():
    value = 'a "b" \\ \n { } = , é'

    page = text([Family("fleek_x", "gauge", "Of this test.", ("what",), [Sample((value,), 0.5)])])

    assert samples(page.decode()) == {("fleek_x", value): 0.5}


async def test_concurrent_scrapes_share_one_read(monkeypatch, settings):
    monkeypatch.setattr(page, "CACHE_SECONDS", 60)
    reads = []

    class Counting(DatabasePool):
        async def fetch_as(self, row_type, query, *values):
            reads.append(query)
            return await super().fetch_as(row_type, query, *values)

    counting = Counting(settings.database_dsn, size=2)
    shown = page.MetricsPage(counting)

    await asyncio.gather(*(shown.read() for _ in range(50)))
    first = len(reads)
    await shown.read()
    await counting.close()

    assert first == len(reads) == len(set(reads)) > 0


async def test_without_a_database_only_database_up_is_reported(settings, bell):
    nowhere = settings.model_copy(update={"database_url": None, "postgres_server": "127.0.0.1", "postgres_port": 9})
    app = create_app(nowhere, bell)
    transport = httpx2.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url=PUBLIC_URL) as api:
        answer = await api.get("/tools/metrics")

    assert answer.status_code == 200
    assert samples(answer.text) == {("fleek_database_up",): 0}

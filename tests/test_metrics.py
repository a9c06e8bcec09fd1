"""The numbers that an operator watches, in Prometheus' text format."""

from datetime import timedelta

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from app.core.ids import new_id
from app.engine import build_runner
from app.main import create_app
from app.media import gates, workers
from app.media_generator.errors import UnauthorizedError
from tests.support import claim, eventually


async def numbers(client):
    answer = await client.api.get("/tools/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def test_queue_and_work_are_counted_by_model(client, hot):
    worker_id = new_id()
    await workers.register(hot, worker_id, "test")
    for _ in range(3):
        await client.faulty()
    await client.generate()
    await claim(hot, "network", worker_id=worker_id, limit=1)
    await hot.execute("UPDATE media SET next_run = now() - interval '90 s' WHERE status = 'IN_QUEUE'")

    seen = await numbers(client)

    assert (seen["fleek_queue_depth", "dummy/faulty"], seen["fleek_queue_depth", "dummy/painter"]) == (2, 1)
    assert (seen["fleek_running", "dummy/faulty"], seen["fleek_running", "dummy/painter"]) == (1, 0)
    assert 90 <= seen["fleek_queue_oldest_seconds", "dummy/faulty"] < 120
    assert (seen["fleek_workers",], seen["fleek_database_up",]) == (1, 1)


async def test_what_goes_wrong_is_counted(product, hot):
    await product.until(await product.faulty(lose_answer="unknown"))
    await gates.close(hot, "acme", UnauthorizedError("bad key"), pause=timedelta(hours=1))

    seen = await numbers(product)

    assert seen["fleek_attempts_unknown",] == 1
    assert seen["fleek_provider_closed", "provider_unauthorized", "acme"] == 1
    assert seen["fleek_leases_expired_total",] == 0


async def test_a_dead_worker_is_counted(client, hot, runtime, bell):
    dead = new_id()
    await workers.register(hot, dead, "dead")
    media = await client.faulty()
    await claim(hot, "network", worker_id=dead, limit=1)
    await hot.execute("UPDATE workers SET seen_at = now() - interval '1 hour'")
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


async def test_lost_bells_are_counted(client, bell):
    bell.failures = 3

    assert (await numbers(client))["fleek_broker_publish_failures_total",] == 3


async def test_without_a_database_it_says_so(settings, bell):

    nowhere = settings.model_copy(update={"database_url": None, "postgres_server": "127.0.0.1", "postgres_port": 9})
    app = create_app(nowhere, bell)
    transport = httpx2.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url="http://t") as api:
        answer = await api.get("/tools/metrics")

    assert answer.status_code == 200
    assert "fleek_database_up 0.0" in answer.text

"""The product with RabbitMQ as its broker, and Redis only for change messages and caches; Redis: test_bell."""

import asyncio
import time

import httpx2
import pytest
from amqp.exceptions import PreconditionFailed
from kombu import Connection, Queue

from tests.support import Client, eventually, make_settings, served, worker
from tests.system_servers import RabbitMQ

NETWORK = "fleek.bell.network"
ONLY_BY_BELL = {"CLAIM_INTERVAL_SECONDS": "60"}
"""A worker that polls this rarely finds jobs in time only if a signal wakes it."""


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with RabbitMQ(tmp_path_factory.mktemp("rabbitmq")) as running:
        yield running


@pytest.fixture
def on_rabbitmq(broker, engines, database):
    """Settings whose broker has no messages of an earlier test."""
    yield make_settings(engines, database_url=database, broker_url=broker.url)
    with Connection(broker.url) as connection:
        for name in (NETWORK, "fleek.bell.local", "fleek"):
            connection.default_channel.queue_purge(name)


@pytest.fixture
async def client(on_rabbitmq, tmp_path):
    with served(on_rabbitmq, tmp_path / "api.log") as address:
        async with httpx2.AsyncClient(base_url=address, timeout=30, trust_env=False) as api:
            client = Client(api)
            await eventually(client.answers)
            yield client


async def round_trip(client):
    """The API's answer once a worker has replied through the broker."""
    return await eventually(lambda: client.api.get("/tools/celery_status"), lambda answer: answer.status_code == 200)


def waiting(broker):
    """Signals in the broker that no worker has consumed."""
    with Connection(broker.url) as connection:
        return connection.default_channel.queue_declare(NETWORK, passive=True).message_count


async def test_worker_is_woken_through_rabbitmq_and_replies(client, on_rabbitmq, tmp_path):
    with worker(on_rabbitmq, tmp_path / "worker.log", **ONLY_BY_BELL) as running:
        trip = await eventually(
            lambda: client.api.get("/tools/celery_status"), lambda answer: answer.status_code == 200
        )
        for _ in range(3):
            assert (await client.until(await client.faulty()))["status"] == "COMPLETED"
        ready = (await client.api.get("/tools/ready")).json()
        # longer than the connection's time-outs: an idle connection is no failure
        await asyncio.sleep(6)
        assert (await client.until(await client.faulty()))["status"] == "COMPLETED"

    assert trip.json()["status"] == "ok"
    assert {check["name"]: check["detail"] for check in ready["checks"]}["broker"] == "RabbitMQ and Redis answer"
    assert "Connection to broker lost" not in running.output


async def test_unread_signals_do_not_pile_up_in_rabbitmq(client, broker):
    started = time.monotonic()
    while time.monotonic() - started < 3:
        await asyncio.gather(*(client.faulty() for _ in range(20)))

    assert 1 <= waiting(broker) <= 8 + 60


async def test_every_queue_is_a_quorum_queue(client, broker):
    await client.faulty()
    await eventually(lambda: asyncio.to_thread(waiting, broker))

    with Connection(broker.url) as connection, pytest.raises(PreconditionFailed, match="quorum"):
        Queue(NETWORK, channel=connection.default_channel, queue_arguments={"x-queue-type": "classic"}).declare()


async def test_jobs_complete_while_rabbitmq_is_down_and_signals_resume(client, broker, on_rabbitmq, tmp_path):
    with worker(on_rabbitmq, tmp_path / "worker.log", CLAIM_INTERVAL_SECONDS="0.5"):
        assert (await client.until(await client.faulty()))["status"] == "COMPLETED"
        broker.kill()
        async with asyncio.timeout(10):
            requested = [await client.faulty() for _ in range(20)]
        done = [await client.until(media) for media in requested]
        unready = await client.api.get("/tools/ready")
    # a worker started while RabbitMQ is down works as well
    with worker(on_rabbitmq, tmp_path / "second.log", "w2", CLAIM_INTERVAL_SECONDS="0.5"):
        assert (await client.until(await client.faulty()))["status"] == "COMPLETED"
        broker.forget()
        broker.start()
        await round_trip(client)
    await client.faulty()

    assert {media["status"] for media in done} == {"COMPLETED"}
    assert "RabbitMQ does not answer" in unready.json()["detail"]
    assert await eventually(lambda: asyncio.to_thread(waiting, broker))

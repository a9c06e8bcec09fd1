"""The product with RabbitMQ as its broker, and Redis only for news and caches. The bell on Redis: test_bell."""

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
"""A worker that looks for jobs so seldom finds them in time only if it is rung for."""


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
        async with httpx2.AsyncClient(base_url=address, timeout=30) as api:
            client = Client(api)
            await eventually(client.answers)
            yield client


async def round_trip(client):
    """What the API says once a worker has answered it through the broker."""
    return await eventually(lambda: client.api.get("/tools/celery_status"), lambda answer: answer.status_code == 200)


def waiting(broker):
    """Bells in the broker that nobody has heard."""
    with Connection(broker.url) as connection:
        return connection.default_channel.queue_declare(NETWORK, passive=True).message_count


async def test_a_worker_hears_the_bell_and_answers(client, on_rabbitmq, tmp_path):
    with worker(on_rabbitmq, tmp_path / "worker.log", **ONLY_BY_BELL) as running:
        trip = await eventually(
            lambda: client.api.get("/tools/celery_status"), lambda answer: answer.status_code == 200
        )
        for _ in range(3):
            assert (await client.until(await client.faulty()))["status"] == "COMPLETED"
        ready = (await client.api.get("/tools/ready")).json()
        # longer than the time-outs of its connection: silence is no failure
        await asyncio.sleep(6)
        assert (await client.until(await client.faulty()))["status"] == "COMPLETED"

    assert trip.json()["status"] == "ok"
    assert {check["name"]: check["detail"] for check in ready["checks"]}["broker"] == "RabbitMQ and Redis answer"
    assert "Connection to broker lost" not in running.output


async def test_rings_that_nobody_hears_do_not_pile_up_in_rabbitmq(client, broker):
    begun = time.monotonic()
    while time.monotonic() - begun < 3:
        await asyncio.gather(*(client.faulty() for _ in range(20)))

    assert 1 <= waiting(broker) <= 8 + 60


async def test_every_queue_lives_on_several_nodes(client, broker):
    await client.faulty()
    await eventually(lambda: asyncio.to_thread(waiting, broker))

    with Connection(broker.url) as connection, pytest.raises(PreconditionFailed, match="quorum"):
        Queue(NETWORK, channel=connection.default_channel, queue_arguments={"x-queue-type": "classic"}).declare()


async def test_a_dead_rabbitmq_holds_up_nobody_and_is_heard_again(client, broker, on_rabbitmq, tmp_path):
    with worker(on_rabbitmq, tmp_path / "worker.log", CLAIM_INTERVAL_SECONDS="0.5"):
        assert (await client.until(await client.faulty()))["status"] == "COMPLETED"
        broker.kill()
        async with asyncio.timeout(10):
            asked = [await client.faulty() for _ in range(20)]
        done = [await client.until(media) for media in asked]
        unready = await client.api.get("/tools/ready")
    # started while it is away, this one works all the same
    with worker(on_rabbitmq, tmp_path / "second.log", "w2", CLAIM_INTERVAL_SECONDS="0.5"):
        assert (await client.until(await client.faulty()))["status"] == "COMPLETED"
        broker.forget()
        broker.start()
        await round_trip(client)
    await client.faulty()

    assert {media["status"] for media in done} == {"COMPLETED"}
    assert "RabbitMQ does not answer" in unready.json()["detail"]
    assert await eventually(lambda: asyncio.to_thread(waiting, broker))

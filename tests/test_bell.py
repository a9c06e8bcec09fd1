"""The bell on a real broker: coalesced, bounded, and never in anybody's way."""

import asyncio
import os
import signal
import time

import httpx2
import pytest
import redis

from app.embedded.engines import VALKEY, Engines
from tests.support import Client, eventually, make_settings, served

NETWORK = "fleek.bell.network"


@pytest.fixture
def broker(tmp_path):
    """A Valkey of the test's own, to stop and to freeze."""
    with Engines(tmp_path / "broker", only=[VALKEY], durable=False) as engines:
        yield engines.valkey


@pytest.fixture
async def api_on(broker, engines, database, tmp_path):
    settings = make_settings(engines, database_url=database, redis_url=broker.url)
    with served(settings, tmp_path / "api.log") as address:
        async with httpx2.AsyncClient(base_url=address, timeout=30) as api:

            async def ready():
                try:
                    return (await api.get("/tools/status")).status_code == 200
                except httpx2.TransportError:
                    return False

            await eventually(ready)
            yield Client(api)


async def test_rings_that_nobody_hears_do_not_pile_up(api_on, broker):
    begun = time.monotonic()
    while time.monotonic() - begun < 3:
        await asyncio.gather(*(api_on.faulty() for _ in range(20)))

    with redis.Redis.from_url(broker.url) as client:
        waiting = client.llen(NETWORK)
    # A look each second at most, and fifty rings a second between two looks.
    assert 1 <= waiting <= 8 + 60


async def test_a_frozen_broker_holds_up_no_request(api_on, broker):
    await api_on.faulty()
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(10):
            asked = [await api_on.faulty() for _ in range(50)]
    finally:
        os.kill(broker.pid, signal.SIGCONT)

    assert {(await api_on.media(media))["status"] for media in asked} == {"IN_QUEUE"}


async def test_a_broker_that_comes_back_is_rung_again(api_on, broker):
    await api_on.faulty()
    broker.stop()
    await api_on.faulty()
    broker.start()

    async def heard():
        await api_on.faulty()
        with redis.Redis.from_url(broker.url) as client:
            return client.llen(NETWORK)

    assert await eventually(heard)

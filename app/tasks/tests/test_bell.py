"""Wake-up signals on a real broker: coalesced, bounded, and no request waits for them."""

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
        async with httpx2.AsyncClient(base_url=address, timeout=30, trust_env=False) as api:

            async def ready():
                try:
                    return (await api.get("/tools/status")).status_code == 200
                except httpx2.TransportError:
                    return False

            await eventually(ready)
            yield Client(api)


async def test_unread_signals_do_not_pile_up(api_on, broker):
    started = time.monotonic()
    while time.monotonic() - started < 3:
        await asyncio.gather(*(api_on.faulty() for _ in range(20)))

    with redis.Redis.from_url(broker.url) as client:
        waiting = client.llen(NETWORK)
    # The backlog is checked once a second, and at most fifty signals are sent between two checks.
    assert 1 <= waiting <= 8 + 60


async def test_frozen_broker_delays_no_request(api_on, broker):
    await api_on.faulty()
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(10):
            requested = [await api_on.faulty() for _ in range(50)]
    finally:
        os.kill(broker.pid, signal.SIGCONT)

    assert {(await api_on.media(media))["status"] for media in requested} == {"IN_QUEUE"}


async def test_signals_resume_when_the_broker_is_back(api_on, broker):
    await api_on.faulty()
    broker.stop()
    await api_on.faulty()
    broker.start()

    async def signal_arrives():
        await api_on.faulty()
        with redis.Redis.from_url(broker.url) as client:
            return client.llen(NETWORK)

    assert await eventually(signal_arrives)

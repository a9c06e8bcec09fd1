"""Signed URLs: cached and shared by processes until a fifth of their lifetime is left."""

import asyncio
import time

import pytest
import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from app.storage.s3 import S3Store
from app.storage.signing import SignedUrls
from tests.support import make_settings


@pytest.fixture
async def shared(base_settings):
    client = redis.Redis.from_url(base_settings.redis_url.get_secret_value())
    await client.flushdb()
    yield client
    await client.aclose()


async def test_urls_are_signed_for_the_public_address(engines):
    settings = make_settings(engines, s3_public_url="https://media.example.com")
    shared = redis.Redis.from_url(settings.redis_url.get_secret_value())

    signed = await SignedUrls(S3Store(settings), shared, settings).sign("place", "media/x/0.png")
    await shared.aclose()

    assert signed.url.startswith("https://media.example.com/fleek-test/media/x/0.png?")


async def test_processes_share_signed_urls(base_settings, shared):
    store = S3Store(base_settings)
    first = await SignedUrls(store, shared, base_settings).sign("place", "media/same.png")
    await asyncio.sleep(1.1)

    second = await SignedUrls(store, shared, base_settings).sign("place", "media/same.png")

    assert first.url == second.url
    assert abs((first.expires_at - second.expires_at).total_seconds()) <= 1


async def test_url_is_replaced_when_a_fifth_of_its_lifetime_is_left(engines, shared, monkeypatch):
    settings = make_settings(engines, signed_url_seconds=100)
    urls = SignedUrls(S3Store(settings), shared, settings)
    signed = await urls.sign("place", "media/x.png")
    now = time.time()

    assert urls.cached("place") == signed
    assert 78 < signed.fresh_until - now < 81
    assert 98 < signed.expires_at.timestamp() - now < 101
    assert await shared.ttl((await shared.keys("fleek:url:*"))[0]) <= 80
    monkeypatch.setattr(time, "time", lambda: now + 81)
    assert urls.cached("place") is None


async def test_cached_urls_are_separate_for_each_public_address(engines, shared):
    here, there = make_settings(engines), make_settings(engines, s3_public_url="https://media.example.com")
    await SignedUrls(S3Store(here), shared, here).sign("place", "media/x.png")

    signed = await SignedUrls(S3Store(there), shared, there).sign("place", "media/x.png")

    assert signed.url.startswith("https://media.example.com/")


async def test_urls_are_signed_without_redis(base_settings):
    nowhere = redis.Redis.from_url("redis://127.0.0.1:9/0", socket_connect_timeout=0.2)

    signed = await SignedUrls(S3Store(base_settings), nowhere, base_settings).sign("place", "media/x.png")
    await nowhere.aclose()

    assert "X-Amz-Signature" in signed.url


async def test_concurrently_signed_urls_are_shared_one_by_one(base_settings, shared):
    store, keys = S3Store(base_settings), [f"media/{number}.png" for number in range(40)]
    mine = SignedUrls(store, shared, base_settings)
    first = await asyncio.gather(*(mine.sign(key, key) for key in keys))
    await asyncio.sleep(1.1)

    theirs = SignedUrls(store, shared, base_settings)
    second = await asyncio.gather(*(theirs.sign(key, key) for key in keys))

    assert [signed.url for signed in second] == [signed.url for signed in first]
    assert all(key in signed.url for key, signed in zip(keys, first, strict=True))


async def test_hanging_redis_is_waited_for_once(base_settings):
    connections = list[asyncio.StreamWriter]()
    async with await asyncio.start_server(lambda _reader, writer: connections.append(writer), "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        client = redis.Redis(host="127.0.0.1", port=port, socket_timeout=0.3, retry=Retry(NoBackoff(), 0))
        urls = SignedUrls(S3Store(base_settings), client, base_settings)

        signed = await asyncio.gather(*(urls.sign(str(number), f"media/{number}.png") for number in range(3)))
        await client.aclose()
        for writer in connections:
            writer.close()

    assert all("X-Amz-Signature" in url.url for url in signed)
    assert len(connections) == 1

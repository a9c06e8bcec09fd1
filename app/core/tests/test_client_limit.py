"""What one client may ask in a minute: counted for all processes, by its address as the server has it."""

import httpx2
import pytest
import redis.asyncio as redis
from starlette.requests import Request

from app.core.http_server.client_limit import SECONDS, ClientLimit, TooManyRequestsError, client_of
from app.core.ids import new_id
from app.main import create_app
from tests.support import PUBLIC_URL


def request_from(host):
    return Request({"type": "http", "client": None if host is None else (host, 1), "headers": []})


@pytest.fixture
async def shared(settings):
    cache = redis.Redis.from_url(settings.redis_url.get_secret_value())
    yield cache
    await cache.aclose()


async def refused(limit, host):
    try:
        await limit.count(request_from(host))
    except TooManyRequestsError as error:
        return error
    return None


async def test_client_is_refused_beyond_its_limit_and_others_are_not(shared):
    name = str(new_id())
    here, there = ClientLimit(shared, name, 2), ClientLimit(shared, name, 2)

    first = [await refused(one, "192.0.2.1") for one in (here, there)]
    error = await refused(here, "192.0.2.1")

    assert first == [None, None]
    assert 1 <= int(error.headers["Retry-After"]) <= SECONDS
    assert await refused(there, "192.0.2.2") is None
    assert 0 < await shared.ttl(f"fleek:limit:{name}:192.0.2.1") <= SECONDS


async def test_nobody_is_refused_without_a_limit_or_while_redis_is_away(shared):
    gone = redis.Redis.from_url("redis://127.0.0.1:1", socket_connect_timeout=0.5)

    assert [await refused(ClientLimit(shared, str(new_id()), 0), "192.0.2.1") for _ in range(3)] == [None] * 3
    assert [await refused(ClientLimit(gone, "x", 1), "192.0.2.1") for _ in range(3)] == [None] * 3
    await gone.aclose()


@pytest.mark.parametrize(
    ("host", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        (None, "unknown"),
    ],
)
def test_client_is_its_address_or_its_network(host, client):
    assert client_of(request_from(host)) == client


async def test_checks_of_one_client_are_limited_before_its_file_is_read(settings, bell):
    app = create_app(settings.model_copy(update={"provenance_checks_per_minute": 1}), bell)
    address = (f"198.51.100.{new_id().int % 250}", 1)
    transport = httpx2.ASGITransport(app, client=address)
    async with app.router.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url=PUBLIC_URL) as api:
        first, second = [await api.post("/provenance/check", content=b"x") for _ in range(2)]

    assert (first.status_code, second.status_code) == (200, 429)
    assert (second.json()["code"], "Retry-After" in second.headers) == ("too_many_requests", True)

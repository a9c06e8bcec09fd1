"""Dead, slow, moved and misbehaving receivers: no other receiver suffers, and no event is lost."""

import asyncio
import contextlib
from uuid import uuid4

import asyncpg
import pytest

from app.auth.principal import DEFAULT_OWNER_ID
from app.core.http_client.client import HttpClient
from app.runtime import open_runtime
from app.webhooks import delivery_queries
from app.worker import build_deliverer
from tests.receiver import Receiver, answering, hanging
from tests.support import eventually, make_settings

SECRET = "whsec_" + "A" * 43 + "="


@pytest.fixture
def settings(engines, database):
    return make_settings(engines, database_url=database, allow_private_addresses=True)


@contextlib.asynccontextmanager
async def running_deliverer(settings):
    """A deliverer without a runner, and its connections."""
    outgoing = HttpClient(allow_private_addresses=True)
    async with open_runtime(settings, outgoing=outgoing) as runtime:
        deliverer = build_deliverer(runtime, outgoing)
        await deliverer.start()
        try:
            yield deliverer, runtime.db
        finally:
            await deliverer.stop()


@contextlib.asynccontextmanager
async def delivering_to(settings):
    async with running_deliverer(settings) as (deliverer, _):
        yield deliverer


@pytest.fixture
async def deliverer(settings):
    async with delivering_to(settings) as opened:
        yield opened


@pytest.fixture
async def receiver():
    async with Receiver() as opened:
        yield opened


async def endpoint(db, url, kind="registered"):
    made = uuid4()
    await db.execute(
        """INSERT INTO webhook_endpoints (id, owner_id, kind, url, events, secret)
        VALUES ($1, $2, $3, $4, '{media.completed}', $5)""",
        *(made, DEFAULT_OWNER_ID, kind, url, SECRET),
    )
    return made


async def add_deliveries(db, endpoint_id, count=1, *, url=None, hosts=1, due="0 s", tries=0):
    """Pending deliveries of an endpoint; for the kind `request`, spread over `hosts` receivers."""
    await db.execute(
        """INSERT INTO webhook_deliveries
            (endpoint_id, receiver, url, type, media_id, sequence, payload, next_at, tries)
        SELECT $1::uuid, CASE WHEN $2::text IS NULL THEN $1::uuid::text ELSE 'owner:' || $2 || n % $4 END, $2,
            'media.completed', gen_random_uuid(), n, '{"n":' || n || '}', now() + $5::text::interval, $6
        FROM generate_series(1, $3::int) n""",
        *(endpoint_id, url, count, hosts, due, tries),
    )


@contextlib.asynccontextmanager
async def locked(settings, table):
    """While the table is locked against writes."""
    connection = await asyncpg.connect(settings.database_dsn)
    try:
        async with connection.transaction():
            await connection.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE")
            yield
    finally:
        await connection.close()


async def statuses(db):
    rows = await db.fetch("SELECT status, count(*) FROM webhook_deliveries GROUP BY status")
    return {row["status"]: row["count"] for row in rows}


@pytest.mark.parametrize(
    "given",
    [
        *("9" * 5000, "-5", "soon", "", "1e9", "٣", "Mon, 01 Jan 2030 00:00:00 +99999999999999999999"),
        *("Mon, 99 Jan 2030 00:00:00 GMT", "Mon, 01 Jan 0001 00:00:00 +2359", "0"),
    ],
)
async def test_attempt_is_recorded_whatever_retry_after_says(db, deliverer, receiver, given):
    receiver.answer = answering(503, **{"retry-after": given})
    await add_deliveries(db, await endpoint(db, receiver.url))
    deliverer.wake()

    (one,) = await eventually(lambda: db.fetch("SELECT * FROM webhook_tries"))
    assert one["error"].startswith("answered 503") or "HTTP" in one["error"]


async def test_hanging_receivers_leave_slots_for_healthy_one(db, deliverer, receiver):
    answer_now = asyncio.Event()
    async with Receiver(hanging(answer_now)) as slow:
        # Eight times as many as a receiver gets at once, for 300 receivers whose names all come first.
        await add_deliveries(db, await endpoint(db, None, "request"), 2_400, url=slow.url, hosts=300)
        deliverer.wake()
        await eventually(lambda: asyncio.sleep(0, len(slow.got)), lambda count: count > 400)
        await add_deliveries(db, await endpoint(db, receiver.url))
        deliverer.wake()
        await eventually(lambda: asyncio.sleep(0, receiver.got))
        assert slow.at_once == len(slow.got)
        answer_now.set()


async def test_dead_receiver_with_long_backlog_gets_few_attempts(db, deliverer, receiver):
    await receiver.close()
    await add_deliveries(db, await endpoint(db, receiver.url), 2_000)
    deliverer.wake()
    await eventually(lambda: db.fetch("SELECT id FROM webhook_tries"), lambda rows: len(rows) >= 8)
    await asyncio.sleep(1.5)

    assert len(await db.fetch("SELECT id FROM webhook_tries")) <= 20
    assert (await statuses(db))["pending"] == 2_000


async def test_answer_of_previous_url_does_not_count_for_new_url(db, deliverer, receiver):
    moved = asyncio.Event()

    async def gone_later(_got):
        await moved.wait()
        return await answering(410)(_got)

    async with Receiver(gone_later) as before:
        endpoint_id = await endpoint(db, before.url)
        await add_deliveries(db, endpoint_id, 3)
        deliverer.wake()
        await eventually(lambda: asyncio.sleep(0, len(before.got) == 3))
        await db.execute("UPDATE webhook_endpoints SET url = $1", receiver.url)
        moved.set()
        await eventually(lambda: db.fetch("SELECT id FROM webhook_tries"), lambda rows: len(rows) == 3)
        await db.execute("UPDATE webhook_deliveries SET next_at = now()")
        deliverer.wake()
        await eventually(lambda: statuses(db), lambda seen: seen == {"delivered": 3})

    (row,) = await db.fetch("SELECT status, failing_since FROM webhook_endpoints")
    assert (row["status"], row["failing_since"]) == ("active", None)


async def test_retry_after_of_receiver_of_requests_is_obeyed(db, deliverer, receiver):
    receiver.answer = answering(429, **{"retry-after": "3600"})
    of_requests = await endpoint(db, None, "request")
    await add_deliveries(db, of_requests, url=receiver.url)
    deliverer.wake()
    await eventually(lambda: asyncio.sleep(0, receiver.got and not deliverer.in_flight))
    await add_deliveries(db, of_requests, 20, url=receiver.url)
    deliverer.wake()
    await asyncio.sleep(0.7)

    assert len(receiver.got) == 1


async def test_claims_are_returned_when_receiver_asks_to_wait_meanwhile(settings, db, receiver):
    receiver.answer = answering(429, **{"retry-after": "3600"})
    of_requests = await endpoint(db, None, "request")
    alone = settings.model_copy(update={"database_connections": 1})
    async with running_deliverer(alone) as (deliverer, pool), Receiver() as healthy:
        async with locked(settings, "webhook_tries"):
            await add_deliveries(db, of_requests, url=receiver.url)
            deliverer.wake()
            # The answer has arrived, and cannot be recorded.
            await eventually(lambda: db.fetch("SELECT FROM pg_locks WHERE NOT granted"))
            await add_deliveries(db, of_requests, 20, url=receiver.url)
            waits = pool.waits
            deliverer.wake()
            # The next claim was started before that is recorded, and still waits for a connection.
            await eventually(lambda: asyncio.sleep(0, pool.waits > waits))
        await add_deliveries(db, await endpoint(db, healthy.url))
        await eventually(lambda: asyncio.sleep(0, healthy.got))
        await eventually(
            lambda: db.fetch("SELECT FROM webhook_deliveries WHERE status = 'pending' AND tries > 0"),
            lambda rows: len(rows) == 1,
        )

    assert len(receiver.got) == 1


async def test_success_of_test_event_does_not_expedite_missed_deliveries(db, deliverer, receiver):
    endpoint_id = await endpoint(db, receiver.url)
    await db.execute("UPDATE webhook_endpoints SET failing_since = now() - interval '1 day'")
    await add_deliveries(db, endpoint_id, 5, due="3 hours", tries=7)
    await db.execute(
        """INSERT INTO webhook_deliveries (endpoint_id, receiver, type, sequence, payload)
        VALUES ($1, $2, 'webhook.test', 0, '{}')""",
        *(endpoint_id, delivery_queries.receiver_of_tests(endpoint_id)),
    )
    deliverer.wake()
    await eventually(lambda: statuses(db), lambda seen: seen.get("delivered") == 1)
    await add_deliveries(db, endpoint_id)
    deliverer.wake()

    # A success of an ordinary delivery makes what was missed due.
    await eventually(lambda: statuses(db), lambda seen: seen == {"delivered": 7})


async def test_worker_started_after_outage_delivers_what_was_missed(settings, db, receiver):
    of_requests = await endpoint(db, None, "request")
    await add_deliveries(db, of_requests, 5, url=receiver.url, due="3 hours", tries=7)
    async with delivering_to(settings) as deliverer:
        await add_deliveries(db, of_requests, url=receiver.url)
        deliverer.wake()
        await eventually(lambda: statuses(db), lambda seen: seen == {"delivered": 6})


@pytest.mark.parametrize(("status", "end"), [("disabled", "failed"), ("paused", "pending")])
async def test_failure_in_flight_follows_status_of_endpoint(db, deliverer, receiver, status, end):
    changed = asyncio.Event()

    async def refuse_later(got):
        await changed.wait()
        return await answering(500)(got)

    receiver.answer = refuse_later
    await add_deliveries(db, await endpoint(db, receiver.url), 3)
    await db.execute("UPDATE webhook_deliveries SET give_up_at = now()")
    deliverer.wake()
    await eventually(lambda: asyncio.sleep(0, len(receiver.got) == 3))
    await db.execute("UPDATE webhook_endpoints SET status = $1", status)
    changed.set()
    await eventually(lambda: db.fetch("SELECT id FROM webhook_tries"), lambda rows: len(rows) == 3)

    assert await statuses(db) == {end: 3}


async def test_pending_deliveries_outlive_the_log_retention(db):
    endpoint_id = await endpoint(db, "http://127.0.0.1:9/")
    await add_deliveries(db, endpoint_id, 3)
    await db.execute("UPDATE webhook_deliveries SET created_at = now() - interval '60 days'")
    await db.execute("UPDATE webhook_deliveries SET status = 'delivered' WHERE sequence > 1")

    await delivery_queries.delete_old(db, delivery_queries.RETRY_WINDOW)

    assert await statuses(db) == {"pending": 1}

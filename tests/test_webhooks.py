"""Webhooks arrive: signed, under one id, at least once, whatever the receiver or we go through."""

import asyncio
import os
import re
import signal
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

import httpx2
import pytest
from standardwebhooks import Webhook

from app.auth.principal import DEFAULT_OWNER_ID
from app.core.http_client.client import HttpClient
from app.core.telemetry.metrics import WEBHOOK_ATTEMPTS, counter_key
from app.jobs.metrics import counters
from app.jobs.transitions import cancellation
from app.runtime import open_runtime
from app.webhooks import http_request
from app.webhooks.delivery import Deliverer
from app.worker import build_deliverer, build_runner, change_publisher
from tests.receiver import Receiver, answering, dropping, hanging
from tests.support import Client, eventually, make_settings, served, worker

ALL = ["media.queued", "media.started", "media.retry", "media.completed", "media.failed", "media.canceled"]


@pytest.fixture
def settings(engines, database):
    return make_settings(engines, database_url=database, allow_private_addresses=True)


@asynccontextmanager
async def at_work(settings, bell=None):
    """A worker in this process: its runner and its deliverer."""
    outgoing = HttpClient(allow_private_addresses=settings.allow_private_addresses)
    async with open_runtime(settings, outgoing=outgoing) as runtime:
        runner, deliverer = build_runner(runtime), build_deliverer(runtime, outgoing)
        runtime.db.on_change = change_publisher(runtime, deliverer)
        if bell is not None:
            bell.runner, bell.deliverer = runner, deliverer
        await deliverer.start()
        await runner.start()
        try:
            yield deliverer
        finally:
            await asyncio.gather(runner.stop(), deliverer.stop())


@pytest.fixture
async def delivering(settings, bell):
    async with at_work(settings, bell) as deliverer:
        yield deliverer


@pytest.fixture
async def receiver():
    async with Receiver() as opened:
        yield opened


async def register(client, url, **more):
    answer = await client.api.post("/webhooks", json={"url": url, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def webhook_of(client, webhook):
    return (await client.api.get(f"/webhooks/{webhook['id']}")).json()


async def deliveries_of(client, webhook, **wanted):
    items = (await client.api.get(f"/webhooks/{webhook['id']}/deliveries", params={"limit": 100, **wanted})).json()[
        "items"
    ]
    return sorted(items, key=lambda item: item["sequence"])


async def pass_time(db, span, deliverer):
    """As if so much time had gone by since everything that was written down, or is remembered."""
    for circuit in deliverer._circuits._failing.values():
        circuit.since -= span.total_seconds()
        circuit.rest_until -= span.total_seconds()
    await db.execute(
        """UPDATE webhook_deliveries SET next_at = next_at - $1::interval, give_up_at = give_up_at - $1::interval,
            at = at - $1::interval, created_at = created_at - $1::interval""",
        span,
    )
    await db.execute(
        """UPDATE webhook_endpoints SET failing_since = failing_since - $1::interval,
            not_before = not_before - $1::interval""",
        span,
    )


async def tried(client, webhook, count):
    """Once so many tries of one delivery have come to an end."""
    one = (await eventually(lambda: deliveries_of(client, webhook)))[0]
    path = f"/webhooks/{webhook['id']}/deliveries/{one['id']}"

    async def look():
        return (await client.api.get(path)).json()

    return await eventually(look, lambda delivery: len(delivery["log"]) >= count)


async def test_a_registered_endpoint_hears_of_the_end_signed_and_with_the_media(client, delivering, receiver):
    webhook = await register(client, receiver.url)
    media = await client.until(await client.faulty())
    await eventually(lambda: asyncio.sleep(0, receiver.got))

    got = receiver.got[0]
    payload = Webhook(webhook["secret"]).verify(got.body, got.headers)
    assert (payload["type"], payload["data"]["status"]) == ("media.completed", "COMPLETED")
    assert payload["data"]["id"] == media["id"]
    assert payload["data"]["files"] == media["files"]
    assert got.headers["content-type"] == "application/json"
    assert delivering.in_flight == 0 or len(receiver.got) == 1


async def test_every_event_comes_in_an_order_that_its_sequence_tells(client, delivering, receiver):
    await register(client, receiver.url, events=ALL)
    media = await client.faulty(fail_times=1, fail_with="busy", retry_after=0.1)
    await client.until(media)
    await eventually(lambda: asyncio.sleep(0, receiver.got), lambda got: len(got) == 5)

    told = sorted((got.payload["sequence"], got.payload["type"]) for got in receiver.got)
    assert [kind.partition(".")[2] for _, kind in told] == ["queued", "started", "retry", "started", "completed"]
    assert len({got.id for got in receiver.got}) == 5
    assert isinstance(delivering, Deliverer)


async def test_a_request_has_a_receiver_of_its_own(client, delivering, receiver):
    url = f"{receiver.url}?order=17"
    media = await client.generate(
        model="dummy/faulty", webhook_url=url, webhook_events=["media.started", "media.completed"]
    )
    await client.until(media)
    await eventually(lambda: asyncio.sleep(0, receiver.got), lambda got: len(got) == 2)

    assert sorted(receiver.types()) == ["media.completed", "media.started"]
    assert {got.path for got in receiver.got} == {"/hook?order=17"}
    own = next(item for item in (await client.api.get("/webhooks")).json()["items"] if item["kind"] == "request")
    secret = (await client.api.post(f"/webhooks/{own['id']}/rotate", json={})).json()["secret"]
    receiver.got.clear()
    await client.generate(model="dummy/faulty", webhook_url=url)
    await eventually(lambda: asyncio.sleep(0, receiver.got))
    # The one before signs as well for a day, so both are there.
    assert len(receiver.got[0].headers["webhook-signature"].split()) == 2
    assert Webhook(secret).verify(receiver.got[0].body, receiver.got[0].headers)
    assert delivering.in_flight <= 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (answering(500, "out of order"), "answered 500"),
        (answering(301, location="http://127.0.0.1:1/"), "redirects are not followed"),
        (answering(307, location="http://127.0.0.1:1/"), "redirects are not followed"),
        (dropping, "connection"),
        (None, "connect"),
    ],
    ids=["500", "301", "307", "dropped", "down"],
)
async def test_a_failure_is_logged_and_the_event_comes_when_the_receiver_is_well(
    client, db, delivering, receiver, answer, said
):
    WEBHOOK_ATTEMPTS.take()
    webhook = await register(client, receiver.url)
    if answer is None:
        await receiver.close()
    else:
        receiver.answer = answer
    await client.faulty()
    delivery = await tried(client, webhook, 1)
    assert (delivery["status"], said in delivery["log"][0]["error"]) == ("pending", True), delivery

    receiver.answer = answering(204)
    await receiver.close()
    await receiver.open()
    await pass_time(db, timedelta(minutes=1), delivering)
    await eventually(lambda: deliveries_of(client, webhook, status="delivered"))
    delivery = await tried(client, webhook, 2)

    assert delivery["log"][0]["status_code"] == 204
    assert {got.id for got in receiver.got} == {delivery["id"]}
    assert len({got.body for got in receiver.got}) == 1
    await eventually(lambda: asyncio.sleep(0, delivering.in_flight), lambda number: number == 0)
    await counters.add_all(db, WEBHOOK_ATTEMPTS.take())
    await asyncio.sleep(0.3)  # what a pulse has taken just before is on its way into the database
    counted = await counters.read(db)
    outcome = {"answered 500": "5xx", "redirects are not followed": "3xx"}.get(said, "unanswered")
    for word in (outcome, "ok"):
        name = counter_key(WEBHOOK_ATTEMPTS.name, [word], "sum")
        assert name in counted


async def test_a_receiver_that_answers_too_late_gets_it_again(client, db, delivering, receiver, monkeypatch):
    webhook = await register(client, receiver.url)
    receiver.answer = hanging(asyncio.Event())
    with monkeypatch.context() as impatient:
        impatient.setattr(http_request, "TIMEOUT_SECONDS", 0.5)
        await client.faulty()
        late = await tried(client, webhook, 1)
    receiver.answer = answering(204)
    await pass_time(db, timedelta(minutes=1), delivering)
    (delivered,) = await eventually(lambda: deliveries_of(client, webhook, status="delivered"))

    # Looking its name up and connecting are part of the time; on a busy machine that may be all there is.
    assert re.search("no complete answer|no connection", late["log"][0]["error"]), late
    assert (late["status"], late["log"][0]["status_code"]) == ("pending", None)
    assert {got.id for got in receiver.got} == {late["id"]} == {delivered["id"]}


async def test_after_a_day_of_silence_everything_arrives(client, db, delivering, receiver):
    webhook = await register(client, receiver.url)
    receiver.answer = answering(503)
    asked = [await client.faulty() for _ in range(20)]
    for media in asked:
        await client.until(media)
    for hours in (1, 5, 18):
        await eventually(lambda: asyncio.sleep(0, receiver.got and not delivering.in_flight))
        seen = len(receiver.got)
        await pass_time(db, timedelta(hours=hours), delivering)
        await eventually(lambda: asyncio.sleep(0, len(receiver.got)), lambda count, seen=seen: count > seen)

    await eventually(lambda: asyncio.sleep(0, not delivering.in_flight))
    receiver.answer, receiver.got = answering(204), []
    await pass_time(db, timedelta(minutes=2), delivering)
    # One try that goes well is enough: what was missed follows at once, and does not wait for its own time.
    await db.execute(
        """UPDATE webhook_deliveries SET next_at = now() WHERE id = (
            SELECT id FROM webhook_deliveries WHERE status = 'pending' AND NOT sending LIMIT 1)"""
    )
    await eventually(lambda: deliveries_of(client, webhook, status="delivered"), lambda found: len(found) == 20)

    assert {got.payload["data"]["id"] for got in receiver.got} == {media["id"] for media in asked}
    assert (await webhook_of(client, webhook))["failing_since"] is None


async def test_an_endpoint_that_fails_for_days_is_paused_and_misses_nothing(client, db, delivering, receiver):
    webhook = await register(client, receiver.url)
    receiver.answer = answering(500)
    await client.until(await client.faulty())
    await tried(client, webhook, 1)
    await pass_time(db, timedelta(days=3, hours=1), delivering)
    await eventually(lambda: webhook_of(client, webhook), lambda seen: seen["status"] == "paused")

    seen = await webhook_of(client, webhook)
    assert (seen["reason"]["code"], "500" in seen["reason"]["message"]) == ("failing", True)
    await client.until(await client.faulty())
    receiver.answer, receiver.got = answering(204), []
    answer = await client.api.patch(f"/webhooks/{webhook['id']}", json={"status": "active"})
    assert answer.json()["reason"] is None
    await eventually(lambda: deliveries_of(client, webhook, status="delivered"), lambda found: len(found) == 2)


async def test_a_receiver_of_a_request_is_tried_for_three_days(client, db, delivering, receiver):
    receiver.answer = answering(500)
    await client.until(await client.generate(model="dummy/faulty", webhook_url=receiver.url))
    own = (await client.api.get("/webhooks")).json()["items"][0]
    await tried(client, own, 1)
    await pass_time(db, timedelta(days=3, hours=1), delivering)

    (failed,) = await eventually(lambda: deliveries_of(client, own, status="failed"))
    assert failed["finished_at"] is not None
    assert (await webhook_of(client, own))["status"] == "active"
    receiver.answer = answering(204)
    await client.api.post(f"/webhooks/{own['id']}/deliveries/{failed['id']}/replay")
    (delivered,) = await eventually(lambda: deliveries_of(client, own, status="delivered"))
    assert delivered["id"] == failed["id"] == receiver.got[-1].id


async def test_gone_means_gone(client, delivering, receiver):
    webhook = await register(client, receiver.url)
    receiver.answer = answering(410)
    await client.until(await client.faulty())
    seen = await eventually(lambda: webhook_of(client, webhook), lambda seen: seen["status"] == "disabled")
    assert seen["reason"]["code"] == "gone"

    await client.until(await client.faulty())
    assert [found["status"] for found in await deliveries_of(client, webhook)] == ["failed"]
    assert len(receiver.got) == 1


async def test_a_receiver_that_wants_quiet_gets_it(client, db, delivering, receiver):
    webhook = await register(client, receiver.url)
    receiver.answer = answering(429, **{"retry-after": "3600"})
    await client.until(await client.faulty())
    await tried(client, webhook, 1)
    receiver.answer = answering(204)
    await client.until(await client.faulty())
    await pass_time(db, timedelta(minutes=50), delivering)
    await asyncio.sleep(0.5)
    assert len(receiver.got) == 1

    await pass_time(db, timedelta(minutes=15), delivering)
    await eventually(lambda: deliveries_of(client, webhook, status="delivered"), lambda found: len(found) == 2)


async def test_a_slow_receiver_holds_up_nobody_and_gets_only_so_much_at_once(client, delivering, receiver):
    patience = asyncio.Event()
    async with Receiver(hanging(patience)) as slow:
        await register(client, slow.url)
        await register(client, receiver.url)
        asked = [await client.faulty() for _ in range(30)]
        for media in asked:
            await client.until(media)
        # All of them here, while there not one has been answered.
        await eventually(lambda: asyncio.sleep(0, receiver.got), lambda got: len(got) == 30)
        assert len(slow.got) == 8
        patience.set()
        await eventually(lambda: asyncio.sleep(0, slow.got), lambda got: len(got) == 30)

    assert slow.most_at_once == 8
    assert isinstance(delivering, Deliverer)


async def test_nothing_is_sent_to_a_private_address(settings, client, db):
    guarded = settings.model_copy(update={"allow_private_addresses": False})
    async with Receiver() as receiver, at_work(guarded):
        webhook = await register(client, receiver.url)
        await client.until(await client.faulty())
        delivery = await tried(client, webhook, 1)

    assert "private or loopback" in delivery["log"][0]["error"], delivery
    assert receiver.got == []
    assert await db.fetch("SELECT 1")


async def test_a_request_may_not_name_a_private_address(engines, database, api, client):
    from_outside = make_settings(engines, database_url=database)
    assert not from_outside.allow_private_addresses
    receivers = api._transport.app.state.desk.services.receivers
    receivers._allow_private = False

    answer = await api.post("/media/generate", json={"prompt": "x", "webhook_url": "http://169.254.169.254/latest"})

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "webhook_url")
    assert (await client.api.get("/media")).json()["items"] == []


async def test_no_log_line_tells_a_secret_or_an_address(settings, client, tmp_path, receiver):
    receiver.answer = answering(500)
    webhook = await register(client, f"{receiver.url}?token=hush")
    log = tmp_path / "worker.log"
    with worker(settings, log, ALLOW_PRIVATE_ADDRESSES="true"):
        media = await client.faulty()
        await tried(client, webhook, 1)
        lines = await eventually(lambda: asyncio.sleep(0, log.read_text()), lambda text: "delivery_failed" in text)
    kept = (await client.api.get(f"/media/{media['id']}/logs")).text

    for secret in ("hush", webhook["secret"], webhook["secret"].removeprefix("whsec_")):
        assert secret not in lines
        assert secret not in kept


@pytest.mark.parametrize(
    "wrong",
    [
        {"webhook_events": ["media.completed"]},
        {"webhook_url": "https://example.com/x", "webhook_events": []},
        {"webhook_url": "https://example.com/x", "webhook_events": ["media.exploded"]},
        {"webhook_url": "ftp://example.com/x"},
        {"webhook_url": "https://user:secret@example.com/x"},
        {"tags": ["x"] * 11},
        {"tags": [" "]},
        {"tags": ["x" * 65]},
    ],
)
async def test_a_wrong_wish_is_refused_and_leaves_nothing(client, wrong):
    answer = await client.api.post("/media/generate", json={"prompt": "x", **wrong})

    assert answer.status_code == 422, answer.text
    assert (await client.api.get("/media")).json()["items"] == []


async def test_what_is_large_is_left_out_and_named(client, delivering, receiver):
    await register(client, receiver.url)
    media = await client.generate(model="dummy/faulty", prompt="ä" * 20_000, metadata={"note": "x" * 4_000})
    await client.until(media)
    await eventually(lambda: asyncio.sleep(0, receiver.got))

    got = receiver.got[0]
    assert len(got.body) <= 20_000
    assert got.payload["omitted"] == ["prompt"]
    assert got.payload["data"]["metadata"] == {"note": "x" * 4_000}
    assert got.payload["data"]["prompt"].startswith("ää")
    assert delivering.in_flight <= 1


async def test_an_event_and_its_deliveries_are_one(client, db):
    await db.execute(
        """INSERT INTO webhook_endpoints (id, owner_id, url, events, secret)
        VALUES (gen_random_uuid(), $1, 'http://127.0.0.1:9/', ARRAY['media.queued', 'media.canceled'], 'whsec_AAAA')""",
        DEFAULT_OWNER_ID,
    )
    media = await client.faulty()
    await db.execute("ALTER TABLE webhook_deliveries ADD CONSTRAINT no_more CHECK (type = 'media.queued') NOT VALID")

    with pytest.raises(Exception, match="no_more"):
        await cancellation.cancel_waiting(db, UUID(media["id"]), DEFAULT_OWNER_ID)

    assert (await client.media(media))["status"] == "IN_QUEUE"
    assert len(await db.fetch("SELECT id FROM webhook_deliveries")) == 1


async def test_worker_and_broker_may_die_before_an_event_is_sent(settings, db, tmp_path):
    until = asyncio.Event()
    async with Receiver(hanging(until)) as receiver, httpx2.AsyncClient() as nobody:
        environment = {"ALLOW_PRIVATE_ADDRESSES": "true"}
        with served(settings, tmp_path / "api.log", **environment) as address:
            async with httpx2.AsyncClient(base_url=address, timeout=30) as api:
                client = Client(api)
                await eventually(client.answers)
                webhook = await register(client, receiver.url, events=["media.queued", "media.completed"])
                with worker(settings, tmp_path / "1.log", **environment) as first:
                    media = [await client.faulty() for _ in range(3)]
                    # Both events of each are on their way, and no answer has come.
                    await eventually(lambda: asyncio.sleep(0, receiver.got), lambda got: len(got) == 6)
                    first.send(signal.SIGKILL)
                first_ids = {got.id for got in receiver.got}
                receiver.answer, receiver.got = answering(204), []
                until.set()
                # As if the leases were over, and with a broker that knows of nothing.
                await db.execute("UPDATE webhook_deliveries SET next_at = now()")
                with worker(settings, tmp_path / "2.log", REDIS_URL="redis://127.0.0.1:9/0", **environment):
                    delivered = await eventually(
                        lambda: deliveries_of(client, webhook, status="delivered"), lambda found: len(found) == 6
                    )
        await nobody.aclose()

    assert {got.id for got in receiver.got} == first_ids == {delivery["id"] for delivery in delivered}
    assert {got.payload["data"]["id"] for got in receiver.got} == {one["id"] for one in media}


async def test_a_worker_that_stops_gives_back_what_it_was_sending(settings, client, db, bell):
    until = asyncio.Event()
    quick = settings.model_copy(update={"shutdown_seconds": 0.2})
    async with Receiver(hanging(until)) as receiver:
        async with at_work(quick, bell):
            await register(client, receiver.url)
            await client.until(await client.faulty())
            await eventually(lambda: asyncio.sleep(0, receiver.got))
        (row,) = await db.fetch("SELECT sending, status, next_at <= now() AS due FROM webhook_deliveries")

    assert (row["sending"], row["status"], row["due"]) == (False, "pending", True)
    assert os.getpid()

"""Delivery of webhooks: signed, under one id, at least once, whatever fails at the receiver or here."""

import asyncio
import os
import re
import signal
from datetime import timedelta
from uuid import UUID

import httpx2
import pytest
from standardwebhooks import Webhook

from app.auth.principal import DEFAULT_OWNER_ID
from app.core.telemetry.metrics import WEBHOOK_ATTEMPTS, counter_key
from app.jobs.metrics import counters
from app.jobs.transitions import cancellation
from app.webhooks import http_request
from app.webhooks.delivery import Deliverer
from tests.receiver import Receiver, answering, dropping, hanging
from tests.support import Client, eventually, make_settings, served, worker
from tests.webhook_delivery import deliveries_of, delivering_worker, register

ALL = ["media.queued", "media.started", "media.retry", "media.completed", "media.failed", "media.canceled"]


@pytest.fixture
def settings(engines, database):
    return make_settings(engines, database_url=database, allow_private_addresses=True)


@pytest.fixture
async def delivering(settings, bell):
    async with delivering_worker(settings, bell) as deliverer:
        yield deliverer


@pytest.fixture
async def receiver():
    async with Receiver() as opened:
        yield opened


async def webhook_of(client, webhook):
    return (await client.api.get(f"/webhooks/{webhook['id']}")).json()


async def pass_time(db, span, deliverer):
    """Move every time in the database and in the circuit breakers back by `span`."""
    for circuit in deliverer._circuits._failing.values():
        circuit.since -= span.total_seconds()
        circuit.open_until -= span.total_seconds()
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


async def after_attempts(client, webhook, count):
    """The only delivery, once it has had `count` attempts."""
    one = (await eventually(lambda: deliveries_of(client, webhook)))[0]
    path = f"/webhooks/{webhook['id']}/deliveries/{one['id']}"

    async def read():
        return (await client.api.get(path)).json()

    return await eventually(read, lambda delivery: len(delivery["log"]) >= count)


async def test_registered_endpoint_receives_signed_event_with_media(client, delivering, receiver):
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


async def test_sequence_gives_the_order_of_events(client, delivering, receiver):
    await register(client, receiver.url, events=ALL)
    media = await client.faulty(fail_times=1, fail_with="busy", retry_after=0.1)
    await client.until(media)
    await eventually(lambda: asyncio.sleep(0, receiver.got), lambda got: len(got) == 5)

    received = sorted((got.payload["sequence"], got.payload["type"]) for got in receiver.got)
    assert [kind.partition(".")[2] for _, kind in received] == ["queued", "started", "retry", "started", "completed"]
    assert len({got.id for got in receiver.got}) == 5
    assert isinstance(delivering, Deliverer)


async def test_request_can_name_its_own_receiver(client, delivering, receiver):
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
    # For a day the previous secret signs, too.
    assert len(receiver.got[0].headers["webhook-signature"].split()) == 2
    assert Webhook(secret).verify(receiver.got[0].body, receiver.got[0].headers)
    assert delivering.in_flight <= 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (answering(500, "out of order"), "answered 500"),
        (answering(301, location="http://127.0.0.1:1/"), "redirects are not followed"),
        (answering(307, location="http://127.0.0.1:1/"), "redirects are not followed"),
        (dropping, "connection"),
        (None, "connect"),
    ],
    ids=["500", "301", "307", "dropped", "down"],
)
async def test_failed_delivery_is_logged_and_retried_until_it_succeeds(
    client, db, delivering, receiver, answer, reason
):
    WEBHOOK_ATTEMPTS.take()
    webhook = await register(client, receiver.url)
    if answer is None:
        await receiver.close()
    else:
        receiver.answer = answer
    await client.faulty()
    delivery = await after_attempts(client, webhook, 1)
    assert (delivery["status"], reason in delivery["log"][0]["error"]) == ("pending", True), delivery

    receiver.answer = answering(204)
    await receiver.close()
    await receiver.open()
    await pass_time(db, timedelta(minutes=1), delivering)
    await eventually(lambda: deliveries_of(client, webhook, status="delivered"))
    delivery = await after_attempts(client, webhook, 2)

    assert delivery["log"][0]["status_code"] == 204
    assert {got.id for got in receiver.got} == {delivery["id"]}
    assert len({got.body for got in receiver.got}) == 1
    await eventually(lambda: asyncio.sleep(0, delivering.in_flight), lambda number: number == 0)
    await counters.add_all(db, WEBHOOK_ATTEMPTS.take())
    await asyncio.sleep(0.3)  # the reporter may be writing what it has just taken
    counted = await counters.read(db)
    outcome = {"answered 500": "5xx", "redirects are not followed": "3xx"}.get(reason, "unanswered")
    for word in (outcome, "ok"):
        name = counter_key(WEBHOOK_ATTEMPTS.name, [word], "sum")
        assert name in counted


async def test_delivery_is_retried_after_timeout(client, db, delivering, receiver, monkeypatch):
    webhook = await register(client, receiver.url)
    receiver.answer = hanging(asyncio.Event())
    with monkeypatch.context() as shortened:
        shortened.setattr(http_request, "TIMEOUT_SECONDS", 0.5)
        await client.faulty()
        timed_out = await after_attempts(client, webhook, 1)
    receiver.answer = answering(204)
    await pass_time(db, timedelta(minutes=1), delivering)
    (delivered,) = await eventually(lambda: deliveries_of(client, webhook, status="delivered"))

    # The timeout includes DNS and connecting; on a busy machine it may end there.
    assert re.search("no complete answer|no connection", timed_out["log"][0]["error"]), timed_out
    assert (timed_out["status"], timed_out["log"][0]["status_code"]) == ("pending", None)
    assert {got.id for got in receiver.got} == {timed_out["id"]} == {delivered["id"]}


async def test_everything_missed_in_a_day_long_outage_is_delivered(client, db, delivering, receiver):
    webhook = await register(client, receiver.url)
    receiver.answer = answering(503)
    requested = [await client.faulty() for _ in range(20)]
    for media in requested:
        await client.until(media)
    for hours in (1, 5, 18):
        await eventually(lambda: asyncio.sleep(0, receiver.got and not delivering.in_flight))
        seen = len(receiver.got)
        await pass_time(db, timedelta(hours=hours), delivering)
        await eventually(lambda: asyncio.sleep(0, len(receiver.got)), lambda count, seen=seen: count > seen)

    await eventually(lambda: asyncio.sleep(0, not delivering.in_flight))
    receiver.answer, receiver.got = answering(204), []
    await pass_time(db, timedelta(minutes=2), delivering)
    # One successful attempt is enough: what was missed is then sent at once, not when it is due.
    await db.execute(
        """UPDATE webhook_deliveries SET next_at = now() WHERE id = (
            SELECT id FROM webhook_deliveries WHERE status = 'pending' AND NOT sending LIMIT 1)"""
    )
    await eventually(lambda: deliveries_of(client, webhook, status="delivered"), lambda found: len(found) == 20)

    assert {got.payload["data"]["id"] for got in receiver.got} == {media["id"] for media in requested}
    assert (await webhook_of(client, webhook))["failing_since"] is None


async def test_endpoint_failing_for_three_days_is_paused_and_keeps_its_events(client, db, delivering, receiver):
    webhook = await register(client, receiver.url)
    receiver.answer = answering(500)
    await client.until(await client.faulty())
    await after_attempts(client, webhook, 1)
    await pass_time(db, timedelta(days=3, hours=1), delivering)
    await eventually(lambda: webhook_of(client, webhook), lambda seen: seen["status"] == "paused")

    seen = await webhook_of(client, webhook)
    assert (seen["reason"]["code"], "500" in seen["reason"]["message"]) == ("failing", True)
    await client.until(await client.faulty())
    receiver.answer, receiver.got = answering(204), []
    answer = await client.api.patch(f"/webhooks/{webhook['id']}", json={"status": "active"})
    assert answer.json()["reason"] is None
    await eventually(lambda: deliveries_of(client, webhook, status="delivered"), lambda found: len(found) == 2)


async def test_delivery_to_receiver_of_request_fails_after_three_days(client, db, delivering, receiver):
    receiver.answer = answering(500)
    await client.until(await client.generate(model="dummy/faulty", webhook_url=receiver.url))
    own = (await client.api.get("/webhooks")).json()["items"][0]
    await after_attempts(client, own, 1)
    await pass_time(db, timedelta(days=3, hours=1), delivering)

    (failed,) = await eventually(lambda: deliveries_of(client, own, status="failed"))
    assert failed["finished_at"] is not None
    assert (await webhook_of(client, own))["status"] == "active"
    receiver.answer = answering(204)
    await client.api.post(f"/webhooks/{own['id']}/deliveries/{failed['id']}/replay")
    (delivered,) = await eventually(lambda: deliveries_of(client, own, status="delivered"))
    assert delivered["id"] == failed["id"] == receiver.got[-1].id


async def test_answer_410_disables_the_endpoint(client, delivering, receiver):
    webhook = await register(client, receiver.url)
    receiver.answer = answering(410)
    await client.until(await client.faulty())
    seen = await eventually(lambda: webhook_of(client, webhook), lambda seen: seen["status"] == "disabled")
    assert seen["reason"]["code"] == "gone"

    await client.until(await client.faulty())
    assert [found["status"] for found in await deliveries_of(client, webhook)] == ["failed"]
    assert len(receiver.got) == 1


async def test_retry_after_of_endpoint_is_obeyed(client, db, delivering, receiver):
    webhook = await register(client, receiver.url)
    receiver.answer = answering(429, **{"retry-after": "3600"})
    await client.until(await client.faulty())
    await after_attempts(client, webhook, 1)
    receiver.answer = answering(204)
    await client.until(await client.faulty())
    await pass_time(db, timedelta(minutes=50), delivering)
    await asyncio.sleep(0.5)
    assert len(receiver.got) == 1

    await pass_time(db, timedelta(minutes=15), delivering)
    await eventually(lambda: deliveries_of(client, webhook, status="delivered"), lambda found: len(found) == 2)


async def test_slow_receiver_delays_no_other_and_gets_limited_concurrency(client, delivering, receiver):
    answer_now = asyncio.Event()
    async with Receiver(hanging(answer_now)) as slow:
        await register(client, slow.url)
        await register(client, receiver.url)
        requested = [await client.faulty() for _ in range(30)]
        for media in requested:
            await client.until(media)
        # All have arrived here, while the slow receiver has answered none.
        await eventually(lambda: asyncio.sleep(0, receiver.got), lambda got: len(got) == 30)
        assert len(slow.got) == 8
        answer_now.set()
        await eventually(lambda: asyncio.sleep(0, slow.got), lambda got: len(got) == 30)

    assert slow.most_at_once == 8
    assert isinstance(delivering, Deliverer)


async def test_nothing_is_sent_to_private_address(settings, client, db):
    guarded = settings.model_copy(update={"allow_private_addresses": False})
    async with Receiver() as receiver, delivering_worker(guarded):
        webhook = await register(client, receiver.url)
        await client.until(await client.faulty())
        delivery = await after_attempts(client, webhook, 1)

    assert "private or loopback" in delivery["log"][0]["error"], delivery
    assert receiver.got == []
    assert await db.fetch("SELECT 1")


async def test_webhook_url_of_request_may_not_be_private_address(engines, database, api, client):
    from_outside = make_settings(engines, database_url=database)
    assert not from_outside.allow_private_addresses
    receivers = api._transport.app.state.media.services.receivers
    receivers._allow_private = False

    answer = await api.post("/media/generate", json={"prompt": "x", "webhook_url": "http://169.254.169.254/latest"})

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "webhook_url")
    assert (await client.api.get("/media")).json()["items"] == []


async def test_log_contains_no_secret_and_no_receiver_address(settings, client, tmp_path, receiver):
    receiver.answer = answering(500)
    webhook = await register(client, f"{receiver.url}?token=hush")
    log = tmp_path / "worker.log"
    with worker(settings, log, ALLOW_PRIVATE_ADDRESSES="true"):
        media = await client.faulty()
        await after_attempts(client, webhook, 1)
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
async def test_invalid_webhook_fields_of_request_are_refused(client, wrong):
    answer = await client.api.post("/media/generate", json={"prompt": "x", **wrong})

    assert answer.status_code == 422, answer.text
    assert (await client.api.get("/media")).json()["items"] == []


async def test_large_payload_is_cut_and_names_what_is_omitted(client, delivering, receiver):
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


async def test_transition_rolls_back_when_its_deliveries_cannot_be_written(client, db):
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


async def test_events_survive_death_of_worker_and_broker(settings, db, tmp_path):
    until = asyncio.Event()
    async with Receiver(hanging(until)) as receiver, httpx2.AsyncClient(trust_env=False) as nobody:
        environment = {"ALLOW_PRIVATE_ADDRESSES": "true"}
        with served(settings, tmp_path / "api.log", **environment) as address:
            async with httpx2.AsyncClient(base_url=address, timeout=30, trust_env=False) as api:
                client = Client(api)
                await eventually(client.answers)
                webhook = await register(client, receiver.url, events=["media.queued", "media.completed"])
                with worker(settings, tmp_path / "1.log", **environment) as first:
                    media = [await client.faulty() for _ in range(3)]
                    # Both events of each were sent, and none was answered.
                    await eventually(lambda: asyncio.sleep(0, receiver.got), lambda got: len(got) == 6)
                    first.send(signal.SIGKILL)
                first_ids = {got.id for got in receiver.got}
                receiver.answer, receiver.got = answering(204), []
                until.set()
                # As if the leases had ended; and with a broker that is down.
                await db.execute("UPDATE webhook_deliveries SET next_at = now()")
                with worker(settings, tmp_path / "2.log", REDIS_URL="redis://127.0.0.1:9/0", **environment):
                    delivered = await eventually(
                        lambda: deliveries_of(client, webhook, status="delivered"), lambda found: len(found) == 6
                    )
        await nobody.aclose()

    assert {got.id for got in receiver.got} == first_ids == {delivery["id"] for delivery in delivered}
    assert {got.payload["data"]["id"] for got in receiver.got} == {one["id"] for one in media}


async def test_stopping_worker_returns_deliveries_in_flight(settings, client, db, bell):
    until = asyncio.Event()
    quick = settings.model_copy(update={"shutdown_seconds": 0.2})
    async with Receiver(hanging(until)) as receiver:
        async with delivering_worker(quick, bell):
            await register(client, receiver.url)
            await client.until(await client.faulty())
            await eventually(lambda: asyncio.sleep(0, receiver.got))
        (row,) = await db.fetch("SELECT sending, status, next_at <= now() AS due FROM webhook_deliveries")

    assert (row["sending"], row["status"], row["due"]) == (False, "pending", True)
    assert os.getpid()

"""The API of webhooks: register, change, rotate, test, list deliveries, replay."""

import asyncio
import json
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest
from standardwebhooks.webhooks import Webhook

from app.auth.principal import DEFAULT_OWNER_ID
from app.core.bell import WEBHOOKS
from app.core.ids import new_id
from app.core.pagination import InvalidCursorError, Place, decode_place, encode_cursor, encode_place
from app.webhooks import delivery_log, endpoints, signing
from app.webhooks.event_types import FINAL_TYPES
from app.webhooks.receivers import Receivers
from tests.support import eventually

URL = "https://hooks.example.com/fleek"
OTHER_OWNER = UUID("00000000-0000-7000-8000-0000000000ff")
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def webhook(api):
    return (await api.post("/webhooks", json={"url": URL})).json()


@pytest.fixture
async def of_requests(db, api):
    """The endpoint of kind `request`, as the first request with a `webhook_url` creates it."""
    await Receivers(db, allow_private=False).of_request(DEFAULT_OWNER_ID, URL, FINAL_TYPES)
    return (await api.get("/webhooks")).json()["items"][0]


def path(webhook, *rest):
    return "/".join((f"/webhooks/{webhook['id']}", *rest))


async def deliver(db, webhook, **columns):
    """Insert a delivery as the outbox does, or with other `columns`; its id."""
    given = {
        "endpoint_id": UUID(webhook["id"]),
        "receiver": webhook["id"],
        "type": "media.completed",
        "sequence": 7,
        "media_id": new_id(),
        **columns,
    }
    places = ", ".join(f"${number}" for number in range(1, len(given) + 1))
    return (
        await db.fetchrow(
            f"INSERT INTO webhook_deliveries ({', '.join(given)}) VALUES ({places}) RETURNING id", *given.values()
        )
    )["id"]


FAILED = {"status": "failed", "tries": 9, "finished_at": LONG_AGO, "give_up_at": LONG_AGO, "next_at": LONG_AGO}
CLAIM = """UPDATE webhook_deliveries SET tries = tries + 1, sending = true, next_at = now() + interval '1 minute'
WHERE id = $1 AND status = 'pending' AND NOT sending"""


async def row_of(db, delivery_id):
    return await db.fetchrow("SELECT *, now() AS now FROM webhook_deliveries WHERE id = $1", delivery_id)


@asynccontextmanager
async def connection_of(settings):
    connection = await asyncpg.connect(settings.database_dsn)
    try:
        yield connection
    finally:
        connection.terminate()


async def blocked(db):
    """Once a statement waits for the lock of another transaction."""
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    await eventually(lambda: db.fetchrow(waiting), lambda row: row[0] > 0)


# --- endpoints


async def test_registered_webhook_is_listed_without_its_secret(api):
    made = await api.post("/webhooks", json={"url": URL, "events": ["media.failed"], "description": "shop"})
    webhook = made.json()
    secret = webhook.pop("secret")

    assert made.status_code == 201
    assert made.headers["location"] == path(webhook)
    assert secret.startswith("whsec_")
    assert (webhook["url"], webhook["events"], webhook["description"]) == (URL, ["media.failed"], "shop")
    assert (webhook["status"], webhook["kind"], webhook["reason"]) == ("active", "registered", None)
    assert (await api.get(path(webhook))).json() == webhook
    assert (await api.get("/webhooks")).json() == {"items": [webhook], "next_cursor": None}


async def test_webhook_receives_final_events_by_default(webhook):
    assert webhook["events"] == ["media.completed", "media.failed", "media.canceled"]


async def test_duplicate_events_of_registration_are_removed(api):
    made = await api.post("/webhooks", json={"url": URL, "events": ["media.queued", "media.failed", "media.queued"]})

    assert made.json()["events"] == ["media.queued", "media.failed"]


WRONG = [
    ({}, "url", "invalid_input"),
    ({"url": ""}, "url", "invalid_input"),
    ({"url": "ftp://example.com"}, "url", "refused_url"),
    ({"url": "http://127.0.0.1/hook"}, "url", "refused_url"),
    ({"url": "http://localhost:8080/hook"}, "url", "refused_url"),
    ({"url": "https://me:secret@example.com"}, "url", "refused_url"),
    ({"url": "https://example.com/" + "x" * 2048}, "url", "invalid_input"),
    ({"url": URL, "events": []}, "events", "invalid_input"),
    ({"url": URL, "events": ["media.failed"] * 7}, "events", "invalid_input"),
    ({"url": URL, "events": ["webhook.test"]}, "events.0", "invalid_input"),
    ({"url": URL, "description": "x" * 501}, "description", "invalid_input"),
    ({"url": URL, "description": "\x00"}, "description", "invalid_input"),
    ({"url": URL, "secret": "whsec_mine"}, "secret", "invalid_input"),
]


async def test_invalid_registration_names_its_field_and_creates_nothing(api, db):
    for body, field, code in WRONG:
        answer = await api.post("/webhooks", json=body)

        assert (answer.status_code, answer.json()["code"]) == (422, code), body
        assert answer.json()["errors"][0]["field"] == field
    assert (await db.fetchrow("SELECT count(*) FROM webhook_endpoints"))[0] == 0


async def test_invalid_change_changes_nothing(api, webhook):
    for body, field, code in WRONG[1:]:
        answer = await api.patch(path(webhook), json={"status": "paused", "description": "half-way", **body})

        assert (answer.status_code, answer.json()["code"]) == (422, code), body
        assert answer.json()["errors"][0]["field"] == field
    webhook.pop("secret")
    assert (await api.get(path(webhook))).json() == webhook


async def test_owner_can_set_only_active_or_paused(api, webhook):
    for status in ("disabled", "gone", None):
        answer = await api.patch(path(webhook), json={"status": status})

        assert answer.status_code == 422, status
        assert answer.json()["detail"] == "status: Input should be 'active' or 'paused'"


async def test_unsupported_method_answers_405_with_allowed_methods(api, webhook):
    for where, methods in (("/webhooks", "GET, HEAD, POST"), (path(webhook), "DELETE, GET, HEAD, PATCH")):
        answer = await api.put(where, json={})

        assert (answer.status_code, answer.headers["allow"]) == (405, methods)


async def test_private_address_is_accepted_where_operator_allows_it(api, settings):
    object.__setattr__(api._transport.app.state.runtime.settings, "allow_private_addresses", True)

    assert (await api.post("/webhooks", json={"url": "http://127.0.0.1:9000/hook"})).status_code == 201


async def test_limit_of_webhooks_holds_for_concurrent_registrations(api, db, settings):
    make = """INSERT INTO webhook_endpoints (id, owner_id, url, events, secret)
        SELECT gen_random_uuid(), $1, 'https://example.com', '{}', 'theirs' FROM generate_series(1, $2)"""
    await db.execute(make, DEFAULT_OWNER_ID, endpoints.MAX_ENDPOINTS - 1)
    async with connection_of(settings) as first, first.transaction():
        await first.execute(f"SELECT pg_advisory_xact_lock({endpoints._CREATE_LOCK})")
        second = asyncio.create_task(api.post("/webhooks", json={"url": URL}))
        await blocked(db)

        await first.execute(make, DEFAULT_OWNER_ID, 1)
    refused = await second

    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_webhooks")
    assert (await db.fetchrow("SELECT count(*) FROM webhook_endpoints"))[0] == endpoints.MAX_ENDPOINTS


async def test_list_of_webhooks_is_paged_newest_first(api):
    made = [(await api.post("/webhooks", json={"url": URL})).json()["id"] for _ in range(5)]

    seen, cursor = [], {}
    while cursor is not None:
        page = (await api.get("/webhooks", params={"limit": 2, **cursor})).json()
        seen += [item["id"] for item in page["items"]]
        cursor = {"cursor": page["next_cursor"]} if page["next_cursor"] else None

    assert seen == sorted(made, reverse=True)


OPERATIONS = [
    ("GET", "", None),
    ("PATCH", "", {"description": "mine"}),
    ("DELETE", "", None),
    ("POST", "/rotate", {}),
    ("POST", "/test", None),
    ("GET", "/deliveries", None),
    ("GET", "/deliveries/{delivery}", None),
    ("POST", "/deliveries/{delivery}/replay", None),
    ("POST", "/replay", {"since": "2026-01-01T00:00:00Z", "statuses": ["pending", "failed", "delivered"]}),
]


async def test_webhook_of_another_owner_is_not_found(api, db):
    theirs = {"id": str(new_id())}
    await db.execute(
        "INSERT INTO webhook_endpoints (id, owner_id, url, events, secret) VALUES ($1, $2, $3, '{}', 'theirs')",
        *(UUID(theirs["id"]), OTHER_OWNER, URL),
    )
    delivery = await deliver(db, theirs, **FAILED)
    state = "SELECT e::text, d::text FROM webhook_endpoints e JOIN webhook_deliveries d ON d.endpoint_id = e.id"
    before = await db.fetchrow(state)

    for method, rest, body in OPERATIONS:
        answer = await api.request(method, path(theirs) + rest.format(delivery=delivery), json=body)

        assert (answer.status_code, answer.json()["code"]) == (404, "webhook_not_found"), (method, rest)
    assert await db.fetchrow(state) == before
    assert (await api.get("/webhooks")).json()["items"] == []


async def test_deleting_webhook_deletes_its_deliveries(api, db, webhook, monkeypatch):
    monkeypatch.setattr(endpoints, "_DELETE_DELIVERIES", endpoints._DELETE_DELIVERIES.replace("20000", "2"))
    other = (await api.post("/webhooks", json={"url": URL})).json()
    kept = await deliver(db, other)
    for _ in range(5):
        await deliver(db, webhook)

    assert (await api.delete(path(webhook))).status_code == 204

    assert (await api.get(path(webhook))).status_code == 404
    assert (await api.delete(path(webhook))).status_code == 404
    assert [row["id"] for row in await db.fetch("SELECT id FROM webhook_deliveries")] == [kept]


async def test_request_succeeds_while_webhook_is_being_deleted(client, db, settings):
    made = await client.api.post("/webhooks", json={"url": URL, "events": ["media.queued"]})
    async with connection_of(settings) as deleting:
        deletion = deleting.transaction()
        await deletion.start()
        await deleting.execute("DELETE FROM webhook_endpoints WHERE id = $1", UUID(made.json()["id"]))
        requesting = asyncio.create_task(client.generate())
        await blocked(db)

        await deletion.commit()

        assert (await requesting)["status"] == "IN_QUEUE"


# --- the endpoint of kind `request`


async def test_webhook_of_kind_request_is_listed(api, of_requests):
    [listed] = (await api.get("/webhooks")).json()["items"]

    assert listed == of_requests
    assert (listed["kind"], listed["url"], listed["events"], listed["status"]) == ("request", None, [], "active")


async def test_webhook_of_kind_request_refuses_changes_delete_and_test(api, of_requests):
    for method, rest, body in (
        ("PATCH", "", {"url": URL}),
        ("PATCH", "", {"events": ["media.failed"]}),
        ("PATCH", "", {"description": "mine", "status": "paused"}),
        ("DELETE", "", None),
        ("POST", "/test", None),
    ):
        answer = await api.request(method, path(of_requests) + rest, json=body)

        assert (answer.status_code, answer.json()["code"]) == (409, "request_webhook"), (method, rest, body)
    assert (await api.get(path(of_requests))).json() == of_requests


async def test_rotation_returns_secret_of_kind_request(api, of_requests):
    rotated = (await api.post(path(of_requests, "rotate"), json={})).json()
    described = await api.patch(path(of_requests), json={"description": "mine", "status": "active"})

    assert rotated["secret"].startswith("whsec_")
    assert described.json()["description"] == "mine"


async def test_webhook_of_kind_request_does_not_count_towards_limit(api, of_requests, monkeypatch):
    monkeypatch.setattr(endpoints, "_CREATE", endpoints._CREATE.replace("100 > ", "1 > "))

    statuses = [(await api.post("/webhooks", json={"url": URL})).status_code for _ in range(2)]

    assert statuses == [201, 409]


# --- secrets


async def secrets_of(db, webhook):
    """The secrets that sign now."""
    row = await db.fetchrow(
        """SELECT secret, CASE WHEN previous_until > now() THEN previous_secret END AS previous
        FROM webhook_endpoints WHERE id = $1""",
        UUID(webhook["id"]),
    )
    return [secret for secret in row if secret is not None]


async def test_both_secrets_sign_until_the_overlap_ends(api, db, webhook):
    rotated = (await api.post(path(webhook, "rotate"), json={"overlap_seconds": 3600})).json()

    both = await secrets_of(db, webhook)
    body = b'{"type":"webhook.test"}'
    headers = signing.headers(both, "an-id", int(time.time()), body)
    for secret in (rotated["secret"], webhook["secret"]):
        Webhook(secret).verify(body, headers)
    assert rotated["previous_until"] is not None

    await db.execute("UPDATE webhook_endpoints SET previous_until = now()")

    assert await secrets_of(db, webhook) == [rotated["secret"]]
    assert (await api.get(path(webhook))).json()["previous_until"] is None


async def test_rotation_without_overlap_ends_old_secret_at_once(api, db, webhook):
    await api.post(path(webhook, "rotate"), json={})

    rotated = (await api.post(path(webhook, "rotate"), json={"overlap_seconds": 0})).json()

    assert rotated["previous_until"] is None
    row = await db.fetchrow("SELECT secret, previous_secret FROM webhook_endpoints")
    assert tuple(row) == (rotated["secret"], None)


async def test_invalid_rotation_keeps_the_secret(api, db, webhook):
    for body in ({"overlap_seconds": -1}, {"overlap_seconds": 604_801}, {"overlap_secnods": 0}):
        assert (await api.post(path(webhook, "rotate"), json=body)).status_code == 422, body
    assert await secrets_of(db, webhook) == [webhook["secret"]]


# --- pausing and resuming


async def test_pause_gives_reason_and_resume_sends_pending_deliveries(api, db, bell, webhook):
    waiting = await deliver(db, webhook, tries=3, give_up_at=LONG_AGO, next_at=datetime.now(UTC) + timedelta(hours=5))
    overdue = await deliver(db, webhook, tries=1, give_up_at=LONG_AGO, next_at=LONG_AGO)
    sent = await deliver(db, webhook, tries=1, sending=True, next_at=datetime.now(UTC) + timedelta(minutes=1))
    failed = await deliver(db, webhook, **FAILED)
    lease = (await row_of(db, sent))["next_at"]

    paused = (await api.patch(path(webhook), json={"status": "paused"})).json()
    assert (paused["status"], paused["reason"]["code"], bell.rings) == ("paused", "paused_by_owner", [])
    await db.execute("UPDATE webhook_endpoints SET failing_since = now(), not_before = now() + interval '1 day'")
    resumed = (await api.patch(path(webhook), json={"status": "active"})).json()

    assert (resumed["status"], resumed["reason"]) == ("active", None)
    assert (resumed["failing_since"], resumed["not_before"]) == (None, None)
    assert bell.rings == [WEBHOOKS]
    expedited = await row_of(db, waiting)
    assert expedited["next_at"] <= expedited["now"]
    assert expedited["give_up_at"] > expedited["now"] + timedelta(days=2, hours=23)
    assert (await row_of(db, overdue))["next_at"] == LONG_AGO
    assert (await row_of(db, sent))["next_at"] == lease
    assert (await row_of(db, failed))["status"] == "failed"


@pytest.mark.parametrize("status", ["paused", "disabled"])
async def test_owner_can_resume_webhook_paused_or_disabled_by_fleek(api, db, webhook, status):
    reason = {"code": "gone", "message": "it answered 410"}
    await db.execute("UPDATE webhook_endpoints SET status = $1, reason = $2::jsonb", status, json.dumps(reason))
    seen = (await api.get(path(webhook))).json()

    resumed = (await api.patch(path(webhook), json={"status": "active", "url": "https://other.example.com"})).json()

    assert (seen["status"], seen["reason"]) == (status, reason)
    assert (resumed["status"], resumed["reason"], resumed["url"]) == ("active", None, "https://other.example.com")


async def test_pausing_a_paused_webhook_keeps_the_reason(api, db, webhook):
    await db.execute("""UPDATE webhook_endpoints SET status = 'paused', reason = '{"code": "ours", "message": ""}'""")

    assert (await api.patch(path(webhook), json={"status": "paused"})).json()["reason"]["code"] == "ours"


async def test_activating_an_active_webhook_changes_no_delivery(api, db, bell, webhook):
    later = datetime.now(UTC) + timedelta(hours=5)
    waiting = await deliver(db, webhook, next_at=later, give_up_at=later)
    await db.execute("UPDATE webhook_endpoints SET failing_since = now(), not_before = $1", later)

    same = (await api.patch(path(webhook), json={"status": "active", "url": URL})).json()

    assert (await row_of(db, waiting))["next_at"] == later
    assert same["failing_since"] is not None
    assert same["not_before"] is not None
    assert bell.rings == []


async def test_new_url_resets_failures_of_the_old_one(api, db, webhook):
    await db.execute("UPDATE webhook_endpoints SET failing_since = now(), not_before = now() + interval '1 day'")

    changed = (await api.patch(path(webhook), json={"url": "https://other.example.com"})).json()

    assert (changed["failing_since"], changed["not_before"]) == (None, None)


# --- tests


async def test_test_event_is_an_ordinary_delivery(api, db, bell, webhook):
    answer = await api.post(path(webhook, "test"))

    assert answer.status_code == 202
    seen = (await api.get(answer.headers["location"])).json()
    payload = seen.pop("payload")
    assert seen.pop("log") == []
    assert seen == answer.json()
    assert (seen["type"], seen["status"], seen["url"], seen["media_id"]) == ("webhook.test", "pending", URL, None)
    assert (payload["type"], payload["sequence"]) == ("webhook.test", 0)
    assert payload["data"]["endpoint_id"] == webhook["id"]
    assert datetime.fromisoformat(payload["timestamp"]) == datetime.fromisoformat(seen["at"])
    assert (await db.fetchrow("SELECT receiver FROM webhook_deliveries"))[0] == f"{webhook['id']}:test"
    assert bell.rings == [WEBHOOKS]


async def test_test_event_is_possible_while_paused_or_disabled(api, db, webhook):
    for status in ("paused", "disabled"):
        await db.execute("UPDATE webhook_endpoints SET status = $1", status)

        assert (await api.post(path(webhook, "test"))).status_code == 202, status
    assert (await db.fetchrow("SELECT count(*) FROM webhook_deliveries"))[0] == 2


async def test_resume_does_not_change_test_events(api, db, webhook):
    await api.post(path(webhook, "test"))
    await db.execute("UPDATE webhook_deliveries SET give_up_at = $1", LONG_AGO)

    await api.patch(path(webhook), json={"status": "paused"})
    await api.patch(path(webhook), json={"status": "active"})

    assert (await db.fetchrow("SELECT give_up_at FROM webhook_deliveries"))[0] == LONG_AGO


# --- the log of deliveries


async def test_delivery_shows_its_body_and_each_attempt(api, db, webhook):
    delivery = await deliver(db, webhook, payload='{"type":"media.completed","sequence":7}', **FAILED)
    for number, status_code in ((1, None), (2, 500)):
        await db.execute(
            """INSERT INTO webhook_tries (delivery_id, number, url, at, milliseconds, status_code, error, answer)
            VALUES ($1, $2, $3, $4, 12, $5, 'server error', 'oh no')""",
            *(delivery, number, URL, LONG_AGO, status_code),
        )

    seen = (await api.get(path(webhook, "deliveries", str(delivery)))).json()

    assert seen["payload"] == {"type": "media.completed", "sequence": 7}
    assert [(tried["number"], tried["status_code"]) for tried in seen["log"]] == [(2, 500), (1, None)]
    assert seen["log"][0] == {
        "number": 2,
        "at": "2026-01-01T00:00:00Z",
        "url": URL,
        "request_headers": {"webhook-id": str(delivery), "webhook-timestamp": str(int(LONG_AGO.timestamp()))},
        "milliseconds": 12,
        "status_code": 500,
        "error": "server error",
        "answer": "oh no",
    }
    assert (seen["status"], seen["next_at"], seen["give_up_at"]) == ("failed", None, None)


async def test_delivery_of_request_shows_its_own_url(api, db, of_requests):
    delivery = await deliver(db, of_requests, receiver="them", url="https://one.example.com")

    [seen] = (await api.get(path(of_requests, "deliveries"))).json()["items"]

    assert (seen["id"], seen["url"]) == (str(delivery), "https://one.example.com")


async def test_list_of_deliveries_is_filtered(api, db, webhook):
    media_id = new_id()
    first = await deliver(db, webhook, media_id=media_id)
    second = await deliver(db, webhook, media_id=media_id, type="media.failed")
    third = await deliver(db, webhook, **FAILED)

    async def found(**wanted):
        return {item["id"] for item in (await api.get(path(webhook, "deliveries"), params=wanted)).json()["items"]}

    assert await found(media_id=str(media_id)) == {str(first), str(second)}
    assert await found(media_id=str(media_id), type="media.failed") == {str(second)}
    assert await found(status="failed") == {str(third)}
    assert await found(status="failed", type="media.failed") == set()
    assert await found(status="Failed,delivered") == {str(third)}
    assert await found(status=["failed", "PENDING"], type="media.failed,MEDIA.completed") == {
        *(str(first), str(second), str(third))
    }


async def test_invalid_filter_of_deliveries_names_its_field(api, webhook):
    for field, value in (("status", "x"), ("type", "media.x"), ("limit", 0), ("cursor", "x"), ("media_id", 1)):
        answer = await api.get(path(webhook, "deliveries"), params={field: value})

        assert answer.status_code == 422, field
        assert answer.json()["errors"][0]["field"] == field


async def test_paging_of_deliveries_is_exact_for_equal_times(api, db, webhook):
    made = [await deliver(db, webhook, created_at=LONG_AGO) for _ in range(5)]
    made += [await deliver(db, webhook, created_at=LONG_AGO + timedelta(microseconds=1)) for _ in range(2)]

    seen, cursor = [], {}
    while cursor is not None:
        page = (await api.get(path(webhook, "deliveries"), params={"limit": 2, **cursor})).json()
        seen += [item["id"] for item in page["items"]]
        cursor = {"cursor": page["next_cursor"]} if page["next_cursor"] else None

    times = {str(found["id"]): found["created_at"] for found in await db.fetch("SELECT * FROM webhook_deliveries")}
    assert sorted(seen) == sorted(map(str, made))
    assert seen == sorted(seen, key=lambda found: (times[found], UUID(found)), reverse=True)


@pytest.mark.parametrize("at", [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)])
def test_cursor_of_place_round_trips_and_refuses_garbage(at):
    place = Place(at, new_id())

    assert decode_place(encode_place(place)) == place
    for garbage in ("", "x", "ä", encode_cursor(place.id), encode_place(place) + "AAAA", "f" * 32):
        with pytest.raises(InvalidCursorError):
            decode_place(garbage)


# --- replay


@pytest.mark.parametrize("status", ["failed", "delivered"])
async def test_replay_sends_the_same_delivery_again(api, db, bell, webhook, status):
    delivery = await deliver(db, webhook, payload='{"a":1}', **{**FAILED, "status": status})

    answer = await api.post(path(webhook, "deliveries", str(delivery), "replay"))

    assert answer.status_code == 202
    assert answer.headers["location"] == path(webhook, "deliveries", str(delivery))
    row = await row_of(db, delivery)
    assert (row["status"], row["tries"], row["payload"], row["finished_at"]) == ("pending", 9, '{"a":1}', None)
    assert row["now"] - timedelta(minutes=1) < row["next_at"] <= row["now"]
    assert row["give_up_at"] > row["now"] + timedelta(days=2, hours=23)
    assert (await db.fetchrow("SELECT count(*) FROM webhook_deliveries"))[0] == 1
    assert bell.rings == [WEBHOOKS]


async def test_replay_sends_pending_delivery_now(api, db, webhook):
    delivery = await deliver(db, webhook, tries=4, next_at=datetime.now(UTC) + timedelta(hours=9))

    await api.post(path(webhook, "deliveries", str(delivery), "replay"))

    row = await row_of(db, delivery)
    assert row["next_at"] <= row["now"]


async def test_delivery_of_another_webhook_is_not_found(api, db, webhook):
    other = (await api.post("/webhooks", json={"url": URL})).json()
    delivery = await deliver(db, other, **FAILED)

    for answer in (
        await api.get(path(webhook, "deliveries", str(delivery))),
        await api.post(path(webhook, "deliveries", str(delivery), "replay")),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "delivery_not_found")
    assert (await row_of(db, delivery))["status"] == "failed"


async def test_disabled_webhook_refuses_replay_and_paused_one_keeps_it(api, db, webhook):
    delivery = await deliver(db, webhook, **FAILED)
    one, some = path(webhook, "deliveries", str(delivery), "replay"), path(webhook, "replay")
    await db.execute("UPDATE webhook_endpoints SET status = 'disabled'")

    refused = [await api.post(one), await api.post(some, json={"since": "2026-01-01T00:00:00Z"})]

    assert [answer.json()["code"] for answer in refused] == ["webhook_not_active"] * 2
    assert (await row_of(db, delivery))["status"] == "failed"
    await db.execute("UPDATE webhook_endpoints SET status = 'paused'")
    assert (await api.post(one)).json()["status"] == "pending"


async def test_replay_ignores_delivery_being_claimed(api, db, settings, webhook):
    delivery = await deliver(db, webhook)
    async with connection_of(settings) as sender:
        claim = sender.transaction()
        await claim.start()
        await sender.execute(CLAIM, delivery)
        replaying = asyncio.create_task(api.post(path(webhook, "deliveries", str(delivery), "replay")))
        await blocked(db)
        skipped = await api.post(
            path(webhook, "replay"), json={"since": "2026-01-01T00:00:00Z", "statuses": ["pending"]}
        )

        await claim.commit()
        answer = await replaying

    row = await row_of(db, delivery)
    assert row["sending"]
    assert row["next_at"] > row["now"]
    assert (answer.json()["sending"], answer.json()["next_at"]) == (True, None)
    assert skipped.json() == {"replayed": 0, "next_cursor": None}


async def test_replay_of_range_ignores_deliveries_being_sent(api, db, webhook):
    delivery = await deliver(db, webhook)
    await db.execute(CLAIM, delivery)

    answer = await api.post(path(webhook, "replay"), json={"since": "2026-01-01T00:00:00Z", "statuses": ["pending"]})

    assert answer.json()["replayed"] == 0
    row = await row_of(db, delivery)
    assert row["next_at"] > row["now"]


async def test_replay_concurrent_with_failure_sends_again(api, db, settings, webhook):
    delivery = await deliver(db, webhook, **{**FAILED, "status": "delivered"})
    async with connection_of(settings) as sender:
        # It was replayed before, and a worker is just recording that it failed again.
        ending = sender.transaction()
        await ending.start()
        await sender.execute("UPDATE webhook_deliveries SET status = 'failed', tries = tries + 1")
        replaying = asyncio.create_task(api.post(path(webhook, "deliveries", str(delivery), "replay")))
        await blocked(db)

        await ending.commit()
        answer = await replaying

    assert (answer.json()["status"], answer.json()["tries"]) == ("pending", 10)


async def test_concurrent_replays_never_send_a_delivery_twice_at_once(api, db, webhook):
    ids = [await deliver(db, webhook, **FAILED) for _ in range(10)]
    sending, doubled = set(), []

    async def send(delivery):
        for _ in range(8):
            if await db.execute(CLAIM + " AND next_at <= now()", delivery) == "UPDATE 1":
                doubled.extend({delivery} & sending)
                sending.add(delivery)
                await asyncio.sleep(0)
                sending.discard(delivery)
                await db.execute(
                    "UPDATE webhook_deliveries SET sending = false, status = 'failed' WHERE id = $1", delivery
                )

    async def ask(delivery):
        for _ in range(4):
            await api.post(path(webhook, "deliveries", str(delivery), "replay"))
            await api.post(path(webhook, "replay"), json={"since": "2026-01-01T00:00:00Z"})

    await asyncio.gather(*(call(delivery) for delivery in ids for call in (send, send, ask)))

    rows = await db.fetch("SELECT tries, sending FROM webhook_deliveries")
    assert doubled == []
    assert not any(row["sending"] for row in rows)
    assert sum(row["tries"] for row in rows) > 9 * len(ids)


async def test_range_of_time_is_replayed(api, db, bell, webhook):
    def made(hours, **columns):
        return deliver(db, webhook, **{**FAILED, "created_at": LONG_AGO + timedelta(hours=hours), **columns})

    early, first, last, later = [await made(hours) for hours in (-1, 0, 1, 2)]
    done = await made(1, status="delivered")
    other = await made(1, type="media.canceled")
    body = {"since": "2026-01-01T00:00:00Z", "until": "2026-01-01T03:00:00+01:00"}

    async def pending():
        return {found["id"] for found in await db.fetch("SELECT id FROM webhook_deliveries WHERE status = 'pending'")}

    some = await api.post(path(webhook, "replay"), json={**body, "types": ["media.completed"]})
    assert (some.status_code, some.json()) == (202, {"replayed": 2, "next_cursor": None})
    assert await pending() == {first, last}
    assert bell.rings == [WEBHOOKS]

    more = await api.post(path(webhook, "replay"), json={**body, "statuses": ["failed", "delivered"]})
    assert more.json()["replayed"] == 2
    assert await pending() == {first, last, done, other}

    rest = await api.post(path(webhook, "replay"), json={"since": "2026-01-01T00:00:00Z"})
    assert rest.json()["replayed"] == 1
    assert await pending() == {first, last, done, other, later}
    assert (await row_of(db, early))["status"] == "failed"


async def test_replay_of_range_continues_with_cursor(api, db, webhook, monkeypatch):
    parts = delivery_log._REPLAY_RANGE.replace("10001", "4").replace("10000", "3")
    monkeypatch.setattr(delivery_log, "_REPLAY_RANGE", parts)
    for _ in range(7):
        await deliver(db, webhook, **{**FAILED, "status": "delivered", "created_at": LONG_AGO})

    counts, cursor = [], None
    while not counts or cursor is not None:
        body = {"since": "2026-01-01T00:00:00Z", "statuses": ["delivered"], "cursor": cursor}
        answer = (await api.post(path(webhook, "replay"), json=body)).json()
        counts.append(answer["replayed"])
        cursor = answer["next_cursor"]
        # Those replayed are delivered again meanwhile: they must not be counted once more.
        await db.execute("UPDATE webhook_deliveries SET status = 'delivered' WHERE status = 'pending'")

    assert counts == [3, 3, 1]


WRONG_RANGES = [
    ({}, "since"),
    ({"since": 5}, "since"),
    ({"since": "5"}, "since"),
    ({"since": "2026-01-01T00:00:00"}, "since"),
    ({"since": "0001-01-01T00:00:00+05:00"}, "since"),
    ({"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, "body"),
    ({"since": "2026-01-01T00:00:00Z", "statuses": []}, "statuses"),
    ({"since": "2026-01-01T00:00:00Z", "types": ["x"]}, "types.0"),
    ({"since": "2026-01-01T00:00:00Z", "cursor": "x"}, "cursor"),
    ({"since": "2026-01-01T00:00:00Z", "status": "failed"}, "status"),
]


async def test_invalid_range_replays_nothing(api, db, webhook):
    delivery = await deliver(db, webhook, **FAILED)

    for body, field in WRONG_RANGES:
        answer = await api.post(path(webhook, "replay"), json=body)

        assert answer.status_code == 422, body
        assert answer.json()["errors"][0]["field"] == field
    assert (await row_of(db, delivery))["status"] == "failed"

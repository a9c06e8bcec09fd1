"""Callbacks: verified, recorded, and followed by a poll at once; a lost call loses nothing."""

import asyncio
import re

import pytest

from app.core.ids import new_id
from app.jobs.callbacks import signing_keys
from app.jobs.transitions.callback import record_callback
from app.media_generator.registry import Registry
from tests.calling_provider import CallingProvider, media_judged_not_sent, polled_media, signature_headers
from tests.support import attempts_of, eventually, make_settings


@pytest.fixture
def settings(engines, database):
    # Providers reach the API at another address than this test.
    return make_settings(engines, database_url=database, callback_url="https://fleek.example", reconcile_seconds=20)


@pytest.fixture
def provider():
    return CallingProvider()


@pytest.fixture
def registry(provider):
    return Registry([provider])


@pytest.fixture
async def worker(provider, working, db, monkeypatch):
    # The first poll comes at once, so that only a callback causes another.
    monkeypatch.setattr("app.jobs.execution.executor.CALLBACK_WAITS", (0.1, 30.0))
    runner = await working(provider)
    await eventually(lambda: signing_keys.keys_of(db, "dummy"))
    return runner


async def test_callback_makes_the_worker_poll_at_once(api, client, provider, worker):
    media, attempt_id = await polled_media(client, provider)
    provider.done = True

    answer = await provider.call_back(api, attempt_id)

    assert (answer.status_code, answer.content) == (204, b"")
    assert (await client.until(media))["status"] == "COMPLETED"
    (attempt,) = await attempts_of(client, media)
    assert attempt["status"] == "SUCCEEDED"


async def test_callback_url_is_the_attempts_own(client, provider, worker):
    _, attempt_id = await polled_media(client, provider)

    url = provider.submitted[attempt_id].callback_url
    assert re.fullmatch(f"https://fleek.example/media/callbacks/dummy/{attempt_id}/[0-9a-f]{{64}}", url)


async def test_recorded_callback_is_found_without_a_notification(client, provider, worker, db):
    media, attempt_id = await polled_media(client, provider)
    provider.done = True

    # As if the API died, or Redis was down, right after it was recorded.
    assert await record_callback(db, attempt_id, "dummy")

    assert (await client.until(media))["status"] == "COMPLETED"
    (row,) = await db.fetch("SELECT called_back FROM attempts")
    assert row["called_back"] is False


async def test_callback_names_a_purchase_whose_answer_was_lost(api, client, provider, worker):
    provider.loses_answers = provider.done = True
    media = await client.faulty()
    await eventually(lambda: asyncio.sleep(0, provider.submitted))
    (attempt_id,) = provider.submitted

    assert (await provider.call_back(api, attempt_id, b"bought-17")).status_code == 204

    done = await client.until(media)
    (attempt,) = await attempts_of(client, media)
    assert (done["status"], attempt["external_id"], len(provider.submitted)) == ("COMPLETED", "bought-17", 1)


async def test_late_callback_names_a_purchase_held_as_unknown(settings, api, client, provider, working):
    provider.loses_answers = provider.done = True
    await working(provider, reconcile_seconds=0.1)
    media = await client.until(await client.faulty())
    assert media["error"]["code"] == "outcome_unknown"
    (attempt_id,) = provider.submitted

    await eventually(
        lambda: provider.call_back(api, attempt_id, b"bought-18"), lambda answer: answer.status_code == 204
    )

    stored = await eventually(lambda: client.media(media), lambda seen: seen["files"])
    assert stored["status"] == "ERROR"
    retried = await client.api.post(f"/media/{media['id']}/retry")
    assert retried.status_code == 202
    assert ((await client.until(media))["status"], len(provider.submitted)) == ("COMPLETED", 1)


async def test_callback_disproves_not_sent_before_the_next_attempt(api, client, provider, working):
    await working(provider, retry_base_seconds=3600, retry_max_seconds=3600)
    media, attempt_id = await media_judged_not_sent(client, provider, status="IN_QUEUE")

    assert (await provider.call_back(api, attempt_id, b"bought-19")).status_code == 204

    done = await client.until(media)
    (attempt,) = await attempts_of(client, media)
    assert (done["status"], done["number_of_tries"], len(provider.submitted)) == ("COMPLETED", 1, 1)
    assert (attempt["status"], attempt["external_id"], attempt["error"]) == ("SUCCEEDED", "bought-19", None)


async def test_purchase_named_by_callback_completes_a_failed_media_at_no_cost(api, client, provider, working):
    await working(provider, max_tries=1)
    media, attempt_id = await media_judged_not_sent(client, provider, status="ERROR")

    assert (await provider.call_back(api, attempt_id, b"bought-20")).status_code == 204

    stored = await eventually(lambda: client.media(media), lambda seen: seen["files"])
    assert stored["status"] == "ERROR"
    assert (await client.api.post(f"/media/{media['id']}/retry")).status_code == 202
    assert ((await client.until(media, "COMPLETED"))["status"], len(provider.submitted)) == ("COMPLETED", 1)


async def test_callback_corrects_a_cancel_reported_at_no_cost(api, client, provider, working):
    await working(provider, retry_base_seconds=3600, retry_max_seconds=3600)
    media, attempt_id = await media_judged_not_sent(client, provider, status="IN_QUEUE")
    await client.api.post(f"/media/{media['id']}/cancel")
    before = await client.until(media)

    assert (await provider.call_back(api, attempt_id, b"bought-22")).status_code == 204

    after = await client.media(media)
    assert before["cancel"] == {"answer": "canceled", "money_spent": "no"}
    assert (after["status"], after["cancel"]) == ("CANCELED", {"answer": "canceled", "money_spent": "yes"})
    assert after["updated_at"] > before["updated_at"]


async def test_callback_is_recorded_beside_another_purchase(api, client, provider, worker):
    provider.denials, provider.done = 1, True
    media = await client.faulty()
    done = await client.until(media)
    attempt_id, _ = provider.submitted

    assert (await provider.call_back(api, attempt_id, b"bought-21")).status_code == 204

    first, second = await attempts_of(client, media)
    assert (first["status"], first["external_id"], first["sent"]) == ("UNKNOWN", "bought-21", "YES")
    assert (done["status"], second["status"]) == ("COMPLETED", "SUCCEEDED")
    assert (await client.media(media))["files"] == done["files"]


@pytest.mark.parametrize("headers", [{"x-signature": "00"}, {"x-other": "1"}])
async def test_callback_with_a_wrong_signature_changes_nothing(api, client, provider, worker, db, headers):
    media, attempt_id = await polled_media(client, provider)

    answer = await provider.call_back(api, attempt_id, b"stolen", **headers)

    assert (answer.status_code, answer.json()["code"]) == (401, "callback_refused")
    (row,) = await db.fetch("SELECT called_back, external_id FROM attempts")
    assert (row["called_back"], row["external_id"]) == (False, f"dummy-{attempt_id}")
    assert (await client.media(media))["status"] == "PROCESSING"


async def test_callback_at_a_url_without_a_secret_binds_nothing(api, client, provider, working, db):
    provider.loses_answers = True
    await working(provider)
    await client.faulty()
    await eventually(lambda: asyncio.sleep(0, provider.submitted))
    (attempt_id,) = provider.submitted
    path = f"/media/callbacks/dummy/{attempt_id}"

    answer = await api.post(path, content=b"bought-40", headers=signature_headers(b"bought-40"))

    assert answer.status_code == 204
    (row,) = await db.fetch("SELECT called_back, external_id FROM attempts")
    assert row["external_id"] is None


@pytest.mark.parametrize("secret", ["0" * 64, "another attempt's"])
async def test_callback_at_a_url_with_a_wrong_secret_is_refused(api, client, provider, worker, db, secret):
    _, attempt_id = await polled_media(client, provider)
    headers = signature_headers(b"stolen")

    answer = await api.post(f"/media/callbacks/dummy/{attempt_id}/{secret}", content=b"stolen", headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (401, "callback_refused")
    (row,) = await db.fetch("SELECT called_back FROM attempts")
    assert row["called_back"] is False


async def test_callback_that_names_a_purchase_of_another_attempt_binds_nothing(api, client, provider, working, db):
    await working(provider)
    _, first = await polled_media(client, provider)
    provider.loses_answers = True
    await client.faulty()
    await eventually(lambda: asyncio.sleep(0, len(provider.submitted) == 2))
    second = next(one for one in provider.submitted if one != first)

    # As if a genuine call were repeated at the URL of another attempt.
    answer = await provider.call_back(api, second, f"dummy-{first}".encode())

    assert answer.status_code == 204
    rows = await db.fetch("SELECT id FROM attempts WHERE external_id IS NOT NULL")
    assert [row["id"] for row in rows] == [first]


async def test_callback_cannot_replace_a_known_purchase(api, client, provider, worker, db):
    _, attempt_id = await polled_media(client, provider)

    assert (await provider.call_back(api, attempt_id, b"another")).status_code == 204

    (row,) = await db.fetch("SELECT external_id FROM attempts")
    assert row["external_id"] == f"dummy-{attempt_id}"


async def test_late_or_repeated_callback_is_no_error_and_no_event(api, client, provider, worker, db):
    media, attempt_id = await polled_media(client, provider)
    provider.done = True
    await provider.call_back(api, attempt_id)
    done = await client.until(media)
    before = await db.fetch("SELECT id FROM media_history")

    answers = [
        await provider.call_back(api, attempt_id),
        await provider.call_back(api, attempt_id),
        await provider.call_back(api, new_id()),
    ]

    assert [answer.status_code for answer in answers] == [204] * 3
    assert await client.media(media) == done
    assert await db.fetch("SELECT id FROM media_history") == before


@pytest.mark.parametrize(("provider_name", "status"), [("nobody", 404), ("a%2Fb", 422)])
async def test_callback_of_an_unknown_provider_is_refused(api, provider_name, status):
    answer = await api.post(f"/media/callbacks/{provider_name}/{new_id()}", content=b"")

    assert answer.status_code == status


async def test_callback_with_too_large_a_body_is_refused(api, provider):
    answer = await provider.call_back(api, new_id(), b"x" * (8 * 1024 * 1024 + 1))

    assert (answer.status_code, answer.json()["code"]) == (413, "content_too_large")


async def test_keys_are_fetched_again_when_a_signature_does_not_match(api, client, provider, worker, db):
    _, attempt_id = await polled_media(client, provider)
    provider.keys = ["second"]
    await db.execute("UPDATE provider_keys SET fetched_at = now() - interval '1 hour' WHERE provider = 'dummy'")
    body = b""
    assert (await provider.call_back(api, attempt_id, body, **signature_headers(body, "second"))).status_code == 401

    (row,) = await db.fetch(
        "SELECT fetched_at = '-infinity' AS invalidated FROM provider_keys WHERE provider = 'dummy'"
    )

    assert row["invalidated"]
    await worker._parts.callbacks.fetch_keys()
    assert (await provider.call_back(api, attempt_id, body, **signature_headers(body, "second"))).status_code == 204

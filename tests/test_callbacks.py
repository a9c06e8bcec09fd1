"""Providers call back: the call is checked, noted, and the worker that waits asks at once. Lost calls lose nothing."""

import asyncio
import hashlib
import hmac
from dataclasses import replace
from datetime import timedelta

import pytest

from app.core.ids import new_id
from app.jobs.callbacks import signing_keys
from app.media_generator.dummy_media_generator.provider import DummyMediaGeneratorModel
from app.media_generator.registry import Registry
from fleek.providers import AnswerLostError, CallbackRefusedError, NotReachedError, Reference, Running
from tests.support import attempts_of, eventually, make_settings

DUMMY = DummyMediaGeneratorModel.capabilities


def signed(body, key="first"):
    return {"x-signature": hmac.new(key.encode(), body, hashlib.sha256).hexdigest()}


class Calling(DummyMediaGeneratorModel):
    """Says of each purchase that it is to be asked again in an hour, until it is done."""

    capabilities = replace(DUMMY, webhook=True, findable=False, submit_timeout=timedelta(seconds=1))

    def __init__(self):
        super().__init__()
        self.sold = {}
        self.done = False
        self.loses = False
        self.lies = 0
        self.polls = 0
        self.keys = ["first"]

    async def submit(self, submission):
        self.sold[submission.attempt_id] = submission
        reference = await super().submit(submission)
        if self.lies:
            self.lies -= 1
            raise NotReachedError("it never got the request")
        if self.loses:
            raise AnswerLostError("the answer was lost")
        return reference

    async def poll(self, reference):
        self.polls += 1
        return await super().poll(reference) if self.done else Running(wait=timedelta(hours=1))

    async def callback_keys(self):
        return self.keys

    def read_callback(self, callback, keys):
        expected = [signed(callback.body, key)["x-signature"] for key in keys]
        if callback.headers.get("x-signature") not in expected:
            raise CallbackRefusedError("the signature does not fit")
        if not callback.body:
            return None
        submission = self.sold[callback.attempt_id]
        return Reference(callback.body.decode(), DummyReference.data_of(submission))


class DummyReference:
    @staticmethod
    def data_of(submission):
        order = {"model": submission.model, "number": 1, "prompt": submission.prompt, "submitted_at": 0}
        return {**order, "input": dict(submission.input)}


@pytest.fixture
def settings(engines, database):
    # Where providers reach the API is not where this test does.
    return make_settings(engines, database_url=database, callback_url="https://fleek.example", reconcile_seconds=20)


@pytest.fixture
def provider():
    return Calling()


@pytest.fixture
def registry(provider):
    return Registry([provider])


@pytest.fixture
async def at_work(provider, working, db, monkeypatch):
    # The first question comes at once, so that none but a callback brings another.
    monkeypatch.setattr("app.jobs.execution.executor.SAFETY_NET", (0.1, 30.0))
    runner = await working(provider)
    await eventually(lambda: signing_keys.keys_of(db, "dummy"))
    return runner


async def waiting(client, provider):
    """A media whose provider has been asked once, and is not asked again by itself."""
    media = await client.faulty()
    await eventually(lambda: asyncio.sleep(0, provider.polls))
    (attempt_id,) = provider.sold
    return media, attempt_id


async def call(api, attempt_id, body=b"", **headers):
    path = f"/media/callbacks/dummy/{attempt_id}"
    return await api.post(path, content=body, headers=headers or signed(body))


async def test_a_callback_makes_the_worker_ask_at_once(api, client, provider, at_work):
    media, attempt_id = await waiting(client, provider)
    provider.done = True

    answer = await call(api, attempt_id)

    assert (answer.status_code, answer.content) == (204, b"")
    assert (await client.until(media))["status"] == "COMPLETED"
    (attempt,) = await attempts_of(client, media)
    assert attempt["status"] == "SUCCEEDED"


async def test_the_provider_is_told_an_address_that_is_the_attempts_own(client, provider, at_work):
    _, attempt_id = await waiting(client, provider)

    assert provider.sold[attempt_id].callback_url == f"https://fleek.example/media/callbacks/dummy/{attempt_id}"


async def test_a_note_that_nobody_was_told_of_is_found(client, provider, at_work, db):
    media, attempt_id = await waiting(client, provider)
    provider.done = True

    # As when the API dies, or Redis is away, right after the note.
    assert await signing_keys.note(db, attempt_id, "dummy")

    assert (await client.until(media))["status"] == "COMPLETED"
    (row,) = await db.fetch("SELECT called_back FROM attempts")
    assert row["called_back"] is False


async def test_a_callback_brings_a_purchase_whose_answer_was_lost(api, client, provider, at_work):
    provider.loses = provider.done = True
    media = await client.faulty()
    await eventually(lambda: asyncio.sleep(0, provider.sold))
    (attempt_id,) = provider.sold

    assert (await call(api, attempt_id, b"bought-17")).status_code == 204

    done = await client.until(media)
    (attempt,) = await attempts_of(client, media)
    assert (done["status"], attempt["external_id"], len(provider.sold)) == ("COMPLETED", "bought-17", 1)


async def test_a_purchase_that_was_held_as_unknown_is_brought_by_a_late_callback(
    settings, api, client, provider, working
):
    provider.loses = provider.done = True
    await working(provider, reconcile_seconds=0.1)
    media = await client.until(await client.faulty())
    assert media["error"]["code"] == "outcome_unknown"
    (attempt_id,) = provider.sold

    await eventually(lambda: call(api, attempt_id, b"bought-18"), lambda answer: answer.status_code == 204)

    stored = await eventually(lambda: client.media(media), lambda seen: seen["files"])
    assert stored["status"] == "ERROR"
    retried = await client.api.post(f"/media/{media['id']}/retry")
    assert retried.status_code == 202
    assert ((await client.until(media))["status"], len(provider.sold)) == ("COMPLETED", 1)


async def said_to_be_unsold(client, provider, *, status):
    """A media after a try of which everybody says that it sold nothing, although it did."""
    provider.lies, provider.done = 1, True
    media = await client.faulty()
    await eventually(lambda: client.media(media), lambda seen: (seen["status"], seen["number_of_tries"]) == (status, 1))
    (attempt_id,) = provider.sold
    return media, attempt_id


async def test_a_callback_disproves_that_nothing_was_bought_before_it_is_bought_again(api, client, provider, working):
    await working(provider, retry_base_seconds=3600, retry_max_seconds=3600)
    media, attempt_id = await said_to_be_unsold(client, provider, status="IN_QUEUE")

    assert (await call(api, attempt_id, b"bought-19")).status_code == 204

    done = await client.until(media)
    (attempt,) = await attempts_of(client, media)
    assert (done["status"], done["number_of_tries"], len(provider.sold)) == ("COMPLETED", 1, 1)
    assert (attempt["status"], attempt["external_id"], attempt["error"]) == ("SUCCEEDED", "bought-19", None)


async def test_what_was_bought_all_the_same_completes_a_failed_media_for_nothing(api, client, provider, working):
    await working(provider, max_tries=1)
    media, attempt_id = await said_to_be_unsold(client, provider, status="ERROR")

    assert (await call(api, attempt_id, b"bought-20")).status_code == 204

    stored = await eventually(lambda: client.media(media), lambda seen: seen["files"])
    assert stored["status"] == "ERROR"
    assert (await client.api.post(f"/media/{media['id']}/retry")).status_code == 202
    assert ((await client.until(media, "COMPLETED"))["status"], len(provider.sold)) == ("COMPLETED", 1)


async def test_what_was_cancelled_for_nothing_turns_out_to_have_cost_money(api, client, provider, working):
    await working(provider, retry_base_seconds=3600, retry_max_seconds=3600)
    media, attempt_id = await said_to_be_unsold(client, provider, status="IN_QUEUE")
    await client.api.post(f"/media/{media['id']}/cancel")
    before = await client.until(media)

    assert (await call(api, attempt_id, b"bought-22")).status_code == 204

    after = await client.media(media)
    assert before["cancel"] == {"answer": "canceled", "money_spent": "no"}
    assert (after["status"], after["cancel"]) == ("CANCELED", {"answer": "canceled", "money_spent": "yes"})
    assert after["updated_at"] > before["updated_at"]


async def test_beside_another_purchase_the_fact_is_written_down(api, client, provider, at_work):
    provider.lies, provider.done = 1, True
    media = await client.faulty()
    done = await client.until(media)
    attempt_id, _ = provider.sold

    assert (await call(api, attempt_id, b"bought-21")).status_code == 204

    first, second = await attempts_of(client, media)
    assert (first["status"], first["external_id"], first["sent"]) == ("UNKNOWN", "bought-21", "YES")
    assert (done["status"], second["status"]) == ("COMPLETED", "SUCCEEDED")
    assert (await client.media(media))["files"] == done["files"]


@pytest.mark.parametrize("headers", [{"x-signature": "00"}, {"x-other": "1"}])
async def test_a_callback_that_is_not_the_providers_changes_nothing(api, client, provider, at_work, db, headers):
    media, attempt_id = await waiting(client, provider)

    answer = await call(api, attempt_id, b"stolen", **headers)

    assert (answer.status_code, answer.json()["code"]) == (401, "callback_refused")
    (row,) = await db.fetch("SELECT called_back, external_id FROM attempts")
    assert (row["called_back"], row["external_id"]) == (False, f"dummy-{attempt_id}")
    assert (await client.media(media))["status"] == "PROCESSING"


async def test_a_callback_names_no_other_purchase_once_one_is_known(api, client, provider, at_work, db):
    _, attempt_id = await waiting(client, provider)

    assert (await call(api, attempt_id, b"another")).status_code == 204

    (row,) = await db.fetch("SELECT external_id FROM attempts")
    assert row["external_id"] == f"dummy-{attempt_id}"


async def test_what_comes_too_late_or_twice_is_no_error_and_no_event(api, client, provider, at_work, db):
    media, attempt_id = await waiting(client, provider)
    provider.done = True
    await call(api, attempt_id)
    done = await client.until(media)
    before = await db.fetch("SELECT id FROM media_history")

    answers = [await call(api, attempt_id), await call(api, attempt_id), await call(api, new_id())]

    assert [answer.status_code for answer in answers] == [204] * 3
    assert await client.media(media) == done
    assert await db.fetch("SELECT id FROM media_history") == before


@pytest.mark.parametrize(("provider_name", "status"), [("nobody", 404), ("a%2Fb", 422)])
async def test_nobody_else_calls_back(api, provider_name, status):
    answer = await api.post(f"/media/callbacks/{provider_name}/{new_id()}", content=b"")

    assert answer.status_code == status


async def test_a_body_without_end_is_refused(api):
    answer = await call(api, new_id(), b"x" * (8 * 1024 * 1024 + 1))

    assert (answer.status_code, answer.json()["code"]) == (413, "content_too_large")


async def test_new_keys_are_fetched_when_a_signature_does_not_fit(api, client, provider, at_work, db):
    _, attempt_id = await waiting(client, provider)
    provider.keys = ["second"]
    await db.execute("UPDATE provider_keys SET fetched_at = fetched_at - interval '10 minutes'")
    body = b""
    assert (await call(api, attempt_id, body, **signed(body, "second"))).status_code == 401

    (row,) = await db.fetch("SELECT fetched_at = '-infinity' AS doubted FROM provider_keys")

    assert row["doubted"]
    await at_work._hearing.fetch_keys()
    assert (await call(api, attempt_id, body, **signed(body, "second"))).status_code == 204

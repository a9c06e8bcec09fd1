"""Idempotency-Key: a repeated request creates nothing new."""

import asyncio
from datetime import timedelta

import pytest

from app.idempotency import keys
from app.idempotency.keys import HEADER, REPLAYED, read_key
from app.media.api.schemas import MediaIn, identity

BODY = {"prompt": "a lighthouse", "metadata": {"a": 1, "b": 2}}


async def request(client, key, body=BODY):
    return await client.api.post("/media/generate", json=body, headers={HEADER: key})


async def count(db):
    return (await db.fetchrow("SELECT count(*) FROM media"))[0]


async def test_repeated_request_with_same_key_returns_the_first_media(client, db, bell):
    first = await request(client, "order-17")

    again = await request(client, "order-17", {"metadata": {"b": 2, "a": 1}, "prompt": "a lighthouse"})

    assert REPLAYED not in first.headers
    assert (again.status_code, again.headers[REPLAYED]) == (202, "true")
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    assert await count(db) == 1
    assert len(bell.rings) == 1


async def test_repeated_request_returns_finished_media(product):
    done = await product.until((await request(product, "k", {"prompt": "x", "model": "dummy/faulty"})).json())

    again = await request(product, "k", {"prompt": "x", "model": "dummy/faulty"})

    assert again.json() == done


@pytest.mark.parametrize("other", [{"prompt": "another"}, {**BODY, "input": {"seed": 1}}, {**BODY, "metadata": {}}])
async def test_different_request_with_same_key_is_refused(client, db, other):
    await request(client, "k")

    answer = await request(client, "k", other)

    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert await count(db) == 1


async def test_concurrent_requests_with_same_key_create_one_media(client, db):
    for number in range(5):
        answers = await asyncio.gather(*(request(client, f"race-{number}") for _ in range(8)))

        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert sum(REPLAYED not in answer.headers for answer in answers) == 1
    assert await count(db) == 5


async def test_refused_request_does_not_use_its_key(client):
    refused = await request(client, "k", {"prompt": "x", "input": {"width": 1}})
    answer = await request(client, "k")

    assert (refused.status_code, answer.status_code) == (422, 202)


async def test_expired_key_can_name_a_new_request(client, db):
    first = await request(client, "k")
    await db.execute("UPDATE idempotency_keys SET created_at = now() - interval '25 h'")

    again = await request(client, "k", {"prompt": "another"})

    assert again.status_code == 202
    assert again.json()["id"] != first.json()["id"]


async def test_expired_keys_are_deleted_and_their_media_stay(client, db):
    await request(client, "old")
    await db.execute("UPDATE idempotency_keys SET created_at = now() - interval '25 h'")
    await request(client, "new")

    await keys.delete_expired(db, timedelta(hours=24))

    assert [row[0] for row in await db.fetch("SELECT key FROM idempotency_keys")] == ["new"]
    assert await count(db) == 2


async def test_keys_of_owners_are_separate(client, db):
    await request(client, "k")
    await db.execute("UPDATE idempotency_keys SET owner_id = gen_random_uuid()")

    assert REPLAYED not in (await request(client, "k")).headers


@pytest.mark.parametrize("key", ["", "with space", "x" * 256, "ümlaut".encode()])
async def test_invalid_key_is_refused(client, db, key):
    answer = await request(client, key)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_idempotency_key")
    assert await count(db) == 0


class NewerMediaIn(MediaIn):
    """As a later version may have it."""

    title: str | None = None


def test_key_still_fits_after_an_update_that_adds_a_field():
    before = MediaIn(**BODY)

    assert identity(NewerMediaIn(**BODY)) == identity(before)
    assert identity(NewerMediaIn(**BODY, title=None)) == identity(before)
    assert identity(NewerMediaIn(**BODY, title="dawn")) != identity(before)


def test_fingerprint_of_a_request_never_changes():
    # Stored with every key: another value would refuse all repetitions after an update.
    key = read_key("k", identity(MediaIn(**BODY)))

    assert key.fingerprint == "a4e563a6428b1975bb65bdcb04eff9f54f72a257e45705412368476b06b27102"

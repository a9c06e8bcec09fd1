"""Idempotency-Key: a repeated request creates nothing new."""

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import pytest

from app.idempotency import keys
from app.idempotency.keys import EXPIRES, HEADER, REPLAYED, read_key
from app.media.api.schemas import MediaIn, identity
from tests.support import Client

LIFETIME = timedelta(days=30)
BODY = {"prompt": "a lighthouse", "metadata": {"a": 1, "b": 2}}


async def request(client, key, body=BODY):
    return await client.api.post("/media/generate", json=body, headers={} if key is None else {HEADER: key})


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


async def test_repeated_request_joins_however_late(client, db, bell):
    first = await request(client, "nightly")
    await db.execute("UPDATE idempotency_keys SET created_at = now() - interval '400 days'")
    await db.execute("UPDATE media SET created_at = now() - interval '400 days'")
    await keys.delete_expired(db, LIFETIME)

    again = await request(client, "nightly")
    other = await request(client, "nightly", {"prompt": "another"})

    assert (again.status_code, again.json()["id"], again.headers[REPLAYED]) == (202, first.json()["id"], "true")
    assert parsedate_to_datetime(again.headers[EXPIRES]) < datetime.now(UTC)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert (await count(db), len(bell.rings)) == (1, 1)


@pytest.mark.parametrize("days", [30, 365])
async def test_answer_says_until_when_its_key_is_kept_at_least(api_of, days):
    client = Client(await api_of(None, idempotency_days=days))

    first, again, without = [await request(client, "k"), await request(client, "k"), await request(client, None)]

    created = datetime.fromisoformat(first.json()["created_at"]).replace(microsecond=0)
    assert parsedate_to_datetime(first.headers[EXPIRES]) == created + timedelta(days=days)
    assert again.headers[EXPIRES] == first.headers[EXPIRES]
    assert EXPIRES not in without.headers


async def test_key_outlives_its_deleted_media_and_is_free_after_that(client, db):
    await request(client, "k")
    await db.execute("DELETE FROM media")
    await keys.delete_expired(db, LIFETIME)

    early = await request(client, "k")
    await db.execute("UPDATE idempotency_keys SET created_at = now() - interval '31 days'")
    late = await request(client, "k")

    assert (early.status_code, early.json()["code"]) == (409, "idempotency_key_spent")
    assert (late.status_code, REPLAYED in late.headers) == (202, False)
    assert await count(db) == 1


async def test_only_expired_keys_without_media_are_deleted(client, db):
    for name in ("alive", "alive-and-old", "deleted", "deleted-and-old"):
        await request(client, name)
    await db.execute("DELETE FROM media WHERE id IN (SELECT media_id FROM idempotency_keys WHERE key LIKE 'deleted%')")
    await db.execute("UPDATE idempotency_keys SET created_at = now() - interval '31 days' WHERE key LIKE '%old'")

    await keys.delete_expired(db, LIFETIME)

    found = {row[0] for row in await db.fetch("SELECT key FROM idempotency_keys")}
    assert found == {"alive", "alive-and-old", "deleted"}


async def test_no_sweep_reads_the_keys_whose_media_are_there(client, db):
    await request(client, "k")
    await db.execute(
        """INSERT INTO idempotency_keys SELECT owner_id, 'key ' || n, fingerprint, media_id, now() - interval '1 year'
        FROM idempotency_keys, generate_series(1, 20000) n"""
    )
    await db.execute("ANALYZE idempotency_keys")

    plan = "\n".join(row[0] for row in await db.fetch(f"EXPLAIN {keys.DELETE_EXPIRED}", LIFETIME))

    assert "ix_idempotency_keys_without_media" in plan
    assert "Seq Scan on idempotency_keys" not in plan


async def test_several_keys_are_refused(client, db):
    answer = await client.api.post("/media/generate", json=BODY, headers=[(HEADER, "a"), (HEADER, "b")])

    assert (answer.status_code, answer.json()["code"]) == (400, "ambiguous_header")
    assert await count(db) == 0


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

"""A purchase that turns up in the moment in which its media moves on: nothing is bought twice, nobody is to blame."""

import asyncio
import contextlib
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import asyncpg
import msgspec
import pytest

from app.core.ids import new_id
from app.jobs.callbacks import signing_keys
from app.jobs.transitions.attempt import _PURCHASE
from app.media_generator.registry import Registry
from fleek.providers import BusyError, Reference
from tests.support import attempts_of, eventually, make_settings
from tests.test_callbacks import Calling, DummyReference, call, said_to_be_unsold

PATIENT = {"retry_base_seconds": 3600, "retry_max_seconds": 3600}


class OneAtATime(Calling):
    """Lies about the first request, and refuses the second because it works at the first."""

    capabilities = replace(Calling.capabilities, submit_timeout=timedelta(seconds=60))

    def __init__(self):
        super().__init__()
        self.asked_again, self.may_answer = asyncio.Event(), asyncio.Event()

    async def submit(self, submission):
        if self.sold and not self.may_answer.is_set():
            self.asked_again.set()
            await self.may_answer.wait()
            raise BusyError("429: one at a time")
        return await super().submit(submission)


@pytest.fixture
def settings(engines, database):
    return make_settings(engines, database_url=database, callback_url="https://fleek.example")


@pytest.fixture
def provider(request):
    return getattr(request, "param", Calling)()


@pytest.fixture
def registry(provider):
    return Registry([provider])


@contextlib.asynccontextmanager
async def not_committed_yet(database):
    """A connection of another process that commits when the block ends."""
    connection = await asyncpg.connect(database)
    try:
        async with connection.transaction():
            yield connection
    finally:
        await connection.close()


async def somebody_waits(db):
    waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    await eventually(lambda: db.fetch(waiting))


async def unsold(client, provider, working, db):
    await working(provider, **PATIENT)
    await eventually(lambda: signing_keys.keys_of(db, "dummy"))
    return await said_to_be_unsold(client, provider, status="IN_QUEUE")


async def test_a_try_that_was_just_to_begin_leaves_the_field_to_the_purchase(client, provider, working, db, database):
    media, attempt_id = await unsold(client, provider, working, db)
    bought = msgspec.json.encode(Reference("bought-30", DummyReference.data_of(provider.sold[attempt_id]))).decode()

    async with not_committed_yet(database) as other:
        await other.execute(_PURCHASE, [attempt_id], ["bought-30"], [bought])
        await db.execute("UPDATE media SET next_run = now()")
        await somebody_waits(db)

    done = await client.until(media)
    (row,) = await db.fetch("SELECT takeovers FROM media")
    history = (await client.api.get(f"/media/{media['id']}/history")).json()["items"]
    assert (done["status"], done["number_of_tries"], len(provider.sold)) == ("COMPLETED", 1, 1)
    assert [item["detail"] for item in history if item["event"] == "returned"] == [{"reason": "already_purchased"}]
    assert row["takeovers"] == 0


async def test_a_callback_in_the_moment_of_another_intent_is_written_down(api, client, provider, working, db, database):
    media, attempt_id = await unsold(client, provider, working, db)

    async with not_committed_yet(database) as other:
        await other.execute(
            "INSERT INTO attempts (id, media_id, number, status, model, input_hash)"
            " VALUES ($1, $2, 2, 'INTENDED', 'dummy/faulty', '')",
            new_id(),
            UUID(media["id"]),
        )
        calling = asyncio.create_task(call(api, attempt_id, b"bought-31"))
        await somebody_waits(db)

    assert (await calling).status_code == 204
    first, second = await attempts_of(client, media)
    assert (first["status"], first["external_id"], second["status"]) == ("UNKNOWN", "bought-31", "INTENDED")


async def test_a_callback_is_in_nobodys_way(api, client, provider, working, db, database):
    media, attempt_id = await unsold(client, provider, working, db)

    # As whoever ends a media does: first the media, then its attempts.
    async with not_committed_yet(database) as other:
        await other.execute("SELECT FROM media FOR UPDATE")
        calling = asyncio.create_task(call(api, attempt_id, b"bought-32"))
        await somebody_waits(db)
        await other.execute("SELECT FROM attempts FOR UPDATE")

    assert (await calling).status_code == 204
    assert (await client.until(media))["status"] == "COMPLETED"


@pytest.mark.parametrize("provider", [OneAtATime], indirect=True)
async def test_a_try_that_was_refused_gives_way_to_a_purchase_that_is_known(api, client, provider, working, db):
    provider.lies, provider.done = 1, True
    await working(provider, retry_base_seconds=0.02, retry_max_seconds=0.02)
    await eventually(lambda: signing_keys.keys_of(db, "dummy"))
    media = await client.faulty()
    await asyncio.wait_for(provider.asked_again.wait(), 60)
    (attempt_id,) = provider.sold

    assert (await call(api, attempt_id, b"bought-33")).status_code == 204
    provider.may_answer.set()

    done = await client.until(media)
    first, second = await attempts_of(client, media)
    assert (done["status"], done["number_of_tries"], len(provider.sold)) == ("COMPLETED", 2, 1)
    assert (first["status"], first["external_id"]) == ("SUCCEEDED", "bought-33")
    assert (second["status"], second["error"]["code"]) == ("FAILED", "provider_busy")

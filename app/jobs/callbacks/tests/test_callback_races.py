"""A purchase found by callback at the moment at which its media moves on: nothing is submitted twice."""

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
from app.media_generator.errors import BusyError
from app.media_generator.media_generator_model import Reference
from app.media_generator.registry import Registry
from tests.calling_provider import CallingProvider, media_judged_not_sent, reference_data
from tests.support import attempts_of, eventually, make_settings

LONG_RETRY_PAUSE = {"retry_base_seconds": 3600, "retry_max_seconds": 3600}


class OneAtATime(CallingProvider):
    """Denies the first request that it accepted, and refuses the second because it is busy with the first."""

    capabilities = replace(CallingProvider.capabilities, submit_timeout=timedelta(seconds=60))

    def __init__(self):
        super().__init__()
        self.second_request, self.may_answer = asyncio.Event(), asyncio.Event()

    async def submit(self, submission):
        if self.submitted and not self.may_answer.is_set():
            self.second_request.set()
            await self.may_answer.wait()
            raise BusyError("429: one at a time")
        return await super().submit(submission)


@pytest.fixture
def settings(engines, database):
    return make_settings(engines, database_url=database, callback_url="https://fleek.example")


@pytest.fixture
def provider(request):
    return getattr(request, "param", CallingProvider)()


@pytest.fixture
def registry(provider):
    return Registry([provider])


@contextlib.asynccontextmanager
async def open_transaction(database):
    """A transaction of another process, which commits at the end of the block."""
    connection = await asyncpg.connect(database)
    try:
        async with connection.transaction():
            yield connection
    finally:
        await connection.close()


async def until_a_lock_is_awaited(db):
    waiting = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    await eventually(lambda: db.fetch(waiting))


async def waiting_media_judged_not_sent(client, provider, working, db):
    await working(provider, **LONG_RETRY_PAUSE)
    await eventually(lambda: signing_keys.keys_of(db, "dummy"))
    return await media_judged_not_sent(client, provider, status="IN_QUEUE")


async def test_attempt_about_to_begin_gives_way_to_a_purchase_found_by_callback(
    client, provider, working, db, database
):
    media, attempt_id = await waiting_media_judged_not_sent(client, provider, working, db)
    reference = msgspec.json.encode(Reference("bought-30", reference_data(provider.submitted[attempt_id]))).decode()

    async with open_transaction(database) as other:
        await other.execute(_PURCHASE, [attempt_id], ["bought-30"], [reference], [True])
        await db.execute("UPDATE media SET next_run = now()")
        await until_a_lock_is_awaited(db)

    done = await client.until(media)
    (row,) = await db.fetch("SELECT takeovers FROM media")
    history = (await client.api.get(f"/media/{media['id']}/history")).json()["items"]
    assert (done["status"], done["number_of_tries"], len(provider.submitted)) == ("COMPLETED", 1, 1)
    assert [item["detail"] for item in history if item["event"] == "returned"] == [{"reason": "already_purchased"}]
    assert row["takeovers"] == 0


async def test_callback_racing_with_another_intent_is_recorded(api, client, provider, working, db, database):
    media, attempt_id = await waiting_media_judged_not_sent(client, provider, working, db)

    async with open_transaction(database) as other:
        await other.execute(
            "INSERT INTO attempts (id, media_id, number, status, model, input_hash)"
            " VALUES ($1, $2, 2, 'INTENDED', 'dummy/faulty', '')",
            new_id(),
            UUID(media["id"]),
        )
        callback = asyncio.create_task(provider.call_back(api, attempt_id, b"bought-31"))
        await until_a_lock_is_awaited(db)

    assert (await callback).status_code == 204
    first, second = await attempts_of(client, media)
    assert (first["status"], first["external_id"], second["status"]) == ("UNKNOWN", "bought-31", "INTENDED")


async def test_callback_does_not_deadlock_with_the_end_of_its_media(api, client, provider, working, db, database):
    media, attempt_id = await waiting_media_judged_not_sent(client, provider, working, db)

    # The order in which the end of a media item locks: first the media, then its attempts.
    async with open_transaction(database) as other:
        await other.execute("SELECT FROM media FOR UPDATE")
        callback = asyncio.create_task(provider.call_back(api, attempt_id, b"bought-32"))
        await until_a_lock_is_awaited(db)
        await other.execute("SELECT FROM attempts FOR UPDATE")

    assert (await callback).status_code == 204
    assert (await client.until(media))["status"] == "COMPLETED"


@pytest.mark.parametrize("provider", [OneAtATime], indirect=True)
async def test_refused_attempt_gives_way_to_a_purchase_found_by_callback(api, client, provider, working, db):
    provider.denials, provider.done = 1, True
    await working(provider, retry_base_seconds=0.02, retry_max_seconds=0.02)
    await eventually(lambda: signing_keys.keys_of(db, "dummy"))
    media = await client.faulty()
    await asyncio.wait_for(provider.second_request.wait(), 60)
    (attempt_id,) = provider.submitted

    assert (await provider.call_back(api, attempt_id, b"bought-33")).status_code == 204
    provider.may_answer.set()

    done = await client.until(media)
    first, second = await attempts_of(client, media)
    assert (done["status"], done["number_of_tries"], len(provider.submitted)) == ("COMPLETED", 2, 1)
    assert (first["status"], first["external_id"]) == ("SUCCEEDED", "bought-33")
    assert (second["status"], second["error"]["code"]) == ("FAILED", "provider_busy")

"""The queue position that a client reads."""

import asyncio
from datetime import timedelta

from app.auth.principal import DEFAULT_OWNER_ID
from app.core.ids import new_id
from app.jobs.scheduling import pauses, provider_circuits
from app.jobs.scheduling.queue_position import QueuePositions
from app.media import queries
from app.media_generator.errors import CreditError
from tests.jobs import request_media

MINUTE = timedelta(minutes=1)
MODEL = "dummy/faulty"
OTHER_MODEL = "dummy/painter"


def ignore_batch(_moved):
    """For a pause: how many media a batch moved."""


async def test_queue_position_counts_the_media_ahead(client):
    media = [await client.faulty() for _ in range(3)]
    urgent = await client.generate(model="dummy/faulty", priority=9)
    await asyncio.sleep(1.1)

    seen = [(await client.media(one))["queue_position"] for one in (*media, urgent)]
    job = (await client.api.get(f"/media/jobs/{media[1]['job_id']}")).json()

    assert seen == [1, 2, 3, 0]
    assert job["queue_position"] == 2


async def test_queue_position_counts_one_turn_of_each_other_owner(client, db):
    other_owner = new_id()
    for _ in range(30):
        await request_media(db, other_owner)
    media = await client.faulty()

    assert (await client.media(media))["queue_position"] == 1


async def test_queue_position_beyond_1000_is_not_counted(client, db):
    await db.execute(
        """INSERT INTO media (id, job_id, owner_id, status, prompt, model, provider, input, metadata, queue, next_run)
        SELECT gen_random_uuid(), gen_random_uuid(), $1, 'IN_QUEUE', 'p', 'dummy/faulty', 'dummy', '{}', '{}',
            'network', now() - interval '1 minute' FROM generate_series(1, 1500)""",
        DEFAULT_OWNER_ID,
    )
    media = await client.faulty()

    assert (await client.media(media))["queue_position"] == "1000+"


async def test_etag_changes_with_the_queue_position(client, db):
    media = [await client.faulty() for _ in range(2)]
    path = f"/media/jobs/{media[1]['job_id']}"
    before = await client.api.get(path)
    same = await client.api.get(path, headers={"if-none-match": before.headers["etag"]})
    await db.execute("DELETE FROM media WHERE id = $1", media[0]["id"])

    after = await client.api.get(path, headers={"if-none-match": before.headers["etag"]})

    assert (same.status_code, after.status_code) == (304, 200)
    assert (before.json()["queue_position"], after.json()["queue_position"]) == (1, 0)


async def test_queue_position_ignores_media_of_an_unavailable_provider(db):
    for _ in range(5):
        await request_media(db, model="unavailable/model")
    owner = new_id()
    media_id = await request_media(db, owner)
    await provider_circuits.trip(db, "unavailable", CreditError("no credit"), pause=MINUTE)

    waiting = await QueuePositions(db).waiting(await queries.media_by_id(db, media_id, owner))

    assert (waiting.position, waiting.reason) == (0, None)


async def waiting_state(db, media_id):
    return await QueuePositions(db).waiting(await queries.media_by_id(db, media_id, DEFAULT_OWNER_ID))


async def test_shelved_media_has_no_queue_position_and_is_not_counted(db):
    shelved = await request_media(db)
    other = await request_media(db, model=OTHER_MODEL)
    await pauses.pause(db, MODEL, "x", ignore_batch)
    not_shelved_yet = await request_media(db)

    seen = [await waiting_state(db, one) for one in (shelved, not_shelved_yet, other)]

    assert [one.position for one in seen] == [None, None, 0]
    assert [one.reason and one.reason["code"] for one in seen] == ["paused", "paused", None]

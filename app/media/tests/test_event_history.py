"""What event streams read from the history: in commit order, and once for streams at the same position."""

import contextlib
from uuid import UUID

import asyncpg

from app.auth.principal import DEFAULT_OWNER_ID
from app.media.events import history_reads
from app.media.events.history_reads import MediaPosition, OwnerPosition


async def test_history_row_committed_late_under_a_lower_id_is_not_missed(db, client, settings):
    media = await client.faulty()
    start = await history_reads.oldest_running_transaction(db) - 1
    position = OwnerPosition(DEFAULT_OWNER_ID, start, 2**53)
    insert = """INSERT INTO media_history (media_id, owner_id, event, status)
        VALUES ($1, $2, 'claimed', 'PROCESSING') RETURNING id"""
    slow = await asyncpg.connect(settings.database_dsn)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(slow.close)
        transaction = slow.transaction()
        await transaction.start()
        lower = await slow.fetchval(insert, UUID(media["id"]), DEFAULT_OWNER_ID)
        higher = (await db.fetchrow(insert, UUID(media["id"]), DEFAULT_OWNER_ID))["id"]

        before = (await history_reads.read_owners(db, [position]))[0]
        await transaction.commit()
        after = (await history_reads.read_owners(db, [position]))[0]

    assert lower < higher
    assert (before.history, before.held_back) == ([], True)
    assert [row.id for row in after.history] == [lower, higher]


async def test_streams_at_the_same_position_share_one_result(client, db):
    media = await client.faulty()
    start, missing = MediaPosition(UUID(media["id"]), 0, 0, 0), MediaPosition(UUID(int=1), 0, 0, 0)

    first, nothing, second = await history_reads.read_media(db, [start, missing, start])
    old, new, again = await history_reads.read_owners(
        db,
        [
            OwnerPosition(DEFAULT_OWNER_ID, 0, 0),
            OwnerPosition(DEFAULT_OWNER_ID, 2**40, 0),
            OwnerPosition(DEFAULT_OWNER_ID, 0, 0),
        ],
    )

    assert (first is second, len(first.history), nothing) == (True, 1, None)
    assert (old is again, len(old.history), new.history) == (True, 1, [])

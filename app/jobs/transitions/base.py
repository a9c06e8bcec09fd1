"""After the commit: who waits for a media, and who delivers its events, is told of it."""

import asyncpg

from app.core.database.pool import Change, DatabasePool


def told(db: DatabasePool, rows: list[asyncpg.Record]) -> list[asyncpg.Record]:
    """Tell of what a statement has moved; its rows have `id`, `owner_id` and `posted`.

    Lost news costs seconds, see `watching.py`; a lost wake of the deliveries too, see `delivery.py` of webhooks.
    """
    changes = [Change(row["id"], row["owner_id"]) for row in rows if row["id"] is not None]
    if changes:
        db.announce(changes, posted=any(row["posted"] for row in rows))
    return rows

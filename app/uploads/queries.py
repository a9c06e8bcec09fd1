"""The SQL of input files.

A row is there before its object is: `sha256` is `coming:` and its id until the bytes are stored, and `gone:` and its id
from when nobody may find it any more until its object is removed. So no object is without a row, and no row that can
be found is without its object.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import asyncpg

from app.core.database.pool import DatabasePool
from app.core.database.rows import Row

# ruff: noqa: S608 - the statements are put together from constants; values are always arguments


class StoredFile(Row, frozen=True):
    """A file of an owner; its fields are columns of `Upload`."""

    id: UUID
    key: str
    name: str
    media_type: str
    bytes: int
    width: int | None
    height: int | None
    sha256: str
    created_at: datetime
    expires_at: datetime


class ReceivedFile(StoredFile, frozen=True):
    """What has become of a file that was uploaded or fetched."""

    fresh: bool
    """False: the owner had uploaded the same bytes before; this is that file."""


class StoredObject(Row, frozen=True):
    """An object that is to be removed with its row."""

    id: UUID
    key: str


class _Id(Row, frozen=True):
    id: UUID


_COLUMNS: Final = StoredFile.columns()
_FOUND: Final = "position(':' in sha256) = 0 AND expires_at > now()"
_COMES_WITHIN: Final = "interval '1 hour'"
"""Longer than handing a file in may take."""
_AGAIN_AFTER: Final = "interval '1 minute'"
"""Until somebody else tries to remove an object."""
_GONE: Final = f"sha256 = 'gone:' || id, expires_at = now() + {_AGAIN_AFTER}"

_ANNOUNCE: Final = f"""INSERT INTO uploads
    (id, owner_id, key, name, media_type, bytes, width, height, sha256, expires_at)
VALUES ($1, $2, $3, $4, $5, 0, $6, $7, 'coming:' || $1::uuid, now() + {_COMES_WITHIN})"""

# One that has expired and is not removed yet is as good as new; one that is being removed has another `sha256`.
_ARRIVED: Final = f"""WITH known AS (
    UPDATE uploads SET expires_at = GREATEST(expires_at, now() + $5::interval)
    WHERE owner_id = $2 AND sha256 = $3 RETURNING {_COLUMNS}
), arrived AS (
    UPDATE uploads SET sha256 = $3, bytes = $4, expires_at = now() + $5::interval
    WHERE id = $1::uuid AND sha256 = 'coming:' || $1::uuid AND NOT EXISTS (SELECT FROM known) RETURNING {_COLUMNS}
)
SELECT {_COLUMNS}, false AS fresh FROM known UNION ALL SELECT {_COLUMNS}, true AS fresh FROM arrived"""

_NEEDED: Final = f"""UPDATE uploads SET expires_at = GREATEST(expires_at, now() + $3::interval)
WHERE owner_id = $1 AND id = ANY($2::uuid[]) AND {_FOUND} RETURNING id"""
_ONE: Final = f"SELECT {_COLUMNS} FROM uploads WHERE id = $1 AND owner_id = $2 AND {_FOUND}"
_PAGE: Final = f"""SELECT {_COLUMNS} FROM uploads
WHERE owner_id = $1 AND {_FOUND} AND ($3::uuid IS NULL OR id < $3) ORDER BY id DESC LIMIT $2"""

_LET_GO: Final = f"UPDATE uploads SET {_GONE} WHERE id = $1 AND owner_id = $2 AND {_FOUND} RETURNING id, key"
_GIVE_UP: Final = f"UPDATE uploads SET {_GONE} WHERE id = $1::uuid AND sha256 = 'coming:' || $1::uuid"
_EXPIRE: Final = f"""UPDATE uploads u SET {_GONE.replace("|| id", "|| u.id")}
FROM (SELECT id FROM uploads WHERE expires_at <= now() ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED) due
WHERE u.id = due.id RETURNING u.id, u.key"""
_REMOVED: Final = "DELETE FROM uploads WHERE id = $1::uuid AND sha256 = 'gone:' || $1::uuid"


@dataclass(frozen=True, slots=True)
class Coming:
    """A file whose bytes are on their way."""

    id: UUID
    owner_id: UUID
    key: str
    name: str
    media_type: str
    width: int | None
    height: int | None


async def announce(db: DatabasePool, coming: Coming) -> None:
    """Write down that an object may come to be."""
    c = coming
    await db.execute(_ANNOUNCE, c.id, c.owner_id, c.key, c.name, c.media_type, c.width, c.height)


async def arrived(
    db: DatabasePool, coming: Coming, *, sha256: str, size: int, lifetime: timedelta
) -> ReceivedFile | None:
    """The file that has these bytes: this one, or with `fresh` false one that the owner had before.

    None: it took so long that it is not waited for any more.
    """
    try:
        return await db.fetchrow_as(ReceivedFile, _ARRIVED, coming.id, coming.owner_id, sha256, size, lifetime)
    except asyncpg.UniqueViolationError:
        # The same bytes came twice at the same time; now the others are there.
        return await db.fetchrow_as(ReceivedFile, _ARRIVED, coming.id, coming.owner_id, sha256, size, lifetime)


async def need(db: DatabasePool, owner_id: UUID, ids: Sequence[UUID], lifetime: timedelta) -> set[UUID]:
    """Which of these files there are; from now on they are kept for `lifetime` at least."""
    return {row.id for row in await db.fetch_as(_Id, _NEEDED, owner_id, ids, lifetime)}


async def one(db: DatabasePool, owner_id: UUID, upload_id: UUID) -> StoredFile | None:
    """A file of an owner."""
    return await db.fetchrow_as(StoredFile, _ONE, upload_id, owner_id)


async def page(db: DatabasePool, owner_id: UUID, *, before: UUID | None, limit: int) -> Sequence[StoredFile]:
    """Up to `limit` files of an owner, newest first, older than `before`."""
    return await db.fetch_as(StoredFile, _PAGE, owner_id, limit, before)


async def let_go(db: DatabasePool, owner_id: UUID, upload_id: UUID) -> StoredObject | None:
    """Nobody finds it from now on; `id` and `key`, or None where there is no such file."""
    return await db.fetchrow_as(StoredObject, _LET_GO, upload_id, owner_id)


async def give_up(db: DatabasePool, upload_id: UUID) -> None:
    """Its bytes do not come any more."""
    await db.execute(_GIVE_UP, upload_id)


async def expire(db: DatabasePool, *, limit: int) -> Sequence[StoredObject]:
    """Up to `limit` files whose time is over, or whose object could not be removed before; `id` and `key` of each."""
    return await db.fetch_as(StoredObject, _EXPIRE, limit)


async def removed(db: DatabasePool, upload_id: UUID) -> None:
    """The object is gone, so the row may go."""
    await db.execute(_REMOVED, upload_id)

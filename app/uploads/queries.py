"""The SQL of input files.

A row is written before its object: `sha256` is `coming:` and its id until the bytes are stored, and `gone:` and its id
from its deletion until the object is removed. Queries find neither. So every object has a row, and every file that can
be found has its object.
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
    """The file that an upload has led to."""

    fresh: bool
    """False: it is the one that the owner already had, with the same bytes."""


class DeletedFile(Row, frozen=True):
    """A deleted file whose object is to be removed."""

    id: UUID
    key: str


class _Id(Row, frozen=True):
    id: UUID


_COLUMNS: Final = StoredFile.columns()
_FOUND: Final = "position(':' in sha256) = 0 AND expires_at > now()"
_UPLOAD_WITHIN: Final = "interval '1 hour'"
"""Longer than an upload may take."""
_RETRY_AFTER: Final = "interval '1 minute'"
"""Until another process tries to remove the object."""
_DELETED: Final = f"sha256 = 'gone:' || id, expires_at = now() + {_RETRY_AFTER}"

_BEGIN: Final = f"""INSERT INTO uploads
    (id, owner_id, key, name, media_type, bytes, width, height, sha256, expires_at)
VALUES ($1, $2, $3, $4, $5, 0, $6, $7, 'coming:' || $1::uuid, now() + {_UPLOAD_WITHIN})"""

# An expired file that is not deleted yet is extended; a deleted one has another `sha256`.
_COMPLETE: Final = f"""WITH known AS (
    UPDATE uploads SET expires_at = GREATEST(expires_at, now() + $5::interval)
    WHERE owner_id = $2 AND sha256 = $3 RETURNING {_COLUMNS}
), completed AS (
    UPDATE uploads SET sha256 = $3, bytes = $4, expires_at = now() + $5::interval, width = $6, height = $7
    WHERE id = $1::uuid AND sha256 = 'coming:' || $1::uuid AND NOT EXISTS (SELECT FROM known) RETURNING {_COLUMNS}
)
SELECT {_COLUMNS}, false AS fresh FROM known UNION ALL SELECT {_COLUMNS}, true AS fresh FROM completed"""

_EXTEND: Final = f"""UPDATE uploads SET expires_at = GREATEST(expires_at, now() + $3::interval)
WHERE owner_id = $1 AND id = ANY($2::uuid[]) AND {_FOUND} RETURNING id"""
_ONE: Final = f"SELECT {_COLUMNS} FROM uploads WHERE id = $1 AND owner_id = $2 AND {_FOUND}"
_PAGE: Final = f"""SELECT {_COLUMNS} FROM uploads
WHERE owner_id = $1 AND {_FOUND} AND ($3::uuid IS NULL OR id < $3) ORDER BY id DESC LIMIT $2"""

_DELETE: Final = f"UPDATE uploads SET {_DELETED} WHERE id = $1 AND owner_id = $2 AND {_FOUND} RETURNING id, key"
_ABANDON: Final = f"UPDATE uploads SET {_DELETED} WHERE id = $1::uuid AND sha256 = 'coming:' || $1::uuid"
_EXPIRE: Final = f"""UPDATE uploads u SET {_DELETED.replace("|| id", "|| u.id")}
FROM (SELECT id FROM uploads WHERE expires_at <= now() ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED) due
WHERE u.id = due.id RETURNING u.id, u.key"""
_DELETE_ROW: Final = "DELETE FROM uploads WHERE id = $1::uuid AND sha256 = 'gone:' || $1::uuid"


@dataclass(frozen=True, slots=True)
class PendingUpload:
    """An upload whose bytes are not stored yet."""

    id: UUID
    owner_id: UUID
    key: str
    name: str
    media_type: str
    width: int | None
    height: int | None


async def begin(db: DatabasePool, pending: PendingUpload) -> None:
    """Record that an object of this key may exist."""
    p = pending
    await db.execute(_BEGIN, p.id, p.owner_id, p.key, p.name, p.media_type, p.width, p.height)


async def complete(
    db: DatabasePool, pending: PendingUpload, *, sha256: str, size: int, lifetime: timedelta
) -> ReceivedFile | None:
    """The file with these bytes: this one, or one that the owner had before; None: the upload took too long."""
    arguments = pending.id, pending.owner_id, sha256, size, lifetime, pending.width, pending.height
    try:
        return await db.fetchrow_as(ReceivedFile, _COMPLETE, *arguments)
    except asyncpg.UniqueViolationError:
        # The same bytes were uploaded at the same time; now the other row exists.
        return await db.fetchrow_as(ReceivedFile, _COMPLETE, *arguments)


async def extend(db: DatabasePool, owner_id: UUID, ids: Sequence[UUID], lifetime: timedelta) -> set[UUID]:
    """Which of these files exist; they are now kept for at least `lifetime`."""
    return {row.id for row in await db.fetch_as(_Id, _EXTEND, owner_id, ids, lifetime)}


async def get(db: DatabasePool, owner_id: UUID, upload_id: UUID) -> StoredFile | None:
    """A file of an owner."""
    return await db.fetchrow_as(StoredFile, _ONE, upload_id, owner_id)


async def page(db: DatabasePool, owner_id: UUID, *, before: UUID | None, limit: int) -> Sequence[StoredFile]:
    """Up to `limit` files of an owner, newest first, older than `before`."""
    return await db.fetch_as(StoredFile, _PAGE, owner_id, limit, before)


async def delete(db: DatabasePool, owner_id: UUID, upload_id: UUID) -> DeletedFile | None:
    """Delete a file; its object is still to be removed. None: there is no such file."""
    return await db.fetchrow_as(DeletedFile, _DELETE, upload_id, owner_id)


async def abandon(db: DatabasePool, upload_id: UUID) -> None:
    """Delete an upload that was not completed."""
    await db.execute(_ABANDON, upload_id)


async def expire(db: DatabasePool, *, limit: int) -> Sequence[DeletedFile]:
    """Delete up to `limit` expired files; with those whose object could not be removed before."""
    return await db.fetch_as(DeletedFile, _EXPIRE, limit)


async def delete_row(db: DatabasePool, upload_id: UUID) -> None:
    """Delete the row, once the object is removed."""
    await db.execute(_DELETE_ROW, upload_id)

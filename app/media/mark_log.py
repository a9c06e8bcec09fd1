"""The log of marks: of each stored file what was marked, when, by which tool, of which model, and both hashes."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Final
from uuid import UUID

from app.core.database.pool import DatabasePool
from app.core.database.rows import Row

BATCH: Final = 1_000
_BEFORE_ALL: Final = UUID(int=0)
_ENTRIES: Final = """SELECT f.id AS file_id, f.media_id, f.index, f.key, f.media_type, f.bytes, m.model,
    f.created_at AS stored_at, (f.provenance->>'at')::timestamptz AS marked_at, f.provenance->>'tool' AS tool,
    coalesce(f.provenance->>'mark', 'none') AS mark, f.provenance->>'source_type' AS source_type,
    coalesce((f.provenance->>'c2pa')::boolean, false) AS provider_c2pa,
    coalesce((f.provenance->>'signed')::boolean, false) AS signed, f.provenance->>'reason' AS reason,
    f.sha256, f.source_sha256
FROM files f JOIN media m ON m.id = f.media_id
WHERE f.id > $1 AND ($2::timestamptz IS NULL OR f.created_at >= $2)
    AND ($3::timestamptz IS NULL OR f.created_at < $3)
ORDER BY f.id LIMIT $4"""


class MarkEntry(Row, frozen=True):
    """One stored file."""

    file_id: UUID
    media_id: UUID
    index: int
    key: str
    """In the bucket."""
    media_type: str
    bytes: int
    model: str
    stored_at: datetime
    marked_at: datetime | None
    """None: no mark was tried, or it was written before this was recorded, when the file was stored."""
    tool: str | None
    """As `marked_at`."""
    mark: str
    """As `provenance.mark` of the API; "none": marks were off."""
    source_type: str | None
    provider_c2pa: bool
    """Whether it has a C2PA manifest of its provider."""
    signed: bool
    """Whether it was signed here."""
    reason: str | None
    sha256: str
    source_sha256: str | None


async def entries(
    db: DatabasePool, since: datetime | None = None, until: datetime | None = None
) -> AsyncIterator[MarkEntry]:
    """All files that were stored from `since` on and before `until`, the oldest first."""
    after = _BEFORE_ALL
    while rows := await db.fetch_as(MarkEntry, _ENTRIES, after, since, until, BATCH):
        for row in rows:
            yield row
        after = rows[-1].file_id

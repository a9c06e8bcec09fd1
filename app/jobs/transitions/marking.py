"""A stored file gets a mark of origin afterwards: its hashes change, and so does its media item's time of change."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from app.core.database.pool import DatabasePool
from app.jobs.transitions.base import Changed, run


@dataclass(frozen=True, slots=True)
class MarkedFile:
    """What is stored now; JSON is text."""

    file_id: UUID
    was: str
    """The `sha256` on record before."""
    sha256: str
    source_sha256: str
    bytes: int
    provenance: str
    warnings: str | None


_RECORD: Final = """
WITH marked AS (
    UPDATE files f SET sha256 = $3, source_sha256 = $4, bytes = $5, provenance = $6::jsonb,
        warnings = nullif(coalesce(f.warnings, '[]') || coalesce($7::jsonb, '[]'), '[]')
    WHERE f.id = $1 AND f.sha256 = $2 AND f.provenance IS NULL RETURNING f.media_id
)
UPDATE media m SET updated_at = now() FROM marked WHERE m.id = marked.media_id
RETURNING m.id, m.owner_id, false AS posted"""


async def record_mark(db: DatabasePool, file: MarkedFile) -> bool:
    """Record the mark of a stored file; False: somebody else has, or it is gone."""
    values = (file.file_id, file.was, file.sha256, file.source_sha256, file.bytes, file.provenance, file.warnings)
    return bool(await run(db, Changed, _RECORD, *values))

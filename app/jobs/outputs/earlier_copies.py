"""Outputs that were copied while others could not be, recorded with the attempt: another worker may copy the rest."""

from collections.abc import Mapping
from uuid import UUID

import msgspec

from app.core.database.pool import DatabasePool
from app.jobs import queries
from app.jobs.outputs.ingest import EarlierCopy
from app.jobs.transitions.attempt import record_copied


async def earlier_copies(db: DatabasePool, attempt_id: UUID) -> dict[int, EarlierCopy]:
    """What earlier passes have copied, by index."""
    stored = await queries.copied_outputs(db, attempt_id)
    copies = [] if stored is None else msgspec.json.decode(stored, type=list[EarlierCopy])
    return {one.file.index: one for one in copies}


async def record_copies(db: DatabasePool, attempt_id: UUID, copied: Mapping[int, EarlierCopy]) -> None:
    """Record what this pass and those before have copied."""
    if copied:
        await record_copied(db, attempt_id, msgspec.json.encode(list(copied.values())).decode())

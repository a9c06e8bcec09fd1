"""The reads of event streams, batched: what all streams of a process read at the same time takes one statement."""

from uuid import UUID

from app.core.database.group_commit import GroupCommit
from app.core.database.pool import UNAVAILABLE, DatabasePool
from app.media.events import history_reads
from app.media.events.history_reads import (
    MediaPosition,
    MediaUpdate,
    OwnerPosition,
    OwnerUpdate,
    ProgressEntry,
    ProgressQuery,
)
from app.media.events.payloads import Event, Payloads


class BatchedReads:
    """Each attribute is called for one stream and runs together with the other calls of that moment."""

    def __init__(self, db: DatabasePool, payloads: Payloads) -> None:
        self._db = db
        self.media = GroupCommit[MediaPosition, MediaUpdate | None](
            lambda positions: history_reads.read_media(db, positions), shared=UNAVAILABLE
        )
        self.owner = GroupCommit[OwnerPosition, OwnerUpdate](
            lambda positions: history_reads.read_owners(db, positions), shared=UNAVAILABLE
        )
        self.progress = GroupCommit[ProgressQuery, list[ProgressEntry]](
            lambda queries: history_reads.read_progress(db, queries), shared=UNAVAILABLE
        )
        self.payload = GroupCommit[Event, bytes](payloads.of, shared=UNAVAILABLE)

    async def has_event(self, media_id: UUID, history_id: int) -> bool:
        """Whether a stream of this media can resume after that row of the history."""
        return await history_reads.has_event(self._db, media_id, history_id)

    async def now(self) -> tuple[int, int]:
        """The position (txid, history id) from which an owner's stream shows what happens from now on."""
        return await history_reads.oldest_running_transaction(self._db) - 1, 2**53

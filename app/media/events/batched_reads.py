"""What streams read: looks and payloads of all streams of a process, gathered into few statements."""

from uuid import UUID

from app.core.database.group_commit import GroupCommit
from app.core.database.pool import UNAVAILABLE, DatabasePool
from app.media.events import history
from app.media.events.history import MediaLook, MediaSeen, OwnerLook, OwnerSeen, ProgressEntry, ProgressLook
from app.media.events.payloads import Event, Payloads


class BatchedReads:
    """Each of these is asked for one stream, and answered together with whatever else is asked at the time."""

    def __init__(self, db: DatabasePool, payloads: Payloads) -> None:
        self._db = db
        self.media = GroupCommit[MediaLook, MediaSeen | None](
            lambda looks: history.look_at_media(db, looks), shared=UNAVAILABLE
        )
        self.owner = GroupCommit[OwnerLook, OwnerSeen](
            lambda looks: history.look_at_owners(db, looks), shared=UNAVAILABLE
        )
        self.progress = GroupCommit[ProgressLook, list[ProgressEntry]](
            lambda looks: history.progress(db, looks), shared=UNAVAILABLE
        )
        self.payload = GroupCommit[Event, bytes](payloads.of, shared=UNAVAILABLE)

    async def has_event(self, media_id: UUID, history_id: int) -> bool:
        """Whether a stream of this media can go on behind that row of the history."""
        return await history.has_event(self._db, media_id, history_id)

    async def now(self) -> tuple[int, int]:
        """Where a stream of an owner's media begins that is to tell what happens from now on."""
        return await history.newest_transaction(self._db) - 1, 2**53

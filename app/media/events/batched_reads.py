"""What streams read: looks and payloads of all streams of a process, gathered into few statements."""

from uuid import UUID

from app.core.database.group_commit import Batch
from app.core.database.pool import UNAVAILABLE, Connections
from app.media.events import history
from app.media.events.history import MediaLook, MediaSeen, OwnerLook, OwnerSeen, ProgressLook, Step
from app.media.events.payloads import Event, Payloads


class Feed:
    """Each of these is asked for one stream, and answered together with whatever else is asked at the time."""

    def __init__(self, hot: Connections, payloads: Payloads) -> None:
        self._hot = hot
        self.media = Batch[MediaLook, MediaSeen | None](
            lambda looks: history.look_at_media(hot, looks), shared=UNAVAILABLE
        )
        self.owner = Batch[OwnerLook, OwnerSeen](lambda looks: history.look_at_owners(hot, looks), shared=UNAVAILABLE)
        self.progress = Batch[ProgressLook, list[Step]](lambda looks: history.progress(hot, looks), shared=UNAVAILABLE)
        self.payload = Batch[Event, bytes](payloads.of, shared=UNAVAILABLE)

    async def has_event(self, media_id: UUID, history_id: int) -> bool:
        """Whether a stream of this media can go on behind that row of the history."""
        return await history.has_event(self._hot, media_id, history_id)

    async def now(self) -> tuple[int, int]:
        """Where a stream of an owner's media begins that is to tell what happens from now on."""
        return await history.newest_transaction(self._hot) - 1, 2**53

"""The sweep: what dead workers, lost answers and passed deadlines leave behind is moved on by any worker that is alive.

Safe with many at once: every statement says which state it expects.
"""

from datetime import timedelta
from uuid import UUID

import structlog

from app.core.database.pool import DatabasePool
from app.idempotency import keys
from app.jobs.job_errors import DEADLINE_EXCEEDED, WORKER_LOST
from app.jobs.metrics import counters
from app.jobs.metrics.counters import PersistedCounter
from app.jobs.scheduling import pauses
from app.jobs.transitions import cancellation, expiry, release, shelving
from app.jobs.worker import leases
from app.uploads.service import Uploads

log = structlog.get_logger(__name__)


async def sweep(db: DatabasePool, worker_id: UUID, *, lease: timedelta, most_takeovers: int) -> set[str]:
    """Remove expired workers and return what they held; the queues that got jobs back.

    Args:
        db: The database.
        worker_id: Who sweeps; only one that has reported steadily for a whole lease removes others.
        lease: How long a worker may be silent.
        most_takeovers: After how many a media item is given up.
    """
    expired = await leases.remove_expired(db, worker_id, lease=lease)
    for name in expired:
        log.warning("worker_declared_dead", worker=name)
    await counters.add(db, PersistedCounter.LEASES_EXPIRED, len(expired))
    returned = await release.return_orphans(db)
    for row in returned:
        log.warning("media_taken_over", media_id=str(row.id))
    await counters.add(db, PersistedCounter.TAKEN_OVER, len(returned))
    given_up = await expiry.give_up(db, takeovers=most_takeovers, error=WORKER_LOST.as_json)
    for media_id in given_up:
        log.error("media_given_up", media_id=str(media_id))
    await counters.add(db, PersistedCounter.GIVEN_UP, len(given_up))
    await shelving.unshelve_purchased(db)
    return {row.queue for row in returned}


async def sweep_urgent(db: DatabasePool) -> None:
    """What cannot wait for the next sweep: deadlines, canceled media that are back in the queue, pauses."""
    expired = await expiry.expire_waiting(db, DEADLINE_EXCEEDED.as_json)
    if expired:
        log.info("media_expired", count=expired)
    await counters.add(db, PersistedCounter.EXPIRED, expired)
    await counters.add(db, PersistedCounter.CANCELED_LATER, await cancellation.cancel_all_waiting(db))
    await pauses.shelve_and_unshelve(db)


async def remove_old(db: DatabasePool, uploads: Uploads, *, key_lifetime: timedelta) -> None:
    """Remove idempotency keys of deleted media, and expired input files."""
    await keys.delete_expired(db, key_lifetime)
    await uploads.sweep()

"""What lost workers leave behind, moved on by any worker that is alive; safe with many at once."""

from datetime import timedelta
from uuid import UUID

import structlog

from app.core.connections import Connections
from app.idempotency import keys
from app.media import transitions, workers

log = structlog.get_logger(__name__)


async def sweep(hot: Connections, worker_id: UUID, *, lease: timedelta, key_lifetime: timedelta) -> set[str]:
    """Bury silent workers and return what is held by none; the queues that got jobs back.

    Args:
        hot: The database.
        worker_id: Who sweeps; only one that has reported steadily for a whole lease declares others dead.
        lease: How long a worker may be silent.
        key_lifetime: How long an idempotency key is kept.
    """
    await keys.forget(hot, key_lifetime)
    for name in await workers.bury_silent(hot, worker_id, lease=lease):
        log.warning("worker_buried", worker=name)
    returned = await transitions.return_orphans(hot)
    for row in returned:
        log.warning("media_taken_over", media_id=str(row["id"]))
    return {row["queue"] for row in returned}

"""Pausing and resuming a model or a provider: while it is paused nothing is submitted to it.

A provider's pause is one row that every claim sees. A model's media wait in one stream with others of its provider, so
they are put on hold as well, a batch at a time:

1. pause: the row is committed; from here on no claim takes such a media item.
2. shelve, batch by batch. A crash leaves the rest to the workers, who do the same each second (`shelve_and_unshelve`);
   so do media that are requested or returned during the pause.
3. resume: the row is removed, which waits for batches that are being shelved.
4. unshelve, batch by batch. A crash leaves the rest to the workers: what is shelved without a pause is returned.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from app.core.database.pool import DatabasePool
from app.jobs.scheduling import model_pauses, provider_circuits
from app.jobs.transitions import shelving

BATCH: Final = 1000
"""Media that one statement moves."""
MOST_BATCHES: Final = 5
"""How many batches a worker moves before it turns to other work."""
PATIENCE_SECONDS: Final = 30.0
"""How long a resume waits for media that are locked."""
PAUSE_SECONDS: Final = 0.05

OnBatch = Callable[[int], None]
"""Called after each batch with the number of media that it moved."""


def is_model(name: str) -> bool:
    """Whether a name is a model's, `provider/name`; otherwise it is a provider's."""
    return "/" in name


async def pause(db: DatabasePool, name: str, message: str, on_batch: OnBatch) -> None:
    """Submit nothing more to a model or a provider; repeated, only the message changes.

    Args:
        db: The database.
        name: `provider/name` or `provider`.
        message: What clients read in `waiting_for`.
        on_batch: Called after each batch that was put on hold.
    """
    if not is_model(name):
        await provider_circuits.pause(db, name, message)
        return
    await model_pauses.pause(db, name, message)
    while moved := await shelving.shelve(db, limit=BATCH):
        on_batch(moved)


async def resume(db: DatabasePool, name: str, on_batch: OnBatch) -> bool:
    """Submit again to a model or a provider; False: it was not paused.

    Args:
        db: The database.
        name: `provider/name` or `provider`.
        on_batch: Called after each batch that was returned to the queue.
    """
    if not is_model(name):
        return await provider_circuits.resume(db, name)
    was_paused = await model_pauses.resume(db, name)
    until = time.monotonic() + PATIENCE_SECONDS
    while await model_pauses.shelved(db, name) and time.monotonic() < until:
        moved = await shelving.unshelve(db, limit=BATCH)
        on_batch(moved)
        if not moved:
            await asyncio.sleep(PAUSE_SECONDS)
    return was_paused


async def shelve_and_unshelve(db: DatabasePool) -> None:
    """Shelve media that have been requested for paused models, and unshelve those whose model is not paused."""
    for move in (shelving.shelve, shelving.unshelve):
        for _ in range(MOST_BATCHES):
            if await move(db, limit=BATCH) < BATCH:
                break

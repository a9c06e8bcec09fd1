"""Pausing and resuming a model or a provider: from here on nothing is bought from it, until it is resumed.

A provider's pause is one row that every claim sees. A model's media stand in one line with others of its provider, so
they are set apart as well, a batch at a time:

1. pause: the row is committed; from here on no claim takes such a media.
2. shelve, batch by batch. A crash leaves the rest to the workers, who do the same each second (`tend`); so do media
   that are asked for or returned during the pause.
3. resume: the row is removed, which waits for everybody who is just shelving.
4. put back, batch by batch. A crash leaves the rest to the workers: what is shelved without a pause is put back.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from app.core.database.pool import DatabasePool
from app.jobs.scheduling import model_pauses, provider_circuits
from app.jobs.transitions import transitions

BATCH: Final = 1000
"""Media that one statement moves."""
MOST_BATCHES: Final = 5
"""How many batches a worker moves before it looks after other things again."""
PATIENCE_SECONDS: Final = 30.0
"""How long a resume waits for media that somebody else has locked."""
PAUSE_SECONDS: Final = 0.05

Told = Callable[[int], None]
"""Is told after each batch how many media it moved."""


def is_model(name: str) -> bool:
    """Whether a name is a model's, `provider/name`; else it is a provider's."""
    return "/" in name


async def pause(db: DatabasePool, name: str, message: str, told: Told) -> None:
    """Buy nothing more from a model or a provider; again: only the message changes.

    Args:
        db: The database.
        name: `provider/name` or `provider`.
        message: What clients read in `waiting_for`.
        told: Of each batch that was set apart.
    """
    if not is_model(name):
        await provider_circuits.pause(db, name, message)
        return
    await model_pauses.pause(db, name, message)
    while moved := await transitions.shelve(db, limit=BATCH):
        told(moved)


async def resume(db: DatabasePool, name: str, told: Told) -> bool:
    """Buy again from a model or a provider; False: it was not paused.

    Args:
        db: The database.
        name: `provider/name` or `provider`.
        told: Of each batch that was put back.
    """
    if not is_model(name):
        return await provider_circuits.resume(db, name)
    was_paused = await model_pauses.resume(db, name)
    until = time.monotonic() + PATIENCE_SECONDS
    while await model_pauses.shelved(db, name) and time.monotonic() < until:
        moved = await transitions.unshelve(db, limit=BATCH)
        told(moved)
        if not moved:
            await asyncio.sleep(PAUSE_SECONDS)
    return was_paused


async def tend(db: DatabasePool) -> None:
    """Shelve what has come for paused models meanwhile, and put back what is shelved without a pause."""
    for move in (transitions.shelve, transitions.unshelve):
        for _ in range(MOST_BATCHES):
            if await move(db, limit=BATCH) < BATCH:
                break

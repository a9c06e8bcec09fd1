"""Paused models: nothing is bought from them until the operator resumes them. Workers pause what turns out to be gone.

What waits for one is set apart (`transitions.shelve`), so that a claim never reads through it; what was bought already
goes on. Providers are paused in `gates.py`.
"""

from typing import Final

import asyncpg

from app.core.database.pool import DatabasePool
from app.core.database.text import storable
from app.jobs.states import HIGHEST_PRIORITY, PAUSED_BY_OPERATOR, SHELVED, MediaStatus
from app.media_generator.errors import ModelGoneError

# ruff: noqa: S608 - the statements are put together from constants of `states.py`; values are always arguments

_PAUSE: Final = f"""INSERT INTO paused_models (model, code, message) VALUES ($1, '{PAUSED_BY_OPERATOR}', $2)
ON CONFLICT (model) DO UPDATE SET code = excluded.code, message = excluded.message"""
_GONE: Final = f"""INSERT INTO paused_models (model, code, message) VALUES ($1, '{ModelGoneError.code}', $2)
ON CONFLICT (model) DO NOTHING RETURNING model"""
# It waits for everybody who is just shelving media of this model, so what follows finds them all.
_RESUME: Final = "DELETE FROM paused_models WHERE model = $1 RETURNING model"
_PAUSED: Final = "SELECT model, code, message, paused_at FROM paused_models ORDER BY model"
_COUNT: Final = f"SELECT count(*) FROM media WHERE status = '{MediaStatus.IN_QUEUE}' AND model = $1"
_WAITING: Final = f"{_COUNT} AND rank BETWEEN 0 AND {HIGHEST_PRIORITY}"
_SHELVED: Final = f"{_COUNT} AND rank = {SHELVED}"


async def pause(db: DatabasePool, model: str, message: str) -> None:
    """Buy nothing from a model until `resume`; `message` is what clients are told."""
    await db.execute(_PAUSE, model, message)


async def gone(db: DatabasePool, model: str, message: str) -> bool:
    """Buy nothing from a model that its provider no longer has; False: it was paused already."""
    return await db.fetchrow(_GONE, model, storable(message)) is not None


async def resume(db: DatabasePool, model: str) -> bool:
    """End a pause; False: there was none."""
    return await db.fetchrow(_RESUME, model) is not None


async def paused(db: DatabasePool) -> list[asyncpg.Record]:
    """The models that are paused: `model`, `code`, `message`, `paused_at`."""
    return await db.fetch(_PAUSED)


async def waiting(db: DatabasePool, model: str) -> int:
    """How many media wait for a model and are not shelved."""
    row = await db.fetchrow(_WAITING, model)
    return 0 if row is None else row[0]


async def shelved(db: DatabasePool, model: str) -> int:
    """How many media of a model are shelved."""
    row = await db.fetchrow(_SHELVED, model)
    return 0 if row is None else row[0]

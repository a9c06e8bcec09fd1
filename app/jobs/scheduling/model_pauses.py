"""Paused models: nothing is submitted to them until the operator resumes them. Workers pause models that are gone.

Media that wait for one are put on hold (`transitions/shelving.py`), so that a claim never reads through them; open
attempts go on. Providers are paused in `provider_circuits.py`.
"""

from datetime import datetime
from typing import Final

from app.core.database.pool import DatabasePool
from app.core.database.rows import Row
from app.core.database.text import storable
from app.jobs.states import HIGHEST_PRIORITY, PAUSED_BY_OPERATOR, SHELVED, MediaStatus
from app.media_generator.errors import ModelGoneError

# ruff: noqa: S608 - the statements are put together from constants of `states.py`; values are always arguments


class PausedModel(Row, frozen=True):
    """A model to which nothing is submitted."""

    model: str
    code: str
    """`paused` by the operator, or `model_gone`."""
    message: str
    paused_at: datetime


class _Model(Row, frozen=True):
    model: str


class _Count(Row, frozen=True):
    count: int


_PAUSE: Final = f"""INSERT INTO paused_models (model, code, message) VALUES ($1, '{PAUSED_BY_OPERATOR}', $2)
ON CONFLICT (model) DO UPDATE SET code = excluded.code, message = excluded.message"""
_GONE: Final = f"""INSERT INTO paused_models (model, code, message) VALUES ($1, '{ModelGoneError.code}', $2)
ON CONFLICT (model) DO NOTHING RETURNING model"""
# It waits for statements that are shelving media of this model, so the unshelving after it finds them all.
_RESUME: Final = "DELETE FROM paused_models WHERE model = $1 RETURNING model"
_PAUSED: Final = "SELECT model, code, message, paused_at FROM paused_models ORDER BY model"
_COUNT: Final = f"SELECT count(*) FROM media WHERE status = '{MediaStatus.IN_QUEUE}' AND model = $1"
_WAITING: Final = f"{_COUNT} AND rank BETWEEN 0 AND {HIGHEST_PRIORITY}"
_SHELVED: Final = f"{_COUNT} AND rank = {SHELVED}"


async def pause(db: DatabasePool, model: str, message: str) -> None:
    """Submit nothing to a model until `resume`; `message` is what clients read."""
    await db.execute(_PAUSE, model, message)


async def pause_gone(db: DatabasePool, model: str, message: str) -> bool:
    """Submit nothing to a model that its provider no longer has; False: it was paused already."""
    return await db.fetchrow_as(_Model, _GONE, model, storable(message)) is not None


async def resume(db: DatabasePool, model: str) -> bool:
    """End a pause; False: there was none."""
    return await db.fetchrow_as(_Model, _RESUME, model) is not None


async def paused(db: DatabasePool) -> list[PausedModel]:
    """The models that are paused, by name."""
    return await db.fetch_as(PausedModel, _PAUSED)


async def waiting(db: DatabasePool, model: str) -> int:
    """How many media wait for a model and are not shelved."""
    return (await db.fetch_as(_Count, _WAITING, model))[0].count


async def shelved(db: DatabasePool, model: str) -> int:
    """How many media of a model are shelved."""
    return (await db.fetch_as(_Count, _SHELVED, model))[0].count

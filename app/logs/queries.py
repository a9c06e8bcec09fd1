"""Reading what was logged of a job."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.logs.models import Log


async def timeline(session: AsyncSession, media_id: UUID, *, after: int, limit: int) -> Sequence[Log]:
    """Up to `limit` events of a media, oldest first, after the event `after`."""
    wanted = select(Log).where(Log.media_id == media_id, Log.id > after).order_by(Log.id).limit(limit)
    return (await session.scalars(wanted)).all()

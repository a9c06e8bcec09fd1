"""What the media API does with media that exist: one function for each use case. Asking for one: `requesting.py`."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import msgspec

from app.jobs import queries as job_queries
from app.jobs.scheduling.queue_position import Waiting
from app.jobs.states import FINAL, CancelAnswer, MediaStatus, Rendition
from app.jobs.transitions import transitions
from app.media import queries
from app.media.context import MediaServices, Row
from app.media.errors import (
    CancelTooLateError,
    FileNotFoundInMediaError,
    JobNotFoundError,
    MediaNotCompletedError,
    MediaNotFoundError,
    MediaNotRetryableError,
    ModelNotFoundError,
)
from app.media_generator.registry import Offer, Routed, UnknownModelError
from app.storage.signing import SignedUrl


def model_card(services: MediaServices, name: str) -> Offer | Routed:
    """A model or a route by its name.

    Raises:
        ModelNotFoundError: There is none.
    """
    try:
        return services.registry.wanted(name)
    except UnknownModelError as error:
        raise ModelNotFoundError(f"there is no model {name!r}; near names: {', '.join(error.near)}") from None


async def media_of_job(services: MediaServices, owner_id: UUID, job_id: UUID) -> asyncpg.Record:
    """The complete media of a job.

    Raises:
        JobNotFoundError: The owner has none of that id.
    """
    row = await queries.media_by_job(services.db, job_id, owner_id)
    if row is None:
        raise JobNotFoundError(f"there is no job {job_id}")
    return row


async def media(services: MediaServices, owner_id: UUID, media_id: UUID) -> asyncpg.Record:
    """The complete media.

    Raises:
        MediaNotFoundError: The owner has none of that id.
    """
    row = await queries.media_by_id(services.db, media_id, owner_id)
    if row is None:
        raise MediaNotFoundError(f"there is no media {media_id}")
    return row


async def retry_media(services: MediaServices, owner_id: UUID, media_id: UUID) -> asyncpg.Record:
    """Try a media again that ended without a result; this may cost money once more.

    Raises:
        MediaNotFoundError: The owner has none of that id.
        MediaNotRetryableError: It is still on its way, or done.
    """
    queue = await transitions.ask_retry(services.db, media_id, owner_id)
    row = await media(services, owner_id, media_id)
    if queue is None:
        raise MediaNotRetryableError(media_id, row["status"])
    services.bell.ring(queue)
    return row


@dataclass(frozen=True, slots=True)
class Canceling:
    """What can be said to an owner's wish to cancel."""

    media: Row
    answer: CancelAnswer
    """REQUESTED or CANCELED."""
    money_spent: str
    """A MoneySpent."""


async def cancel_media(services: MediaServices, owner_id: UUID, media_id: UUID) -> Canceling:
    """Cancel a media: at once while it waits; while it is worked on, the wish is passed on.

    Raises:
        MediaNotFoundError: The owner has none of that id.
        CancelTooLateError: It is over, or its provider cannot stop it.
    """
    if not await transitions.cancel_waiting(services.db, media_id, owner_id):
        await transitions.ask_cancel(services.db, media_id, owner_id)
    row = await media(services, owner_id, media_id)
    said = {} if row["cancel"] is None else msgspec.json.decode(row["cancel"], type=dict[str, str])
    spent = said.get("money_spent") or await queries.money_spent(services.db, media_id)
    if row["status"] == MediaStatus.CANCELED:
        return Canceling(row, CancelAnswer.CANCELED, spent)
    if row["status"] in FINAL or said.get("answer") == CancelAnswer.TOO_LATE:
        raise CancelTooLateError(media_id, row["status"], spent)
    return Canceling(row, CancelAnswer.REQUESTED, spent)


async def waiting(services: MediaServices, row: Row) -> Waiting | None:
    """What a media waits for; None: it does not wait."""
    return await services.line.waiting(row)


async def job(services: MediaServices, owner_id: UUID, job_id: UUID) -> asyncpg.Record:
    """The light status of a job.

    Raises:
        JobNotFoundError: The owner has none of that id.
    """
    row = await queries.job(services.db, job_id, owner_id)
    if row is None:
        raise JobNotFoundError(f"there is no job {job_id}")
    return row


async def history(
    services: MediaServices, owner_id: UUID, *, status: MediaStatus | None, before: UUID | None, limit: int
) -> Sequence[asyncpg.Record]:
    """The owner's media, newest first; one more than `limit` where more follow."""
    return await queries.newest(services.db, owner_id, status=status, before=before, limit=limit + 1)


async def content_url(
    services: MediaServices, owner_id: UUID, media_id: UUID, index: int, rendition: Rendition | None = None
) -> SignedUrl:
    """A signed URL of one file, or of another form of it.

    Raises:
        MediaNotFoundError, FileNotFoundInMediaError: There is no such media, or no such file in it.
        MediaNotCompletedError: It has no files yet, or never will.
    """
    place = (owner_id, media_id, index, rendition)
    known = services.urls.remembered(place)
    if known is not None:
        return known
    row = await job_queries.content(services.db, media_id, owner_id, index)
    if row is None:
        raise MediaNotFoundError(f"there is no media {media_id}")
    if row["key"] is None:
        if row["status"] != MediaStatus.COMPLETED:
            raise MediaNotCompletedError(media_id, row["status"])
        raise FileNotFoundInMediaError(f"media {media_id} has no file {index}")
    key = row["key"] if rendition is None else row["poster_key"]
    if key is None:
        raise FileNotFoundInMediaError(f"file {index} of media {media_id} has no {rendition}")
    return await services.urls.sign(place, key)

"""What can be done with existing media, one function for each use case. Requesting one: `intake/submit.py`."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from uuid import UUID

import msgspec

from app.core.redaction import redacted_chunks
from app.jobs import queries as job_queries
from app.jobs.scheduling.queue_position import Waiting
from app.jobs.states import FINAL, CancelAnswer, MediaStatus, Rendition
from app.jobs.transitions.cancellation import cancel_waiting, request_cancel
from app.jobs.transitions.owner_retry import request_retry
from app.media import queries
from app.media.context import MediaServices
from app.media.errors import (
    AnswerNotFoundError,
    AnswerNotReadableError,
    CancelTooLateError,
    FileNotFoundInMediaError,
    JobNotFoundError,
    MediaNotCompletedError,
    MediaNotFoundError,
    MediaNotRetryableError,
    ModelNotFoundError,
    StoreUnavailableInRequestError,
)
from app.media.queries import JobRow, MediaRow
from app.media_generator.registry import MAX_SUGGESTIONS, Offer, RouteListing, UnknownModelError
from app.storage.signing import SignedUrl
from app.storage.store import ObjectHead, ObjectNotFoundError, StoreUnavailableError


def model_card(services: MediaServices, name: str) -> Offer | RouteListing:
    """A model or a route by its name.

    Raises:
        ModelNotFoundError: There is none.
    """
    try:
        return services.registry.resolve(name)
    except UnknownModelError as error:
        raise ModelNotFoundError(f"there is no model {name!r}; {did_you_mean(error.suggestions)}") from None


def did_you_mean(names: Sequence[str]) -> str:
    """A hint for an unknown model; `names` are similar ones, or all where none is similar."""
    return "GET /models lists all models" if len(names) > MAX_SUGGESTIONS else f"did you mean {', '.join(names)}?"


async def media_of_job(services: MediaServices, owner_id: UUID, job_id: UUID) -> MediaRow:
    """The complete media of a job.

    Raises:
        JobNotFoundError: The owner has none of that id.
    """
    row = await queries.media_by_job(services.db, job_id, owner_id)
    if row is None:
        raise JobNotFoundError(f"there is no job {job_id}")
    return row


async def media(services: MediaServices, owner_id: UUID, media_id: UUID) -> MediaRow:
    """The complete media.

    Raises:
        MediaNotFoundError: The owner has none of that id.
    """
    row = await queries.media_by_id(services.db, media_id, owner_id)
    if row is None:
        raise MediaNotFoundError(f"there is no media {media_id}")
    return row


async def retry_media(services: MediaServices, owner_id: UUID, media_id: UUID) -> MediaRow:
    """Retry a media item that ended without a result; it may be charged again.

    Raises:
        MediaNotFoundError: The owner has none of that id.
        MediaNotRetryableError: It is in progress, or completed.
    """
    queue = await request_retry(services.db, media_id, owner_id)
    row = await media(services, owner_id, media_id)
    if queue is None:
        raise MediaNotRetryableError(media_id, row.status)
    services.bell.ring(queue)
    return row


@dataclass(frozen=True, slots=True)
class Canceling:
    """The result of a cancel request."""

    media: MediaRow
    answer: CancelAnswer
    """REQUESTED or CANCELED."""
    money_spent: str
    """A MoneySpent."""


async def cancel_media(services: MediaServices, owner_id: UUID, media_id: UUID) -> Canceling:
    """Cancel a media item: at once while it waits; while in progress, the request goes to its provider.

    Raises:
        MediaNotFoundError: The owner has none of that id.
        CancelTooLateError: It has finished, or its provider cannot stop it.
    """
    if not await cancel_waiting(services.db, media_id, owner_id):
        await request_cancel(services.db, media_id, owner_id)
    row = await media(services, owner_id, media_id)
    result = {} if row.cancel is None else msgspec.json.decode(row.cancel, type=dict[str, str])
    spent = result.get("money_spent") or await queries.money_spent(services.db, media_id)
    if row.status == MediaStatus.CANCELED:
        return Canceling(row, CancelAnswer.CANCELED, spent)
    if row.status in FINAL or result.get("answer") == CancelAnswer.TOO_LATE:
        raise CancelTooLateError(media_id, row.status, spent)
    return Canceling(row, CancelAnswer.REQUESTED, spent)


async def waiting(services: MediaServices, row: MediaRow | JobRow) -> Waiting | None:
    """What a media item waits for; None: it does not wait."""
    return await services.queue_positions.waiting(row)


async def job(services: MediaServices, owner_id: UUID, job_id: UUID) -> JobRow:
    """The light status of a job.

    Raises:
        JobNotFoundError: The owner has none of that id.
    """
    row = await queries.job(services.db, job_id, owner_id)
    if row is None:
        raise JobNotFoundError(f"there is no job {job_id}")
    return row


async def list_media(
    services: MediaServices, owner_id: UUID, *, statuses: Sequence[MediaStatus], before: UUID | None, limit: int
) -> Sequence[MediaRow]:
    """The owner's media in one of these statuses, or all, newest first; one more than `limit` where more follow."""
    return await queries.list_media(services.db, owner_id, statuses=statuses, before=before, limit=limit + 1)


async def raw_answer(services: MediaServices, owner_id: UUID, media_id: UUID, number: int) -> AsyncGenerator[bytes]:
    """What the provider answered to an attempt, byte for byte but for secrets of ours, which are masked.

    Raises:
        MediaNotFoundError: The owner has no such media.
        AnswerNotFoundError: There is no such attempt, or nothing was kept of it.
        AnswerNotReadableError: The store cannot be read now.
    """
    await media(services, owner_id, media_id)
    attempts = await queries.attempts(services.db, media_id)
    name = next((one.answer for one in attempts if one.number == number), None)
    if name is None:
        raise AnswerNotFoundError(f"nothing is kept of what a provider answered to attempt {number} of {media_id}")
    chunks = redacted_chunks(services.answers.open(name))
    try:
        # The first chunk shows whether it is there: afterwards the status is sent.
        first = await anext(chunks, b"")
    except FileNotFoundError as error:
        raise AnswerNotFoundError(f"the answer to attempt {number} of {media_id} is no longer stored") from error
    except OSError as error:
        raise AnswerNotReadableError("the store cannot be read now", headers={"Retry-After": "5"}) from error
    return _chained(first, chunks)


async def _chained(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    yield first
    async with aclosing(rest):
        async for chunk in rest:
            yield chunk


async def content_url(
    services: MediaServices, owner_id: UUID, media_id: UUID, index: int, rendition: Rendition | None = None
) -> SignedUrl:
    """A signed URL of one file, or of a rendition of it.

    Raises:
        MediaNotFoundError, FileNotFoundInMediaError: There is no such media, or no such file in it.
        MediaNotCompletedError: It has no files yet, or never will.
    """
    place = (owner_id, media_id, index, rendition)
    cached = services.urls.cached(place)
    if cached is not None:
        return cached
    return await services.urls.sign(place, await _key_of(services, owner_id, media_id, index, rendition))


async def content_head(
    services: MediaServices, owner_id: UUID, media_id: UUID, index: int, rendition: Rendition | None = None
) -> ObjectHead:
    """What the store says about one file, or about a rendition of it.

    Raises:
        MediaNotFoundError, FileNotFoundInMediaError: There is no such media, no such file in it, or none in the store.
        MediaNotCompletedError: It has no files yet, or never will.
        StoreUnavailableInRequestError: The store does not say.
    """
    key = await _key_of(services, owner_id, media_id, index, rendition)
    try:
        return await services.store.head(key)
    except ObjectNotFoundError:
        raise FileNotFoundInMediaError(f"file {index} of media {media_id} is not in the store any more") from None
    except StoreUnavailableError as error:
        raise StoreUnavailableInRequestError("the store does not describe the file now; try again soon") from error


async def _key_of(
    services: MediaServices, owner_id: UUID, media_id: UUID, index: int, rendition: Rendition | None
) -> str:
    """Where one file is in the bucket; raises as `content_url`."""
    row = await job_queries.content(services.db, media_id, owner_id, index)
    if row is None:
        raise MediaNotFoundError(f"there is no media {media_id}")
    if row.key is None:
        if row.status != MediaStatus.COMPLETED:
            raise MediaNotCompletedError(media_id, row.status)
        raise FileNotFoundInMediaError(f"media {media_id} has no file {index}")
    key = row.key if rendition is None else row.poster_key
    if key is None:
        raise FileNotFoundInMediaError(f"file {index} of media {media_id} has no {rendition}")
    return key

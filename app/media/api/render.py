"""Answers of the hot routes as JSON bytes, shaped as `schemas.py` says."""

from collections.abc import Sequence

import msgspec

from app.core.pagination import encode_cursor
from app.jobs.scheduling.queue_position import Waiting
from app.media.queries import JobRow, MediaRow
from app.media.resource import job_resource, resource
from app.media.service import Canceling

_encode = msgspec.json.Encoder().encode


def media_bytes(row: MediaRow, public_url: str, waiting: Waiting | None = None) -> bytes:
    """One media as `MediaOut`."""
    return _encode(resource(row, public_url, waiting))


def page_bytes(rows: Sequence[MediaRow], limit: int, public_url: str) -> bytes:
    """Up to `limit` media as `MediaPage`; one row more says that there is a next page."""
    shown = rows[:limit]
    cursor = encode_cursor(shown[-1].id) if len(rows) > limit else None
    return _encode({"items": [resource(row, public_url) for row in shown], "next_cursor": cursor})


def job_bytes(row: JobRow, waiting: Waiting | None) -> bytes:
    """The light status as `JobOut`."""
    return _encode(job_resource(row, waiting))


def etag(row: MediaRow | JobRow, waiting: Waiting | None) -> str:
    """Changes whenever the row does, or its place in the queue."""
    place = "" if waiting is None else f"-{waiting.position}-{(waiting.reason or {}).get('code')}"
    return f'"{version(row)}{place}"'


def version(row: MediaRow | JobRow) -> str:
    """Changes whenever the row does; the first part of its ETag."""
    return f"{row.status}-{row.updated_at.timestamp():.6f}"


def cancel_bytes(canceling: Canceling) -> bytes:
    """The answer to a cancel request as `CancelOut`."""
    row = canceling.media
    return _encode(
        {
            "media_id": row.id,
            "job_id": row.job_id,
            "status": row.status,
            "answer": canceling.answer,
            "money_spent": canceling.money_spent,
        }
    )

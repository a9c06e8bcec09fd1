"""Rows as JSON bytes: what the hot routes answer, shaped like `schemas.py` says."""

from collections.abc import Sequence

import msgspec

from app.core.pagination import encode_cursor
from app.jobs.scheduling.queue_position import Waiting
from app.media.resource import Row, next_run, raw, resource, utc, waits
from app.media.service import Canceling

_encode = msgspec.json.Encoder().encode


def media_bytes(row: Row, public_url: str, waiting: Waiting | None = None) -> bytes:
    """One media as `MediaOut`."""
    return _encode(resource(row, public_url, waiting))


def page_bytes(rows: Sequence[Row], limit: int, public_url: str) -> bytes:
    """Up to `limit` media as `MediaPage`; one row more says that there is a next page."""
    shown = rows[:limit]
    cursor = encode_cursor(shown[-1]["id"]) if len(rows) > limit else None
    return _encode({"items": [resource(row, public_url) for row in shown], "next_cursor": cursor})


def job_bytes(row: Row, waiting: Waiting | None) -> bytes:
    """The light status as `JobOut`."""
    return _encode(
        {
            "job_id": row["job_id"],
            "media_id": row["media_id"],
            "status": row["status"],
            "progress": row["progress"],
            "number_of_tries": row["number_of_tries"],
            "next_run": next_run(row),
            **waits(waiting),
            "deadline": utc(row["deadline"]),
            "cancel": raw(row["cancel"]),
            "error": raw(row["error"]),
            "updated_at": utc(row["updated_at"]),
        }
    )


def etag(row: Row, waiting: Waiting | None) -> str:
    """Changes whenever the row does, or its place in the queue."""
    place = "" if waiting is None else f"-{waiting.position}-{(waiting.reason or {}).get('code')}"
    return f'"{version(row)}{place}"'


def version(row: Row) -> str:
    """Changes whenever the row does; the first part of its ETag."""
    return f"{row['status']}-{row['updated_at'].timestamp():.6f}"


def cancel_bytes(canceling: Canceling) -> bytes:
    """The answer to a wish to cancel as `CancelOut`."""
    row = canceling.media
    return _encode(
        {
            "media_id": row["id"],
            "job_id": row["job_id"],
            "status": row["status"],
            "answer": canceling.answer,
            "money_spent": canceling.money_spent,
        }
    )

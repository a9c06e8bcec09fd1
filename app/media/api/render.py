"""Rows as JSON bytes: what the hot routes answer, shaped like `schemas.py` says."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import msgspec

from app.core.pagination import encode_cursor
from app.media.line import MOST_AHEAD, Waiting
from app.media.service import Canceling
from app.media.states import MediaStatus

Row: TypeAlias = Mapping[str, Any] | asyncpg.Record

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def content_url(public_url: str, media_id: UUID, index: int) -> str:
    """The permanent address of a file."""
    return f"{public_url}/media/content/{media_id}?index={index}"


def media_bytes(row: Row, public_url: str, waiting: Waiting | None = None) -> bytes:
    """One media as `MediaOut`."""
    return _encode(_media(row, public_url, waiting))


def page_bytes(rows: Sequence[Row], limit: int, public_url: str) -> bytes:
    """Up to `limit` media as `MediaPage`; one row more says that there is a next page."""
    shown = rows[:limit]
    cursor = encode_cursor(shown[-1]["id"]) if len(rows) > limit else None
    return _encode({"items": [_media(row, public_url, None) for row in shown], "next_cursor": cursor})


def job_bytes(row: Row, waiting: Waiting | None) -> bytes:
    """The light status as `JobOut`."""
    return _encode(
        {
            "job_id": row["job_id"],
            "media_id": row["media_id"],
            "status": row["status"],
            "progress": row["progress"],
            "number_of_tries": row["number_of_tries"],
            "next_run": _next_run(row),
            **_waits(waiting),
            "deadline": _utc(row["deadline"]),
            "cancel": _raw(row["cancel"]),
            "error": _raw(row["error"]),
            "updated_at": _utc(row["updated_at"]),
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


def _media(row: Row, public_url: str, waiting: Waiting | None) -> dict[str, Any]:
    return {
        "id": row["id"],
        "job_id": row["job_id"],
        "status": row["status"],
        "prompt": row["prompt"],
        "model": row["model"],
        "input": _raw(row["input"]),
        "progress": row["progress"],
        "number_of_tries": row["number_of_tries"],
        "next_run": _next_run(row),
        "priority": row["priority"],
        **_waits(waiting),
        "deadline": _utc(row["deadline"]),
        "on_unknown": row["on_unknown"],
        "cancel": _raw(row["cancel"]),
        "error": _raw(row["error"]),
        "files": _files(row, public_url),
        "metadata": _raw(row["metadata"]),
        "created_at": _utc(row["created_at"]),
        "updated_at": _utc(row["updated_at"]),
        "started_at": _utc(row["started_at"]),
        "completed_at": _utc(row["completed_at"]),
    }


def _files(row: Row, public_url: str) -> list[dict[str, Any]]:
    if row["files"] is None:
        return []
    return [{**file, "url": content_url(public_url, row["id"], file["index"])} for file in _decode(row["files"])]


def _waits(waiting: Waiting | None) -> dict[str, Any]:
    if waiting is None:
        return {"queue_position": None, "waiting_for": None}
    full = waiting.position is not None and waiting.position >= MOST_AHEAD
    return {"queue_position": f"{MOST_AHEAD}+" if full else waiting.position, "waiting_for": waiting.reason}


def _next_run(row: Row) -> datetime | None:
    return _utc(row["next_run"]) if row["status"] == MediaStatus.IN_QUEUE else None


def _raw(text: str | None) -> msgspec.Raw | None:
    return None if text is None else msgspec.Raw(text.encode())


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC)

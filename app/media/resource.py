"""A media item as JSON, from a row of `queries.py`; shaped as `api/schemas.py` describes."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from app.core.pagination import encode_cursor
from app.jobs.queries import MOST_AHEAD
from app.jobs.scheduling.queue_position import Waiting
from app.jobs.states import FINAL, CancelAnswer, MediaStatus, Rendition
from app.jobs.transitions.request import ClientColumns
from app.media.queries import JobRow, MediaRow

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_CLIENT_COLUMNS: Final = ClientColumns.__struct_fields__


_NOT_WAITING: Final = {"queue_position": None, "waiting_for": None}


def media_bytes(row: MediaRow, public_url: str, waiting: Waiting | None = None) -> bytes:
    """`MediaOut`: the complete media."""
    return _encode(media_resource(row, public_url, waiting))


def page_bytes(rows: Sequence[MediaRow], limit: int, public_url: str) -> bytes:
    """`MediaPage`: up to `limit` media; one row more means that there is a next page."""
    shown = rows[:limit]
    cursor = encode_cursor(shown[-1].id) if len(rows) > limit else None
    return _encode({"items": [media_resource(row, public_url) for row in shown], "next_cursor": cursor})


def job_bytes(row: JobRow, waiting: Waiting | None) -> bytes:
    """`JobOut`: the light status of a job."""
    return _encode(
        {
            "job_id": row.job_id,
            "media_id": row.media_id,
            "status": row.status,
            "progress": row.progress,
            "number_of_tries": row.number_of_tries,
            "next_run": row.next_run if row.status == MediaStatus.IN_QUEUE else None,
            **_waiting_fields(row, waiting),
            "deadline": row.deadline,
            "cancel": _raw(row.cancel),
            "error": _raw(row.error),
            "updated_at": row.updated_at,
        }
    )


def cancel_bytes(row: MediaRow, answer: CancelAnswer, money_spent: str) -> bytes:
    """`CancelOut`: the answer to a cancel request."""
    return _encode(
        {
            "media_id": row.id,
            "job_id": row.job_id,
            "status": row.status,
            "answer": answer,
            "money_spent": money_spent,
        }
    )


def etag(row: MediaRow | JobRow, waiting: Waiting | None) -> str:
    """Changes whenever the row does, or its place in the queue."""
    place = "" if waiting is None else f"-{waiting.position}-{(waiting.reason or {}).get('code')}"
    return f'"{version(row)}{place}"'


def version(row: MediaRow | JobRow) -> str:
    """Changes whenever the row does; the first part of its ETag."""
    return f"{row.status}-{row.updated_at.timestamp():.6f}"


def media_resource(row: MediaRow, public_url: str, waiting: Waiting | None = None) -> dict[str, Any]:
    """The complete media, to be encoded."""
    return {
        "id": row.id,
        "job_id": row.job_id,
        "status": row.status,
        **{name: getattr(row, name) for name in _CLIENT_COLUMNS},
        "model": row.model,
        "route": row.route,
        "input": _raw(row.input),
        "progress": row.progress,
        "number_of_tries": row.number_of_tries,
        "next_run": row.next_run if row.status == MediaStatus.IN_QUEUE else None,
        **_waiting_fields(row, waiting),
        "deadline": row.deadline,
        "cancel": _raw(row.cancel),
        "error": _raw(row.error),
        "warnings": [] if row.warnings is None else _raw(row.warnings),
        "files": [] if row.files is None else [_file(row.id, file, public_url) for file in _decode(row.files)],
        "cost": _raw(row.cost),
        "metadata": _raw(row.metadata),
        "created_at": row.created_at,
        "updated_at": row.updated_at,
        "started_at": row.started_at,
        "completed_at": row.completed_at,
    }


def _waiting_fields(row: MediaRow | JobRow, waiting: Waiting | None) -> dict[str, Any]:
    # A worker of the release before, which knows no delays, leaves them on media that have ended.
    if row.waits_for is not None and row.status not in FINAL:
        return {"queue_position": None, "waiting_for": _raw(row.waits_for)}
    if waiting is None:
        return _NOT_WAITING
    full = waiting.position is not None and waiting.position >= MOST_AHEAD
    return {"queue_position": f"{MOST_AHEAD}+" if full else waiting.position, "waiting_for": waiting.reason}


def _raw(text: str | None) -> msgspec.Raw | None:
    """JSON text, copied into the response unchanged."""
    return None if text is None else msgspec.Raw(text.encode())


def utc(moment: datetime | None) -> datetime | None:
    """The same moment in UTC."""
    return None if moment is None else moment.astimezone(UTC)


def _file(media_id: UUID, file: dict[str, Any], public_url: str) -> dict[str, Any]:
    url = f"{public_url}/media/content/{media_id}?index={file['index']}"
    poster = file.pop("poster")
    return {**file, "url": url, "poster_url": f"{url}&rendition={Rendition.POSTER}" if poster else None}

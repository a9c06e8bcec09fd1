"""A media as the API shows it, from a row of `queries.py`; shaped like `MediaOut` of `api/schemas.py`."""

from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from app.jobs.queries import MOST_AHEAD
from app.jobs.scheduling.queue_position import Waiting
from app.jobs.states import MediaStatus, Rendition
from app.jobs.transitions.request import ClientColumns
from app.media.queries import JobRow, MediaRow

_decode = msgspec.json.Decoder().decode
_CLIENT_COLUMNS: Final = ClientColumns.__struct_fields__


def content_url(public_url: str, media_id: UUID, index: int) -> str:
    """The permanent URL of a file."""
    return f"{public_url}/media/content/{media_id}?index={index}"


def resource(row: MediaRow, public_url: str, waiting: Waiting | None = None) -> dict[str, Any]:
    """The complete media."""
    return {
        "id": row.id,
        "job_id": row.job_id,
        "status": row.status,
        **{name: getattr(row, name) for name in _CLIENT_COLUMNS},
        "model": row.model,
        "route": row.route,
        "input": raw(row.input),
        "progress": row.progress,
        "number_of_tries": row.number_of_tries,
        "next_run": next_run(row),
        **waiting_fields(waiting),
        "deadline": utc(row.deadline),
        "cancel": raw(row.cancel),
        "error": raw(row.error),
        "files": _files(row, public_url),
        "cost": raw(row.cost),
        "metadata": raw(row.metadata),
        "created_at": utc(row.created_at),
        "updated_at": utc(row.updated_at),
        "started_at": utc(row.started_at),
        "completed_at": utc(row.completed_at),
    }


def job_resource(row: JobRow, waiting: Waiting | None) -> dict[str, Any]:
    """The light status of a job, shaped like `JobOut`."""
    return {
        "job_id": row.job_id,
        "media_id": row.media_id,
        "status": row.status,
        "progress": row.progress,
        "number_of_tries": row.number_of_tries,
        "next_run": next_run(row),
        **waiting_fields(waiting),
        "deadline": utc(row.deadline),
        "cancel": raw(row.cancel),
        "error": raw(row.error),
        "updated_at": utc(row.updated_at),
    }


def waiting_fields(waiting: Waiting | None) -> dict[str, Any]:
    """What it waits for."""
    if waiting is None:
        return {"queue_position": None, "waiting_for": None}
    full = waiting.position is not None and waiting.position >= MOST_AHEAD
    return {"queue_position": f"{MOST_AHEAD}+" if full else waiting.position, "waiting_for": waiting.reason}


def next_run(row: MediaRow | JobRow) -> datetime | None:
    """When it may be claimed, while it waits."""
    return utc(row.next_run) if row.status == MediaStatus.IN_QUEUE else None


def raw(text: str | None) -> msgspec.Raw | None:
    """JSON text, to be put into an answer as it is."""
    return None if text is None else msgspec.Raw(text.encode())


def utc(moment: datetime | None) -> datetime | None:
    """The same moment, shown in UTC."""
    return None if moment is None else moment.astimezone(UTC)


def _files(row: MediaRow, public_url: str) -> list[dict[str, Any]]:
    if row.files is None:
        return []
    return [_file(row.id, file, public_url) for file in _decode(row.files)]


def _file(media_id: UUID, file: dict[str, Any], public_url: str) -> dict[str, Any]:
    url = content_url(public_url, media_id, file["index"])
    poster = file.pop("poster")
    return {**file, "url": url, "poster_url": f"{url}&rendition={Rendition.POSTER}" if poster else None}

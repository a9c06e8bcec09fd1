"""The payload of an event for webhooks and event streams: the event, and the media it happened to.

`data` is the media at the time the event is first sent. It holds permanent URLs only, and stays small enough for any
receiver: large parts are left out and named in `omitted`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final
from uuid import UUID

import msgspec
import structlog

from app.core.database.pool import DatabasePool
from app.media import queries
from app.media.resource import media_resource, utc

MAX_BYTES: Final = 20_000
_CUT_LENGTH: Final = 500
"""Characters that remain of a text that is cut."""
_MAX_FILES: Final = 10
_MAX_NAMED: Final = 50
"""Parameters of an input that are left out one by one, and characters of their names; beyond it, all of it."""
_OMITTED_BYTES: Final = 4_000
"""Reserved for the names in `omitted`."""

_ALWAYS: Final = ("id", "job_id", "status", "model", "number_of_tries", "created_at", "updated_at", "completed_at")
"""What remains as a last resort."""

log = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode
_Part = tuple[str, int, Callable[[], object]]


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a media item."""

    type: str
    """An EventType."""
    at: datetime
    sequence: int
    """Rises from event to event of a media item."""
    media_id: UUID


class Payloads:
    """Renders payloads; `public_url` is where clients reach the API."""

    def __init__(self, db: DatabasePool, public_url: str) -> None:
        self._db = db
        self._public_url = public_url

    async def of(self, events: Sequence[Event]) -> list[bytes]:
        """One payload for each event; the media are read with one statement."""
        rows = await queries.media_by_ids(self._db, list({event.media_id for event in events}))
        media = {row.id: row for row in rows}
        rendered = dict[Event, bytes]()
        for event in events:
            # Many streams may follow one media; they share the payload.
            if event not in rendered:
                row = media.get(event.media_id)
                rendered[event] = payload(event, None if row is None else media_resource(row, self._public_url))
        return [rendered[event] for event in events]


def payload(event: Event, data: dict[str, Any] | None) -> bytes:
    """The body of one event, at most MAX_BYTES; `data` is None if the media no longer exists."""
    whole = {
        "type": event.type,
        "timestamp": utc(event.at),
        "sequence": event.sequence,
        "data": {"id": event.media_id} if data is None else data,
    }
    body = _encode(whole)
    if data is not None and len(body) > MAX_BYTES:
        try:
            body = _shortened(whole, data)
        except (ValueError, RecursionError, msgspec.MsgspecError):
            log.warning("payload_unreadable", media_id=str(event.media_id))
    if len(body) > MAX_BYTES and data is not None:
        kept = {name: data[name] for name in _ALWAYS}
        body = _encode({**whole, "data": kept, "omitted": sorted(data.keys() - kept.keys())})
    return body


def _shortened(whole: dict[str, Any], data: dict[str, Any]) -> bytes:
    data = whole["data"] = {**data, "input": dict(msgspec.json.decode(data["input"]))}
    omitted: list[str] = []
    surplus = len(_encode(whole)) + _OMITTED_BYTES - MAX_BYTES
    for name, size, leave_out in sorted(_parts(data), key=lambda part: -part[1]):
        if surplus > 0:
            leave_out()
            omitted.append(name)
            surplus -= size
    return _encode({**whole, "omitted": sorted(omitted)})


def _parts(data: dict[str, Any]) -> Iterator[_Part]:
    """What can be left out: its name, the bytes it saves, and the call that removes it."""
    given: dict[str, Any] = data["input"]
    if len(given) <= _MAX_NAMED and all(len(name) <= _MAX_NAMED for name in given):
        for name, value in list(given.items()):
            yield f"input.{name}", len(_encode(value)), partial(given.pop, name)
    else:
        yield "input", len(_encode(given)), partial(data.update, input={})
    files = data["files"][:_MAX_FILES]
    yield "files", len(_encode(data["files"])) - len(_encode(files)), partial(data.update, files=files)
    yield "metadata", len(_encode(data["metadata"])), partial(data.update, metadata={})
    short = _cut(data["prompt"])
    yield "prompt", len(_encode(data["prompt"])) - len(_encode(short)), partial(data.update, prompt=short)
    if data["error"] is not None:
        error = data["error"] = dict(msgspec.json.decode(data["error"]))
        message = _cut(error["message"])
        saved = len(_encode(error["message"])) - len(_encode(message))
        yield "error.message", saved, partial(error.update, message=message)


def _cut(text: str) -> str:
    return text if len(text) <= _CUT_LENGTH else f"{text[:_CUT_LENGTH]}…"

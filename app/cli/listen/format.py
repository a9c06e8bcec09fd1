"""Formats the events of a stream, one line each."""

from datetime import datetime
from typing import Any, Final

import msgspec

from app.cli.listen.forward import Forwarded
from app.cli.listen.sse_client import ServerSentEvent
from app.webhooks.event_types import EventType

_PROMPT: Final = 40
_MESSAGE: Final = 200
"""How many characters are shown."""


EVENT_NAMES: Final = tuple(kind.partition(".")[2] for kind in EventType)
"""The status changes of a media item, as streams name them."""
PROGRESS: Final = "progress"


class StateChange(msgspec.Struct, frozen=True):
    """A status change of a media item; the body of a webhook."""

    type: str
    timestamp: datetime
    sequence: int
    data: dict[str, Any]
    """The media; at least its `id`."""


class Progress(msgspec.Struct, frozen=True):
    """Progress of a media item."""

    media_id: str
    status: str
    progress: float | None


def state_line(change: StateChange, forwarded: Forwarded | None) -> str:
    """A status change, and the receiver's answer."""
    media = change.data
    name = change.type.partition(".")[2]
    parts = [_clock(change.timestamp), f"{name:<9}", media["id"], media.get("model") or "", _summary(change)]
    if forwarded is not None:
        parts.append(_outcome(forwarded))
    return printable("  ".join(part for part in parts if part))


def progress_line(progress: Progress, now: datetime) -> str:
    """Progress of a media item."""
    share = "" if progress.progress is None else f"{progress.progress:.0%}"
    return printable(f"{_clock(now)}  {PROGRESS:<9}  {progress.media_id}  {share}")


def json_line(event: ServerSentEvent, forwarded: Forwarded | None) -> str:
    """An event for `--json`."""
    line: dict[str, Any] = {"event": event.name, "id": event.id, "data": msgspec.Raw(event.data.encode())}
    if forwarded is not None:
        line["forwarded"] = forwarded
    return msgspec.json.encode(line).decode()


def printable(text: str) -> str:
    """Replaces line breaks and terminal control characters by spaces."""
    return "".join(character if character.isprintable() else " " for character in text)


def _summary(change: StateChange) -> str:
    """The most useful detail of each kind of event."""
    media = change.data
    match change.type:
        case EventType.QUEUED:
            return f'"{_cut(media.get("prompt") or "", _PROMPT)}"'
        case EventType.RETRY | EventType.FAILED:
            error = media.get("error")
            return f"{error['code']}: {_cut(error['message'], _MESSAGE)}" if error else ""
        case EventType.COMPLETED:
            files: list[dict[str, Any]] = media.get("files") or []
            first = f", {files[0]['url']}" if files else ""
            return f"{len(files)} {'file' if len(files) == 1 else 'files'}{first}"
        case _:
            return ""


def _outcome(forwarded: Forwarded) -> str:
    took = f"in {forwarded.milliseconds} ms"
    if forwarded.error is None:
        return f"-> {forwarded.status_code} {took}"
    return f"-> FAILED {took}: {forwarded.error}; not retried"


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone():%H:%M:%S}"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"

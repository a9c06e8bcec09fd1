"""Events of a stream as a person reads them: a line for each."""

from datetime import datetime
from typing import Any, Final

import msgspec

from app.cli.listen.forward import Forwarded
from app.cli.listen.sse_client import ServerSentEvent
from app.webhooks.event_types import EventType

_PROMPT: Final = 40
_MESSAGE: Final = 200
"""Characters that are shown."""


NAMES: Final = tuple(kind.partition(".")[2] for kind in EventType)
"""What streams call the moves of a media."""
PROGRESS: Final = "progress"


class Told(msgspec.Struct, frozen=True):
    """A move of a media; the body of a webhook."""

    type: str
    timestamp: datetime
    sequence: int
    data: dict[str, Any]
    """The media; at least its `id`."""


class Progress(msgspec.Struct, frozen=True):
    """How far a media is."""

    media_id: str
    status: str
    progress: float | None


def state_line(told: Told, forwarded: Forwarded | None) -> str:
    """A move, and what the receiver said to it."""
    media = told.data
    name = told.type.partition(".")[2]
    parts = [_clock(told.timestamp), f"{name:<9}", media["id"], media.get("model") or "", _matter(told)]
    if forwarded is not None:
        parts.append(_outcome(forwarded))
    return plain("  ".join(part for part in parts if part))


def progress_line(progress: Progress, now: datetime) -> str:
    """How far a media is."""
    share = "" if progress.progress is None else f"{progress.progress:.0%}"
    return plain(f"{_clock(now)}  {PROGRESS:<9}  {progress.media_id}  {share}")


def json_line(event: ServerSentEvent, forwarded: Forwarded | None) -> str:
    """The same for programs."""
    line: dict[str, Any] = {"event": event.name, "id": event.id, "data": msgspec.Raw(event.data.encode())}
    if forwarded is not None:
        line["forwarded"] = forwarded
    return msgspec.json.encode(line).decode()


def plain(text: str) -> str:
    """On one line, and without characters that would steer the terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


def _matter(told: Told) -> str:
    """What one wants to know first."""
    media = told.data
    match told.type:
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
    return f"-> FAILED {took}: {forwarded.error}; not tried again"


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone():%H:%M:%S}"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"

"""Reading what has happened, for streams: one statement for however many streams look at the same time.

Within one media the ids of the history are in the order of commits, because every event locks the media first. Over
all media of an owner, and in the log, they are not: a row with a lower id may be committed later. There the order is
(txid, id), and a row is told only when every transaction before it has ended, so nothing comes to light behind a
reader's back.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from app.core.database.pool import DatabasePool
from app.core.database.rows import Row
from app.jobs.states import MediaStatus

# ruff: noqa: S608 - the statements are put together from the constants below; values are always arguments

AT_ONCE: Final = 200
"""Rows of one look."""
_ENDED: Final = "pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
"""Every transaction below this one has ended."""


class HistoryEntry(msgspec.Struct, frozen=True):
    """A row of the history."""

    id: int
    event: str
    """A MediaEvent."""
    status: str
    at: datetime
    detail: dict[str, Any] | None
    media_id: UUID
    txid: int
    model: str = ""
    tags: tuple[str, ...] = ()


class LogEntry(msgspec.Struct, frozen=True):
    """A row of the log."""

    id: int
    txid: int
    at: datetime
    level: str
    event: str
    attempt: int | None
    fields: dict[str, Any]


class MediaLook(msgspec.Struct, frozen=True):
    """A look at one media: what came after the history row `after` and the log row (`log_txid`, `log_id`)."""

    media_id: UUID
    after: int
    log_txid: int
    log_id: int


class MediaSeen(msgspec.Struct, frozen=True):
    """What the look has shown; oldest first."""

    status: str
    progress: float | None
    history: list[HistoryEntry]
    logs: list[LogEntry]


class OwnerLook(msgspec.Struct, frozen=True):
    """A look at all media of an owner: what came after the history row (`txid`, `id`)."""

    owner_id: UUID
    txid: int
    id: int


class OwnerSeen(msgspec.Struct, frozen=True):
    """What the look has shown; oldest first."""

    history: list[HistoryEntry]
    hidden: bool
    """There is more, behind a transaction that has not ended."""


class ProgressLook(msgspec.Struct, frozen=True):
    """Asks how far these media of an owner are."""

    owner_id: UUID
    media_ids: tuple[UUID, ...]


class ProgressEntry(msgspec.Struct, frozen=True):
    """How far one media is."""

    media_id: UUID
    status: str
    progress: float
    model: str
    tags: tuple[str, ...]


class _MediaNews(Row, frozen=True):
    n: int
    status: str
    progress: float | None
    history: str
    logs: str


class _OwnerNews(Row, frozen=True):
    n: int
    history: str
    hidden: bool


class _Progress(Row, frozen=True):
    n: int
    media_id: UUID
    status: str
    progress: float
    model: str
    tags: list[str]


class _HistoryId(Row, frozen=True):
    id: int


class _Ended(Row, frozen=True):
    ended: int


_HAPPENED: Final = "h.id, h.txid, h.event, h.status, h.at, h.detail, h.media_id"
_MEDIA: Final = f"""
SELECT a.n, m.status, m.progress,
    coalesce((SELECT json_agg(e ORDER BY e.id) FROM (
        SELECT {_HAPPENED} FROM media_history h WHERE h.media_id = a.media_id AND h.id > a.after
        ORDER BY h.id LIMIT {AT_ONCE}) e), '[]') AS history,
    coalesce((SELECT json_agg(e ORDER BY e.txid, e.id) FROM (
        SELECT l.id, l.txid, l.at, l.level, l.event, l.attempt, l.fields FROM logs l
        WHERE l.media_id = a.media_id AND (l.txid, l.id) > (a.log_txid, a.log_id) AND l.txid < {_ENDED}
        ORDER BY l.txid, l.id LIMIT {AT_ONCE}) e), '[]') AS logs
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[]) WITH ORDINALITY
    AS a (media_id, after, log_txid, log_id, n)
JOIN media m ON m.id = a.media_id"""

_OWNER: Final = f"""
SELECT a.n, coalesce((SELECT json_agg(e ORDER BY e.txid, e.id) FROM (
        SELECT {_HAPPENED}, m.model, m.tags FROM media_history h JOIN media m ON m.id = h.media_id
        WHERE h.owner_id = a.owner_id AND (h.txid, h.id) > (a.txid, a.id) AND h.txid < {_ENDED}
        ORDER BY h.txid, h.id LIMIT {AT_ONCE}) e), '[]') AS history,
    EXISTS (SELECT FROM media_history h WHERE h.owner_id = a.owner_id AND h.txid >= {_ENDED}) AS hidden
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS a (owner_id, txid, id, n)"""

_PROGRESS: Final = f"""
SELECT a.n, m.id AS media_id, m.status, m.progress, m.model, m.tags
FROM unnest($1::int[], $2::uuid[], $3::uuid[]) AS a (n, owner_id, media_id)
JOIN media m ON m.id = a.media_id AND m.owner_id = a.owner_id
WHERE m.status = '{MediaStatus.PROCESSING}' AND m.progress IS NOT NULL"""

_history = msgspec.json.Decoder(list[HistoryEntry]).decode
_logs = msgspec.json.Decoder(list[LogEntry]).decode


async def look_at_media(db: DatabasePool, looks: Sequence[MediaLook]) -> list[MediaSeen | None]:
    """What each look shows; None: there is no such media any more. Those that are alike share one."""
    unlike = {look: number for number, look in enumerate(dict.fromkeys(looks), 1)}
    rows = await db.fetch_as(
        _MediaNews,
        _MEDIA,
        [look.media_id for look in unlike],
        [look.after for look in unlike],
        [look.log_txid for look in unlike],
        [look.log_id for look in unlike],
    )
    seen = {row.n: MediaSeen(row.status, row.progress, _history(row.history), _logs(row.logs)) for row in rows}
    return [seen.get(unlike[look]) for look in looks]


async def look_at_owners(db: DatabasePool, looks: Sequence[OwnerLook]) -> list[OwnerSeen]:
    """What each look shows; those that are alike share one, so many streams of one owner cost little more than one."""
    unlike = {look: number for number, look in enumerate(dict.fromkeys(looks), 1)}
    rows = await db.fetch_as(
        _OwnerNews,
        _OWNER,
        [look.owner_id for look in unlike],
        [look.txid for look in unlike],
        [look.id for look in unlike],
    )
    seen = {row.n: OwnerSeen(_history(row.history), row.hidden) for row in rows}
    return [seen[unlike[look]] for look in looks]


async def progress(db: DatabasePool, looks: Sequence[ProgressLook]) -> list[list[ProgressEntry]]:
    """For each look the media that are worked on and whose progress is known."""
    asked = [(number, look.owner_id, media_id) for number, look in enumerate(looks) for media_id in look.media_ids]
    steps = [list[ProgressEntry]() for _ in looks]
    columns = ([column[part] for column in asked] for part in range(3))
    for row in await db.fetch_as(_Progress, _PROGRESS, *columns) if asked else ():
        steps[row.n].append(ProgressEntry(row.media_id, row.status, row.progress, row.model, tuple(row.tags)))
    return steps


async def has_event(db: DatabasePool, media_id: UUID, history_id: int) -> bool:
    """Whether a row of the history is one of this media."""
    belongs = "SELECT id FROM media_history WHERE id = $1 AND media_id = $2"
    return await db.fetchrow_as(_HistoryId, belongs, history_id, media_id) is not None


async def newest_transaction(db: DatabasePool) -> int:
    """Below this one, every transaction has ended; a stream that begins now begins here."""
    (row,) = await db.fetch_as(_Ended, f"SELECT {_ENDED} AS ended")
    return row.ended

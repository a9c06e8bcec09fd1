"""What event streams read: one statement for all streams that read at the same time.

Every transition writes the history row of its change itself, most with `record_event` in `app/jobs/sql.py`.

Within one media the ids of the history are in commit order, because every event locks the media first. Across an
owner's media, and in the log, they are not: a row with a lower id may be committed later. There the order is
(txid, id), and a row is shown only when every earlier transaction has ended, so no row can appear behind a stream's
position.
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

BATCH_ROWS: Final = 200
"""Rows of one kind that one read returns at most."""
_OLDEST_RUNNING: Final = "pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
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


class MediaPosition(msgspec.Struct, frozen=True):
    """How far a media item's stream has come: the history row `history_id` and the log row (`log_txid`, `log_id`)."""

    media_id: UUID
    history_id: int
    log_txid: int
    log_id: int


class MediaUpdate(msgspec.Struct, frozen=True):
    """A media item now, and what follows a position; oldest first."""

    status: str
    progress: float | None
    history: list[HistoryEntry]
    logs: list[LogEntry]


class OwnerPosition(msgspec.Struct, frozen=True):
    """How far an owner's stream has come: the history row (`txid`, `history_id`)."""

    owner_id: UUID
    txid: int
    history_id: int


class OwnerUpdate(msgspec.Struct, frozen=True):
    """What follows a position; oldest first."""

    history: list[HistoryEntry]
    held_back: bool
    """More rows follow once a running transaction has ended."""


class ProgressQuery(msgspec.Struct, frozen=True):
    """Asks for the progress of these media of an owner."""

    owner_id: UUID
    media_ids: tuple[UUID, ...]


class ProgressEntry(msgspec.Struct, frozen=True):
    """The progress of one media."""

    media_id: UUID
    status: str
    progress: float
    model: str
    tags: tuple[str, ...]


class _MediaUpdateRow(Row, frozen=True):
    n: int
    status: str
    progress: float | None
    history: str
    logs: str


class _OwnerUpdateRow(Row, frozen=True):
    n: int
    history: str
    held_back: bool


class _ProgressRow(Row, frozen=True):
    n: int
    media_id: UUID
    status: str
    progress: float
    model: str
    tags: list[str]


class _HistoryId(Row, frozen=True):
    id: int


class _OldestRunning(Row, frozen=True):
    txid: int


_ENTRY: Final = "h.id, h.txid, h.event, h.status, h.at, h.detail, h.media_id"
_MEDIA: Final = f"""
SELECT p.n, m.status, m.progress,
    coalesce((SELECT json_agg(e ORDER BY e.id) FROM (
        SELECT {_ENTRY} FROM media_history h WHERE h.media_id = p.media_id AND h.id > p.history_id
        ORDER BY h.id LIMIT {BATCH_ROWS}) e), '[]') AS history,
    coalesce((SELECT json_agg(e ORDER BY e.txid, e.id) FROM (
        SELECT l.id, l.txid, l.at, l.level, l.event, l.attempt, l.fields FROM logs l
        WHERE l.media_id = p.media_id AND (l.txid, l.id) > (p.log_txid, p.log_id) AND l.txid < {_OLDEST_RUNNING}
        ORDER BY l.txid, l.id LIMIT {BATCH_ROWS}) e), '[]') AS logs
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[]) WITH ORDINALITY
    AS p (media_id, history_id, log_txid, log_id, n)
JOIN media m ON m.id = p.media_id"""

_OWNER: Final = f"""
SELECT p.n, coalesce((SELECT json_agg(e ORDER BY e.txid, e.id) FROM (
        SELECT {_ENTRY}, m.model, m.tags FROM media_history h JOIN media m ON m.id = h.media_id
        WHERE h.owner_id = p.owner_id AND (h.txid, h.id) > (p.txid, p.history_id) AND h.txid < {_OLDEST_RUNNING}
        ORDER BY h.txid, h.id LIMIT {BATCH_ROWS}) e), '[]') AS history,
    EXISTS (SELECT FROM media_history h WHERE h.owner_id = p.owner_id AND h.txid >= {_OLDEST_RUNNING}) AS held_back
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS p (owner_id, txid, history_id, n)"""

_PROGRESS: Final = f"""
SELECT q.n, m.id AS media_id, m.status, m.progress, m.model, m.tags
FROM unnest($1::int[], $2::uuid[], $3::uuid[]) AS q (n, owner_id, media_id)
JOIN media m ON m.id = q.media_id AND m.owner_id = q.owner_id
WHERE m.status = '{MediaStatus.PROCESSING}' AND m.progress IS NOT NULL"""

_history = msgspec.json.Decoder(list[HistoryEntry]).decode
_logs = msgspec.json.Decoder(list[LogEntry]).decode


async def read_media(db: DatabasePool, positions: Sequence[MediaPosition]) -> list[MediaUpdate | None]:
    """What follows each position; None: there is no such media any more. Equal positions share one result."""
    distinct = {position: number for number, position in enumerate(dict.fromkeys(positions), 1)}
    rows = await db.fetch_as(
        _MediaUpdateRow,
        _MEDIA,
        [position.media_id for position in distinct],
        [position.history_id for position in distinct],
        [position.log_txid for position in distinct],
        [position.log_id for position in distinct],
    )
    updates = {row.n: MediaUpdate(row.status, row.progress, _history(row.history), _logs(row.logs)) for row in rows}
    return [updates.get(distinct[position]) for position in positions]


async def read_owners(db: DatabasePool, positions: Sequence[OwnerPosition]) -> list[OwnerUpdate]:
    """What follows each position; equal ones share one result, so many streams of an owner cost little."""
    distinct = {position: number for number, position in enumerate(dict.fromkeys(positions), 1)}
    rows = await db.fetch_as(
        _OwnerUpdateRow,
        _OWNER,
        [position.owner_id for position in distinct],
        [position.txid for position in distinct],
        [position.history_id for position in distinct],
    )
    updates = {row.n: OwnerUpdate(_history(row.history), row.held_back) for row in rows}
    return [updates[distinct[position]] for position in positions]


async def read_progress(db: DatabasePool, queries: Sequence[ProgressQuery]) -> list[list[ProgressEntry]]:
    """For each query the media that are in progress and report how far they are."""
    wanted = [
        (number, query.owner_id, media_id) for number, query in enumerate(queries) for media_id in query.media_ids
    ]
    entries = [list[ProgressEntry]() for _ in queries]
    columns = ([row[part] for row in wanted] for part in range(3))
    for row in await db.fetch_as(_ProgressRow, _PROGRESS, *columns) if wanted else ():
        entries[row.n].append(ProgressEntry(row.media_id, row.status, row.progress, row.model, tuple(row.tags)))
    return entries


async def has_event(db: DatabasePool, media_id: UUID, history_id: int) -> bool:
    """Whether a row of the history belongs to this media."""
    belongs = "SELECT id FROM media_history WHERE id = $1 AND media_id = $2"
    return await db.fetchrow_as(_HistoryId, belongs, history_id, media_id) is not None


async def oldest_running_transaction(db: DatabasePool) -> int:
    """Every transaction below this one has ended; a new stream starts here."""
    (row,) = await db.fetch_as(_OldestRunning, f"SELECT {_OLDEST_RUNNING} AS txid")
    return row.txid

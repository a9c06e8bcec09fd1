"""The recorder: writes log events of jobs to the database, batched and bounded.

It never slows down the work or makes it fail: events are queued in memory, at most MOST of them, and written by one
background task. When the database is unreachable the oldest are dropped and counted; they are still in the process's
own log.
"""

import asyncio
import contextlib
from collections import deque
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from app.core.database.pool import NO_OWNER, UNAVAILABLE, Change, DatabasePool
from app.core.database.text import storable
from app.core.task_cancellation import cancel_and_wait
from app.core.telemetry.logging import Sinks
from app.core.telemetry.metrics import LOGS_DROPPED

MOST: Final = 10_000
"""Events in the queue."""
BATCH: Final = 500
PAUSE_SECONDS: Final = 0.25

_INSERT: Final = """INSERT INTO logs (at, level, event, media_id, attempt, fields)
SELECT * FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::uuid[], $5::int[], $6::jsonb[])"""


class _LogRow(NamedTuple):
    """The arguments of _INSERT for one event."""

    at: datetime
    level: str
    event: str
    media_id: UUID
    attempt: int | None
    fields: str
    """A JSON object."""


class Recorder:
    """Accepts events from any thread; `start` and `stop` are called in the event loop that writes them."""

    def __init__(self, db: DatabasePool) -> None:
        self._db = db
        self._waiting: deque[dict[str, Any]] = deque(maxlen=MOST)
        self._writer: asyncio.Task[None] | None = None
        self.dropped = 0
        """Events that did not fit in the queue, or that the database refused; also counted as `LOGS_DROPPED`."""

    def start(self) -> None:
        """Start to record whatever is logged with a `media_id`."""
        Sinks.media_events = self.record
        self._writer = asyncio.create_task(self._write_regularly())

    async def stop(self) -> None:
        """Write what is queued, for at most a second, and stop."""
        if Sinks.media_events == self.record:
            Sinks.media_events = None
        if self._writer is not None:
            await cancel_and_wait(self._writer)
        with contextlib.suppress(TimeoutError, *UNAVAILABLE):
            async with asyncio.timeout(1):
                while self._waiting:
                    await self._write()

    def record(self, event: dict[str, Any]) -> None:
        """Queue one event."""
        if len(self._waiting) == MOST:
            self._drop(1)
        self._waiting.append(event)

    async def _write_regularly(self) -> None:
        while True:
            await asyncio.sleep(PAUSE_SECONDS)
            while self._waiting:
                try:
                    await self._write()
                except Exception:  # noqa: BLE001 - the log must not stop the work
                    await asyncio.sleep(1)

    async def _write(self) -> None:
        events = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        rows = [row for event in events if (row := _row(event)) is not None]
        if not rows:
            return
        try:
            await self._db.execute(_INSERT, *(list(column) for column in zip(*rows, strict=True)))
        except UNAVAILABLE:
            self._waiting.extendleft(reversed(events[: MOST - len(self._waiting)]))
            raise
        except asyncpg.PostgresError:
            # A batch that cannot be stored must not stop the recording of what follows.
            self._drop(len(events))
        else:
            self._db.on_change({Change(row.media_id, NO_OWNER) for row in rows}, deliveries_due=False)

    def _drop(self, number: int) -> None:
        self.dropped += number
        LOGS_DROPPED.add(number=number)


def _row(event: dict[str, Any]) -> _LogRow | None:
    fields = {name: value for name, value in event.items() if name not in _COLUMNS}
    try:
        return _LogRow(
            datetime.fromisoformat(event["timestamp"]),
            event["level"],
            event["event"],
            UUID(str(event["media_id"])),
            event.get("attempt"),
            msgspec.json.encode(storable(fields), enc_hook=repr).decode(),
        )
    except (KeyError, ValueError):
        return None


_COLUMNS: Final = frozenset({"timestamp", "level", "event", "media_id", "attempt", "exc_info"})

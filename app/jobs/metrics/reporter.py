"""The pulse of a process: each second it looks at itself, and every few seconds it adds its counts to the tallies.

What cannot be written, while the database is away, is owed and added later.
"""

import asyncio
import contextlib
import time
from collections import Counter
from typing import Final, Literal, TypeAlias

import asyncpg
import structlog

from app.core.change_channel import ChangeChannel
from app.core.database.pool import UNAVAILABLE, DatabasePool
from app.core.task_cancellation import cancel_and_wait
from app.core.telemetry import metrics
from app.jobs.metrics import counters

log = structlog.get_logger(__name__)

Process: TypeAlias = Literal["api", "worker", "tool"]
BEAT_SECONDS: Final = 1.0
STOP_SECONDS: Final = 1.0
BEATS_PER_ENTRY: Final = 5
"""Counts are entered after so many beats, so they are five seconds old at most."""


class MetricsReporter:
    """Belongs to one event loop."""

    def __init__(self, process: Process, db: DatabasePool, news: ChangeChannel) -> None:
        self._process = process
        self._db = db
        self._news = news
        self._owed = Counter[str]()
        self._seen = {"waits": 0, "news": 0}
        self._stopping = asyncio.Event()
        self._beating: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to beat."""
        self._beating = asyncio.create_task(self._beat_on())

    async def stop(self) -> None:
        """Enter what is owed, for a second at most, and end."""
        if self._beating is not None:
            # What is being entered at this moment comes to its end: cut off, it might count twice.
            self._stopping.set()
            await asyncio.wait([self._beating], timeout=STOP_SECONDS)
            await cancel_and_wait(self._beating)
        with contextlib.suppress(*UNAVAILABLE):
            async with asyncio.timeout(1):
                await self.enter()

    async def enter(self) -> None:
        """Add to the tallies what is owed."""
        self._owed.update(dict(metrics.take_all()))
        entered = dict(self._owed)
        # An answer that is lost counts twice or not at all; here it is not worth more.
        try:
            await counters.add_all(self._db, entered)
        except asyncpg.PostgresError as error:
            log.warning("tallies_delayed", error=type(error).__name__)
            return
        self._owed.subtract(entered)
        self._owed = +self._owed

    async def _beat_on(self) -> None:
        beats = 0
        while True:
            due = time.perf_counter() + BEAT_SECONDS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BEAT_SECONDS):
                    await self._stopping.wait()
                    return
            self._look(time.perf_counter() - due)
            beats += 1
            if beats % BEATS_PER_ENTRY == 0:
                try:
                    await self.enter()
                except UNAVAILABLE as error:
                    log.warning("tallies_delayed", error=type(error).__name__)
                except Exception:
                    # Whatever it was, the numbers go on.
                    log.exception("pulse_stumbled")

    def _look(self, lag: float) -> None:
        metrics.LOOP_LAG.observe(lag, self._process)
        metrics.POOL_USE.observe(self._db.in_use / self._db.size, self._process)
        if waits := self._since("waits", self._db.waits):
            metrics.POOL_WAITS.add(self._process, number=waits)
        if failures := self._since("news", self._news.failures):
            metrics.CHANGE_PUBLISH_FAILURES.add(number=failures)
        if self._process == "api" and not self._news.connected:
            metrics.CHANGE_CHANNEL_DOWN.add(number=BEAT_SECONDS)

    def _since(self, name: str, now: int) -> int:
        before, self._seen[name] = self._seen[name], now
        return now - before

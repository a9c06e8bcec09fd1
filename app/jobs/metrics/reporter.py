"""Metrics of a process: it observes its load, adds its counts to the database, and compares its clock with it.

Load is observed each second, the rest happens every few seconds. Counts that cannot be written while the database is
down are kept, and added later.
"""

import asyncio
import contextlib
import time
from collections import Counter
from typing import Final, Literal, TypeAlias

import asyncpg
import structlog

from app.core.change_channel import ChangeChannel
from app.core.database.clock_check import compare_clocks
from app.core.database.pool import UNAVAILABLE, DatabasePool
from app.core.task_cancellation import cancel_and_wait
from app.core.telemetry import metrics
from app.jobs.metrics import counters

log = structlog.get_logger(__name__)

Process: TypeAlias = Literal["api", "worker", "tool"]
INTERVAL_SECONDS: Final = 1.0
STOP_SECONDS: Final = 1.0
OBSERVATIONS_PER_FLUSH: Final = 5
"""So counts in the database are five seconds old at most."""


class MetricsReporter:
    """Belongs to one event loop."""

    def __init__(self, process: Process, db: DatabasePool, channel: ChangeChannel) -> None:
        self._process = process
        self._db = db
        self._channel = channel
        self._pending = Counter[str]()
        self._seen = {"waits": 0, "publish_failures": 0}
        self._stopping = asyncio.Event()
        self._reporting: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to report."""
        self._reporting = asyncio.create_task(self._report())

    async def stop(self) -> None:
        """Write the pending counts, for a second at most, and end."""
        if self._reporting is not None:
            # A flush in progress is left to finish: cut off, it might count twice.
            self._stopping.set()
            await asyncio.wait([self._reporting], timeout=STOP_SECONDS)
            await cancel_and_wait(self._reporting)
        with contextlib.suppress(*UNAVAILABLE):
            async with asyncio.timeout(1):
                await self.flush()

    async def flush(self) -> None:
        """Add the pending counts to the database."""
        self._pending.update(dict(metrics.take_all()))
        counts = dict(self._pending)
        # After a lost answer they count twice or not at all; metrics need no more than that.
        try:
            await counters.add_all(self._db, counts)
        except asyncpg.PostgresError as error:
            log.warning("counters_delayed", error=type(error).__name__)
            return
        self._pending.subtract(counts)
        self._pending = +self._pending

    async def _report(self) -> None:
        observations = 0
        await self._compare_clocks()
        while True:
            due = time.perf_counter() + INTERVAL_SECONDS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL_SECONDS):
                    await self._stopping.wait()
                    return
            self._observe(time.perf_counter() - due)
            observations += 1
            if observations % OBSERVATIONS_PER_FLUSH == 0:
                await self._compare_clocks()
                try:
                    await self.flush()
                except UNAVAILABLE as error:
                    log.warning("counters_delayed", error=type(error).__name__)
                except Exception:
                    # Whatever it was, the metrics continue.
                    log.exception("metrics_reporter_error")

    async def _compare_clocks(self) -> None:
        with contextlib.suppress(*UNAVAILABLE, asyncpg.PostgresError):
            metrics.CLOCK_OFFSET.observe(abs(await compare_clocks(self._db)), self._process)

    def _observe(self, lag: float) -> None:
        metrics.LOOP_LAG.observe(lag, self._process)
        metrics.POOL_USE.observe(self._db.in_use / self._db.size, self._process)
        if waits := self._since("waits", self._db.waits):
            metrics.POOL_WAITS.add(self._process, number=waits)
        if failures := self._since("publish_failures", self._channel.failures):
            metrics.CHANGE_PUBLISH_FAILURES.add(number=failures)
        if self._process == "api" and not self._channel.connected:
            metrics.CHANGE_CHANNEL_DOWN.add(number=INTERVAL_SECONDS)

    def _since(self, name: str, now: int) -> int:
        before, self._seen[name] = self._seen[name], now
        return now - before

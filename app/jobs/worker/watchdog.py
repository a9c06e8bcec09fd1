"""Notices that a worker reports, and so keeps its jobs, but gets nothing done.

Each loop of the runner says when it has come round; each comes round every few seconds, whatever it finds, because all
that it waits for has a time limit. Jobs say so by ending, and by calls of providers and store, each of which is limited
as well. That is measured only while nothing else explains a delay: the worker has reported without a gap, and no
statement has failed for want of a database. Jobs that wait for providers, or for a broker, raise no alarm.
"""

from datetime import timedelta
from typing import Final

from app.core import clock
from app.core.database.pool import DatabasePool
from app.core.telemetry.metrics import Timed

LONGEST_PAUSE: Final = 3600.0
"""Seconds for which a provider may ask not to be called."""


class Watchdog:
    """Of one runner."""

    def __init__(self, db: DatabasePool, *, limit: timedelta, lease: timedelta) -> None:
        """Begin to watch.

        Args:
            db: The database; its failures explain delays.
            limit: How long nothing may get done.
            lease: Of the worker; two reports further apart than half of it are a gap.
        """
        self._db = db
        self._limit = limit.total_seconds()
        self._gap = lease.total_seconds() / 2
        self._rounds = dict[str, float]()
        self._reported_at = self._steady_since = clock.seconds()
        self.job_moved_at = self._reported_at
        """When a job was taken, or has ended."""

    def came_round(self, loop: str) -> None:
        """A loop has done its work once, or has failed at it."""
        self._rounds[loop] = clock.seconds()

    def reported(self, *, jobs: int) -> list[str]:
        """The worker has reported, while it holds so many jobs; what is stuck."""
        now = clock.seconds()
        if now - self._reported_at > self._gap:
            self._steady_since = now
        self._reported_at = now
        since = max(self._steady_since, self._db.failed_at)
        stuck = [loop for loop, at in self._rounds.items() if now - max(at, since) >= self._limit]
        moved = max(since, self.job_moved_at, Timed.ended_at)
        if jobs and Timed.running <= 0 and now - moved >= LONGEST_PAUSE + self._limit:
            stuck.append("jobs")
        return stuck

"""What a job's owner sees while it is at its provider: progress and the provider's log, neither too often."""

import time
from typing import Final

import structlog

from app.core.database.pool import DatabasePool
from app.jobs.transitions.attempt import Progress, report_progress
from app.jobs.transitions.base import Lease
from app.media_generator.media_generator_model import Canceled, Failed, Running, Succeeded

log = structlog.get_logger(__name__)

PAUSE_SECONDS: Final = 0.5
"""The shortest time between two writes of one job."""
LONGEST_LOG: Final = 4_000
"""Characters of a provider's log that one entry keeps, the last ones."""


class ProgressReporter:
    """Of one job."""

    def __init__(self, db: DatabasePool, lease: Lease) -> None:
        self._db = db
        self._lease = lease
        self._progress: float | None = None
        self._log = ""
        self._next = 0.0

    async def report(self, running: Running) -> None:
        """Report what is new, if the last time is long enough ago."""
        if time.monotonic() < self._next:
            return
        moved = running.progress is not None and running.progress != self._progress
        if self._log_new_lines(running.log) or moved:
            self._next = time.monotonic() + PAUSE_SECONDS
        if running.progress is not None and moved:
            self._progress = running.progress
            await report_progress(self._db, Progress(self._lease, min(max(running.progress, 0.0), 1.0)))

    def report_end(self, outcome: Succeeded | Failed | Canceled) -> None:
        """Log the rest of the provider's log."""
        if isinstance(outcome, Succeeded):
            self._log_new_lines(outcome.log)

    def _log_new_lines(self, whole: str | None) -> bool:
        """Log what the provider has added since; True: there was something."""
        if not whole or whole == self._log:
            return False
        new = whole.removeprefix(self._log) if whole.startswith(self._log) else whole
        self._log = whole
        log.info("provider_log", text=new[-LONGEST_LOG:])
        return True

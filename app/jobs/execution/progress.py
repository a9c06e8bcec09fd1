"""What a job's owner sees while it is at its provider: progress, delays and the provider's log, none too often."""

import time
from typing import Final

import structlog

from app.core.database.pool import DatabasePool
from app.jobs.notices import DelayCode, delay
from app.jobs.transitions.attempt import Delay, Progress, report_delays, report_progress
from app.jobs.transitions.base import Lease
from app.media_generator.media_generator_model import Canceled, Failed, Running, Succeeded

log = structlog.get_logger(__name__)

PAUSE_SECONDS: Final = 0.5
"""The shortest time between two writes of one job."""
UNREACHABLE_SECONDS: Final = 10.0
"""How long a provider does not answer before its owner reads so."""
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
        self._unreachable_since: float | None = None
        self._told_unreachable = False

    async def report(self, running: Running) -> None:
        """Report what is new, if the last time is long enough ago."""
        if running.not_reached is not None or self._unreachable_since is not None:
            await self._report_reachable(running.not_reached)
        if time.monotonic() < self._next:
            return
        moved = running.progress is not None and running.progress != self._progress
        if self._log_new_lines(running.log) or moved:
            self._next = time.monotonic() + PAUSE_SECONDS
        if running.progress is not None and moved:
            self._progress = running.progress
            await report_progress(self._db, Progress(self._lease, min(max(running.progress, 0.0), 1.0)))

    async def _report_reachable(self, error: str | None) -> None:
        if error is None:
            self._unreachable_since = None
            if self._told_unreachable:
                self._told_unreachable = False
                await report_delays(self._db, Delay(self._lease, None))
            return
        now = time.monotonic()
        self._unreachable_since = now if self._unreachable_since is None else self._unreachable_since
        if not self._told_unreachable and now - self._unreachable_since >= UNREACHABLE_SECONDS:
            self._told_unreachable = True
            message = f"its provider does not answer, and is asked again and again: {error}"
            await report_delays(self._db, Delay(self._lease, delay(DelayCode.PROVIDER_UNREACHABLE, message)))

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

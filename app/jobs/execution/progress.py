"""What a job's owner sees while it is at its provider: progress and the provider's log, neither too often."""

import time
from typing import Final

import structlog

from app.jobs.transitions.commands import Lease, Progress
from app.jobs.transitions.group_commit import Writes
from app.media_generator.media_generator_model import Canceled, Failed, Running, Succeeded

log = structlog.get_logger(__name__)

PAUSE_SECONDS: Final = 0.5
"""The shortest time between two writes of one job."""
LONGEST_LOG: Final = 4_000
"""Characters of a provider's log that one entry keeps, the last ones."""


class ProgressReporter:
    """Of one job."""

    def __init__(self, writes: Writes, held: Lease) -> None:
        self._writes = writes
        self._held = held
        self._progress: float | None = None
        self._log = ""
        self._next = 0.0

    async def show(self, running: Running) -> None:
        """Show what is new, if the last time is long enough ago."""
        if time.monotonic() < self._next:
            return
        moved = running.progress is not None and running.progress != self._progress
        if self._say(running.log) or moved:
            self._next = time.monotonic() + PAUSE_SECONDS
        if running.progress is not None and moved:
            self._progress = running.progress
            await self._writes.progress(Progress(self._held, min(max(running.progress, 0.0), 1.0)))

    def last_words(self, outcome: Succeeded | Failed | Canceled) -> None:
        """Show the rest of the log."""
        if isinstance(outcome, Succeeded):
            self._say(outcome.log)

    def _say(self, whole: str | None) -> bool:
        """Log what the provider has said since; True: there was something."""
        if not whole or whole == self._log:
            return False
        new = whole.removeprefix(self._log) if whole.startswith(self._log) else whole
        self._log = whole
        log.info("provider_log", text=new[-LONGEST_LOG:])
        return True

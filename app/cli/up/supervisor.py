"""Restarts the processes of `fleek up` when they die."""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from app.cli.console import one_line, quoted, say
from app.cli.up.processes import Supervised
from app.embedded.errors import EmbeddedError

POLL_SECONDS: Final = 0.1
PERIOD_SECONDS: Final = 60.0
TOO_MANY_DEATHS: Final = 5
"""Deaths within the period after which restarts become rare."""
PAUSES: Final = (0.0, 0.5, 1.0, 2.0)
"""Seconds before a restart, by the number of deaths within the period."""
LONG_PAUSE: Final = 30.0


@dataclass
class WatchedProcess:
    """A process and its recent deaths."""

    process: Supervised
    deaths: deque[float] = field(default_factory=deque[float])
    """Times of the deaths within the last period."""
    due: float | None = None
    """When it is restarted; None: it was running at the last check."""
    exit_reason: str = ""

    def record_death(self, now: float) -> float:
        """Record a death; the seconds until the restart."""
        self.deaths.append(now)
        while self.deaths[0] < now - PERIOD_SECONDS:
            self.deaths.popleft()
        too_many = len(self.deaths) >= TOO_MANY_DEATHS
        pause = LONG_PAUSE if too_many else PAUSES[len(self.deaths) - 1]
        self.due = now + pause
        return pause


class Supervisor:
    """Supervises processes until it is interrupted."""

    def __init__(self, processes: Sequence[Supervised]) -> None:
        self._watched = [WatchedProcess(process) for process in processes]

    def watch(self) -> None:
        """Run until a `StopRequest` is raised."""
        while True:
            for watched in self._watched:
                self._check(watched)
            time.sleep(POLL_SECONDS)

    def _check(self, watched: WatchedProcess) -> None:
        process = watched.process
        if watched.due is None:
            if process.alive:
                return
            watched.exit_reason = process.exit_reason
            if watched.record_death(time.monotonic()) == LONG_PAUSE:
                say_with_time(
                    f"{process.name} died ({watched.exit_reason}), {len(watched.deaths)} times within a minute; "
                    f"next restart in {LONG_PAUSE:.0f} s, log: {quoted(process.log)}"
                )
        if watched.due is not None and time.monotonic() >= watched.due:
            self._restart(watched)

    def _restart(self, watched: WatchedProcess) -> None:
        name = watched.process.name
        try:
            watched.process.restart()
        except (EmbeddedError, OSError) as error:
            pause = watched.record_death(time.monotonic())
            died = f"{name} died ({watched.exit_reason})"
            say_with_time(f"{died} and cannot be restarted: {one_line(error)}; next attempt in {pause:.0f} s")
            return
        watched.due = None
        say_with_time(f"{name} died ({watched.exit_reason}) and was restarted")


def say_with_time(text: str) -> None:
    """Print a line with the time of day."""
    say(f"{time.strftime('%H:%M:%S')}  {text}")

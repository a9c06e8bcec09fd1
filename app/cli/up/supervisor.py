"""Watches the members of `fleek up` and starts those again that die."""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from app.cli.console import one_line, quoted, say
from app.cli.up.processes import Member
from app.embedded.errors import EmbeddedError

GLANCE_SECONDS: Final = 0.1
PERIOD_SECONDS: Final = 60.0
OFTEN: Final = 5
"""Deaths within the period after which we stop believing that the next start helps."""
PAUSES: Final = (0.0, 0.5, 1.0, 2.0)
"""Seconds before a start, by the deaths within the period."""
LONG_PAUSE: Final = 30.0


@dataclass
class Watched:
    """A member and its misfortunes."""

    member: Member
    deaths: deque[float] = field(default_factory=deque[float])
    """When it died within the last period."""
    due: float | None = None
    """When it is started again; None: it ran when we last looked."""
    fate: str = ""

    def died(self, now: float) -> float:
        """Note a death; the seconds until it is due again."""
        self.deaths.append(now)
        while self.deaths[0] < now - PERIOD_SECONDS:
            self.deaths.popleft()
        often = len(self.deaths) >= OFTEN
        pause = LONG_PAUSE if often else PAUSES[len(self.deaths) - 1]
        self.due = now + pause
        return pause


class Supervisor:
    """Looks after members until it is interrupted."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._watched = [Watched(member) for member in members]

    def watch(self) -> None:
        """Forever; `StopRequest` ends it."""
        while True:
            for watched in self._watched:
                self._look_after(watched)
            time.sleep(GLANCE_SECONDS)

    def _look_after(self, watched: Watched) -> None:
        member = watched.member
        if watched.due is None:
            if member.alive:
                return
            watched.fate = member.fate
            if watched.died(time.monotonic()) == LONG_PAUSE:
                tell(
                    f"{member.name} died ({watched.fate}), {len(watched.deaths)} times within a minute; "
                    f"next try in {LONG_PAUSE:.0f} s, its log: {quoted(member.log)}"
                )
        if watched.due is not None and time.monotonic() >= watched.due:
            self._restart(watched)

    def _restart(self, watched: Watched) -> None:
        name = watched.member.name
        try:
            watched.member.restart()
        except (EmbeddedError, OSError) as error:
            pause = watched.died(time.monotonic())
            tell(f"{name} died ({watched.fate}) and does not start: {one_line(error)}; next try in {pause:.0f} s")
            return
        watched.due = None
        tell(f"{name} died ({watched.fate}), started again")


def tell(text: str) -> None:
    """Say it with the time of day."""
    say(f"{time.strftime('%H:%M:%S')}  {text}")

"""What was bought, by whom and for what: the truth that the audit holds everything against.

Every purchase has bytes that no other has, and the id of the attempt that it was made for: as our own protocol says
it, or as it stands in the callback address of a create. An attempt submitted twice is bought twice: nothing here is
idempotent.
"""

import hashlib
import itertools
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from tests.crash.simulator.odd import FILES
from tests.crash.troubles import Draw, Fate

RUNNING: Final = "running"
DONE: Final = "done"
FAILED: Final = "failed"
CANCELED: Final = "canceled"
_ATTEMPT: Final = re.compile(r"/media/callbacks/[^/]+/([0-9a-f-]{36})")


def attempt_in(callback_url: str) -> str | None:
    """The attempt that a callback address names."""
    found = _ATTEMPT.search(callback_url)
    return None if found is None else found[1]


@dataclass
class Purchase:
    """What somebody pays for."""

    id: str
    provider: str
    attempt_id: str | None
    """None: somebody else's."""
    media: str
    """The prompt."""
    fate: Fate
    given: dict[str, Any]
    callback_url: str = ""
    source: str = "api"
    stoppable: bool = True
    bought_at: float = field(default_factory=time.time)
    canceled: bool = False
    fetches: int = 0
    told: list[int] = field(default_factory=list)
    """The statuses that answered its callbacks at its own address; 0: the connection broke."""
    told_at: float | None = None
    """When the first of them was accepted."""

    @property
    def state(self) -> str:
        if self.canceled:
            return CANCELED
        if time.time() < self.bought_at + self.fate.delay:
            return RUNNING
        return FAILED if self.fate.mode == "fail_late" else DONE

    @property
    def picture(self) -> bytes:
        """A file that no other purchase has: its name stands in it."""
        return FILES[self.fate.file](self.id.encode(), self.fate.size)

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.picture).hexdigest()

    def told_to_auditors(self) -> dict[str, Any]:
        """All of it, as JSON."""
        return {
            "id": self.id,
            "provider": self.provider,
            "attempt_id": self.attempt_id,
            "media": self.media,
            "mode": self.fate.mode,
            "output": self.fate.output,
            "file": self.fate.file,
            "odd": [self.fate.odd, self.fate.odd_urls],
            "callback": self.fate.callback,
            "tells_webhook": bool(self.callback_url) and self.fate.tells_webhook,
            "input": self.given,
            "source": self.source,
            "bought_at": self.bought_at,
            "state": self.state,
            "told": self.told,
            "told_at": self.told_at,
            "sha256": self.sha256,
        }


class Books:
    """Everything that was bought, how often the provider was asked, and what trouble it made."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.clock_offset = draw.clock_offset()
        self.purchases: dict[str, Purchase] = {}
        self.calls: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        """How often, by what was refused."""
        self._numbers = itertools.count(1)

    def buy(self, provider: str, **what: Any) -> Purchase:
        number = next(self._numbers)
        # As long as Replicate's own, and never mistaken for one another.
        bought = Purchase(f"{provider[0]}{number:025d}", provider, **what)
        self.purchases[bought.id] = bought
        return bought

    def of(self, provider: str) -> list[Purchase]:
        return [one for one in self.purchases.values() if one.provider == provider]

    def stats(self) -> dict[str, Any]:
        """Everything, as JSON."""
        return {
            "calls": self.calls,
            "refused": self.refused,
            "troubles": self.draw.drawn,
            "clock_offset": self.clock_offset,
            "purchases": [one.told_to_auditors() for one in self.purchases.values()],
        }

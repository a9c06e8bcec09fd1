"""Circuits: how much a receiver gets from this process at the same time, after what it has answered lately.

One that fails again and again is left alone for a while, then gets one delivery; that one going well closes the
circuit. So a dead receiver with a long backlog costs one request now and then, and places for nobody else.
"""

import math
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from app.core import clock

FAILURES: Final = 3
"""In a row, after which a circuit opens: a receiver that takes only some events is not a dead one."""
SHORTEST_REST: Final = 1.0
LONGEST_REST: Final = 60.0
"""Seconds; a rest is twice as long as the one before."""
REMEMBERED: Final = 20_000
FORGOTTEN: Final = 3 * 86_400.0
"""Seconds after which a receiver that nothing was sent to is forgotten."""


@dataclass(slots=True)
class _Circuit:
    since: float
    """When it began to fail, by `clock`."""
    failures: int = 0
    rest_until: float = 0.0


class CircuitBreakers:
    """Those of one process."""

    def __init__(self, most: int) -> None:
        """`most` is what a receiver gets at the same time while all is well."""
        self._most = most
        self._failing = dict[str, _Circuit]()
        self._well = dict[str, None]()
        """Receivers that have taken something, the last ones."""
        self._busy = Counter[str]()

    def begin(self, receiver: str) -> None:
        """A delivery is being sent."""
        self._busy[receiver] += 1

    def end(self, receiver: str) -> bool:
        """It is not any more. True: the receiver had no room for another one."""
        full = self._busy[receiver] >= self._limit(receiver)
        self._busy[receiver] -= 1
        if self._busy[receiver] <= 0:
            del self._busy[receiver]
        return full

    def failed(self, receiver: str, quiet: timedelta | None) -> None:
        """A try has failed; `quiet` is how long the receiver wants to be left alone."""
        now = clock.seconds()
        circuit = self._failing.setdefault(receiver, _Circuit(since=now))
        circuit.failures += 1
        rest = 0.0 if quiet is None else quiet.total_seconds()
        if circuit.failures >= FAILURES:
            rest = max(rest, min(SHORTEST_REST * 2 ** min(circuit.failures - FAILURES, 10), LONGEST_REST))
        circuit.rest_until = max(circuit.rest_until, now + rest)

    def succeeded(self, receiver: str) -> float:
        """A try went well; for how many seconds the receiver had failed: for ever, if nothing is known of it."""
        circuit = self._failing.pop(receiver, None)
        if receiver not in self._well:
            # An outage that this process has not seen, such as one before it was started.
            self._well[receiver] = None
            if len(self._well) > REMEMBERED:
                del self._well[next(iter(self._well))]
            return math.inf
        return 0.0 if circuit is None else clock.seconds() - circuit.since

    def has_room(self, receiver: str) -> bool:
        """Whether it may get one more now."""
        return self._busy[receiver] < self._limit(receiver)

    def room(self, *, scarce: bool) -> dict[str, int]:
        """What receivers may get now, of those that may not get everything; `scarce`: places are few."""
        known = {*self._busy, *self._failing}
        return {of: max(self._limit(of, scarce=scarce) - self._busy[of], 0) for of in known}

    def forget(self) -> None:
        """Drop what was long ago."""
        long_ago = clock.seconds() - FORGOTTEN
        self._failing = {of: circuit for of, circuit in self._failing.items() if circuit.rest_until > long_ago}

    def _limit(self, receiver: str, *, scarce: bool = False) -> int:
        circuit = self._failing.get(receiver)
        if circuit is not None and circuit.rest_until > clock.seconds():
            return 0
        return 1 if scarce or (circuit is not None and circuit.failures >= FAILURES) else self._most
